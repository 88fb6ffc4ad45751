"""Learning rate by step, from `config.Optim`."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from vit_jax.config import Optim

# What warm-up and cool-down have of a run that is too short for them.
SHORTENED = 0.2


class Ends(NamedTuple):
  """The ends of a schedule, in steps; `line` says that they were shortened, else it is ''."""

  warmup: int
  cooldown: int
  line: str = ''


def fit_ends(optim: Optim, steps: int, batch_size: float, num_examples: int) -> Ends:
  """Warm-up and cool-down as the recipe says; shortened where they do not fit into the run."""
  warmup = optim.warmup.to_steps(batch_size, num_examples)
  cooldown = optim.cooldown.to_steps(batch_size, num_examples)
  if warmup + cooldown <= steps:
    return Ends(warmup, cooldown)
  factor = SHORTENED * steps / (warmup + cooldown)
  short = Ends(math.floor(factor * warmup), math.floor(factor * cooldown))
  words = [
    f'config.optim.{name} from {before:,} steps to {after:,}'
    for name, before, after in (
      ('warmup', warmup, short.warmup),
      ('cooldown', cooldown, short.cooldown),
    )
    if before
  ]
  return short._replace(line=f'shortened, to fit into {steps:,} steps: {" and ".join(words)}')


def make_schedule(optim: Optim, steps: int, batch_size: float, num_examples: int) -> optax.Schedule:
  """Linear warm-up, then the named shape, then linear cool-down, counted in steps from 0.

  Step t of a warm-up of w steps has warmup_lr + (lr - warmup_lr) t / w, so the first update of a
  run that warms up from 0 changes nothing (big_vision's `utils.py` and vision_transformer's
  `utils.py`, `create_learning_rate_schedule`). The last update (step `steps` - 1) comes one step
  before the schedule reaches its end value. By shape:

  cosine and linear fall from lr at the end of warm-up to end_lr at the end of the run.
  timm_cosine is constant within an epoch; see `_by_epoch`.
  rsqrt is lr / sqrt(1 + t / timescale) with t counted from the end of warm-up (arXiv:2106.04560
  section 3.5).
  noam is lr min(s^-0.5, s warmup^-1.5) with s counted from 1 (arXiv:1706.03762 equation 3, where lr
  is width^-0.5); it warms up by itself.

  Warm-up and cool-down that do not fit are shortened; see `fit_ends`.
  """
  warmup, cooldown, line = fit_ends(optim, steps, batch_size, num_examples)
  epochwise = None
  if optim.schedule == 'timm_cosine':
    said = 0 if line else optim.warmup.epochs
    epochwise = _by_epoch(optim, steps, batch_size, num_examples, warmup, said)

  def schedule(count):
    step = jnp.asarray(count, jnp.float32)
    progress = jnp.clip((step - warmup) / max(steps - warmup, 1), 0.0, 1.0)
    if epochwise is not None:
      begins, rates = epochwise
      lr = jnp.asarray(rates)[jnp.searchsorted(jnp.asarray(begins), count, side='right') - 1]
    elif optim.schedule == 'cosine':
      lr = optim.end_lr + (optim.lr - optim.end_lr) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    elif optim.schedule == 'linear':
      lr = optim.lr + (optim.end_lr - optim.lr) * progress
    elif optim.schedule == 'rsqrt':
      lr = optim.lr / jnp.sqrt(1 + jnp.maximum(step - warmup, 0.0) / optim.timescale)
    elif optim.schedule == 'noam':
      lr = optim.lr * jnp.minimum((step + 1) ** -0.5, (step + 1) * max(warmup, 1) ** -1.5)
    else:
      lr = jnp.asarray(optim.lr, jnp.float32)
    if warmup and optim.schedule not in ('noam', 'timm_cosine'):
      rising = optim.warmup_lr + (optim.lr - optim.warmup_lr) * (step / warmup)
      lr = jnp.where(step < warmup, rising, lr)
    if cooldown:
      lr = lr * jnp.clip((steps - step) / cooldown, 0.0, 1.0)
    return lr

  return schedule


def _by_epoch(
  optim: Optim,
  steps: int,
  batch_size: float,
  num_examples: int,
  warmup_steps: int,
  warmup_epochs: float,
) -> tuple[np.ndarray, np.ndarray]:
  """(the first step of each epoch, its learning rate), of timm's `CosineLRScheduler`.

  Epoch e of E has end_lr + (lr - end_lr) (1 + cos(pi e / E)) / 2, and epoch e of w epochs of
  warm-up warmup_lr + (lr - warmup_lr) e / w: the cosine counts from epoch 0, and so jumps down at
  the end of warm-up. This is what timm's `train.py` sets before epoch e. (facebookresearch/deit's
  `main.py` steps its scheduler with e after epoch e, so that all of its epochs but the first are
  one behind.) An epoch begins at the first batch that begins in it.
  """

  def in_epochs(duration_steps: int, epochs: float) -> float:
    """Epochs as the recipe says; else those that round up to so many steps; else a fraction."""
    exact = duration_steps * batch_size / num_examples
    whole = math.floor(exact + 1e-9)
    return epochs or (whole if first(whole) == duration_steps else exact)

  def first(epoch: int) -> int:
    return math.ceil(epoch * num_examples / batch_size - 1e-9)

  length = in_epochs(steps, 0)
  warmup = in_epochs(warmup_steps, warmup_epochs) if warmup_steps else 0
  epochs = np.arange(max(math.ceil(length), 1))
  falling = optim.end_lr + (optim.lr - optim.end_lr) * 0.5 * (1 + np.cos(np.pi * epochs / length))
  rising = optim.warmup_lr + (optim.lr - optim.warmup_lr) * epochs / max(warmup, 1e-9)
  rates = np.where(epochs < warmup, rising, falling)
  return np.array([first(int(epoch)) for epoch in epochs], np.int32), rates.astype(np.float32)
