"""What follows a row of skipped updates: roll back to a good checkpoint, pass over the data since.

The clock is never turned back. A run that rolls back at step s takes the weights, the optimizer,
the averages and the statistics of the last good checkpoint and goes on with batch(s): batches stay
a function of (seed, step), each of them is drawn once, and those since that checkpoint leave no
trace. The learning rate follows the clock, and the run is not longer for it.

A checkpoint is good if no update had been skipped just before it. With config.checkpoint.every only
those that it asks for count, not saves by the clock or at a signal: so a run that is repeated, or
was killed and resumed, rolls back to the same one and ends with the same bits.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from vit_jax.config import Spikes
from vit_jax.errors import RunFault
from vit_jax.run import CheckpointWriter
from vit_jax.train.state import TrainState
from vit_jax.train.trainer import Trainer


class Rollbacks(NamedTuple):
  """Those of a run so far; a checkpoint stores it. `at` and `source` are steps of the last one."""

  count: int = 0
  at: int = -1
  source: int = -1


def roll_back(
  trainer: Trainer, checkpoints: CheckpointWriter, state: TrainState, s: int, past: Rollbacks
) -> tuple[TrainState, Rollbacks]:
  """(the state to go on with at step s, the rollbacks up to now); frees `state`.

  If nothing was accepted since the last rollback, its checkpoint is bad too, and an earlier one is
  taken; before the first, what the run began with.

  Raises:
    RunFault: there were config.spikes.rollbacks before.
  """
  spikes = trainer.experiment.spikes
  if past.count >= spikes.rollbacks:
    raise RunFault(_sentence(spikes, s, past))
  # The row is fetched one step late, so it began patience + 1 steps ago.
  in_vain = past.count > 0 and s - spikes.patience - 1 <= past.at
  before = past.source if in_vain else s
  for leaf in jax.tree.leaves(state):
    leaf.delete()  # there may be no room for a second state
  found = checkpoints.restore_good(before, trainer.abstract_state.as_tree())
  if found is None:
    source, state = 0, trainer.begin()[0]
  else:
    source, state = found[0], trainer.abstract_state.replace(**found[1])

  def number(value: int, like: Any) -> Any:
    return jax.device_put(np.int32(value), like.sharding)

  counters = {**state.spikes, 'in_a_row': number(0, state.spikes['in_a_row'])}
  state = dataclasses.replace(state, step=number(s, state.step), spikes=counters)
  return state, Rollbacks(past.count + 1, s, source)


def check_end(spikes: Spikes, in_a_row: int, steps: int, past: Rollbacks) -> None:
  """Raises a RunFault if a run ends in a row of skipped updates: patience, or a tenth of it."""
  if in_a_row >= min(spikes.patience, max(2, steps // 10)):
    raise RunFault(
      f'the last {in_a_row} updates of the run were skipped, because loss or gradient were not '
      f'finite or a spike ({_advice(past)})'
    )


def _sentence(spikes: Spikes, s: int, past: Rollbacks) -> str:
  return (
    f'{spikes.patience} updates in a row were skipped before step {s}, because loss or gradient '
    f'were not finite or a spike ({_advice(past)})'
  )


def _advice(past: Rollbacks) -> str:
  times = {0: '', 1: 'after 1 rollback; '}.get(past.count, f'after {past.count} rollbacks; ')
  return f'{times}lower config.optim.lr, or lengthen config.optim.warmup'
