"""Spikes: which updates a step skips. What follows in the loop is in `rollback.py`.

An update is skipped if its loss or its gradient is not finite, or, if config.spikes asks for it, if
one of them is a multiple of what it was. The decision is taken on the device, from numbers that the
step has anyway.
"""

import jax
import jax.numpy as jnp

from vit_jax.config import Spikes

Array = jax.Array
# A mean loss beyond this, in nats, is of weights that have run away: as good as infinite.
LARGEST = 1e9


def begin(spikes: Spikes) -> dict[str, Array]:
  """The counters of a new run.

  `in_a_row` int32, updates skipped up to now without one that was not; and, if a factor is set,
  `accepted` int32, updates that were not skipped, and the running means `loss` and `grad_norm` of
  those.
  """
  counters = {'in_a_row': jnp.zeros((), jnp.int32)}
  if spikes.loss_factor or spikes.norm_factor:
    counters['accepted'] = jnp.zeros((), jnp.int32)
    counters |= {name: jnp.zeros((), jnp.float32) for name in ('loss', 'grad_norm')}
  return counters


def judge(
  spikes: Spikes, counters: dict[str, Array], loss: Array, grad_norm: Array
) -> tuple[Array, dict[str, Array]]:
  """(whether the update is good, the counters after it).

  The mean of the first `window` accepted values is plain; later it forgets as one of that many
  does. A value above the factor times the mean is a spike, once `window` were accepted.
  """
  good = (jnp.abs(loss) < LARGEST) & jnp.isfinite(grad_norm)  # False for NaN
  after = {}
  if 'accepted' in counters:
    known = counters['accepted'] >= spikes.window
    for name, value, factor in (
      ('loss', loss, spikes.loss_factor),
      ('grad_norm', grad_norm, spikes.norm_factor),
    ):
      if factor:
        good &= ~(known & (value > factor * counters[name]))
    after['accepted'] = counters['accepted'] + good
    weight = 1.0 / jnp.clip(after['accepted'], 1, spikes.window)
    for name, value in (('loss', loss), ('grad_norm', grad_norm)):
      mean = counters[name]
      after[name] = jnp.where(good, mean + weight * (value - mean), mean)
  after['in_a_row'] = jnp.where(good, 0, counters['in_a_row'] + 1)
  return good, after
