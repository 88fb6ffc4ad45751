"""Schedules and optimizers of optax, from `config.Optim`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from vit_jax.config import Optim
from vit_jax.errors import UserError


def make_schedule(optim: Optim, steps: int, batch_size: float, num_examples: int) -> optax.Schedule:
  """Learning rate by step: linear warm-up, then the named shape, then linear cool-down.

  The last update (step `steps` - 1) comes one step before the schedule reaches its end value.
  rsqrt is lr / sqrt(1 + t / timescale) with t counted from the end of warm-up (arXiv:2106.04560
  section 3.5). noam is lr min(s^-0.5, s warmup^-1.5) with s counted from 1 (arXiv:1706.03762
  equation 3, where lr is width^-0.5).

  Raises:
    UserError: warm-up and cool-down are longer than the run.
  """
  warmup = optim.warmup.to_steps(batch_size, num_examples)
  cooldown = optim.cooldown.to_steps(batch_size, num_examples)
  if warmup + cooldown > steps:
    raise UserError(
      f'config.optim.warmup ({warmup} steps) and cooldown ({cooldown} steps) do not '
      f'fit into a run of {steps} steps'
    )

  def schedule(count):
    step = jnp.asarray(count, jnp.float32)
    progress = jnp.clip((step - warmup) / max(steps - warmup, 1), 0.0, 1.0)
    if optim.schedule == 'cosine':
      lr = optim.end_lr + (optim.lr - optim.end_lr) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    elif optim.schedule == 'linear':
      lr = optim.lr + (optim.end_lr - optim.lr) * progress
    elif optim.schedule == 'rsqrt':
      lr = optim.lr / jnp.sqrt(1 + jnp.maximum(step - warmup, 0.0) / optim.timescale)
    elif optim.schedule == 'noam':
      lr = optim.lr * jnp.minimum((step + 1) ** -0.5, (step + 1) * warmup**-1.5)
    else:
      lr = jnp.asarray(optim.lr, jnp.float32)
    if warmup and optim.schedule != 'noam':
      lr = jnp.where(step < warmup, optim.lr * (step + 1) / (warmup + 1), lr)
    if cooldown:
      lr = lr * jnp.clip((steps - step) / cooldown, 0.0, 1.0)
    return lr

  return schedule


def is_matrix(params: Any) -> Any:
  """True at the leaves that weight decay applies to: kernels, not biases, norms or tokens."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key.endswith('kernel'), params)


def make_optimizer(optim: Optim, schedule: optax.Schedule) -> optax.GradientTransformation:
  """Clip by global norm, then AdamW or SGD with momentum; decay on matrices only, times lr."""
  parts = []
  if optim.clip_norm:
    parts.append(optax.clip_by_global_norm(optim.clip_norm))
  if optim.name == 'adamw':
    parts.append(optax.scale_by_adam(b1=optim.b1, b2=optim.b2, eps=optim.eps))
  else:
    parts.append(optax.trace(decay=optim.momentum))
  if optim.weight_decay:
    parts.append(optax.add_decayed_weights(optim.weight_decay, mask=is_matrix))
  parts.append(optax.scale_by_learning_rate(schedule))
  return optax.chain(*parts)
