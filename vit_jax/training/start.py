"""The start order: the newest good checkpoint of this run, else `init_from`, else fresh."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from vit_jax.errors import RunFault
from vit_jax.parallel.processes import Processes
from vit_jax.training.checkpoint import Checkpoints, Damaged
from vit_jax.training.pretrained import pretrained
from vit_jax.training.setup import Setup
from vit_jax.training.state import TrainState

NOTHING_BESIDE = {'data_position': 0, 'window': {}, 'train_seconds': 0.0, 'total_seconds': 0.0}

Start = tuple[TrainState, dict[str, Any], str]


def start(setup: Setup, checkpoints: Checkpoints, processes: Processes) -> Start:
  """(state, what was saved beside it, lines that say which it was); the same on every process.

  Raises:
    RunFault: the run has checkpoints, and none of them is good.
  """
  steps = processes.share(checkpoints.steps)
  return resume(setup, checkpoints, steps, processes) if steps else begin(setup)


def resume(setup: Setup, checkpoints: Checkpoints, steps: list[int], processes: Processes) -> Start:
  """Damaged checkpoints are put aside, but only where a good one is left."""
  faults: dict[int, str] = {}
  for step in reversed(steps):
    try:
      state, beside = checkpoints.restore(step, setup.abstract_state, processes.gather)
    except Damaged as error:
      faults[step] = str(error)
      continue
    processes.share(lambda: [str(checkpoints.put_aside(bad)) for bad in faults])
    checkpoints.steps()  # on every process, without those
    lines = [
      f'{fault}; it was put aside in {checkpoints.directory.parent / "damaged"}'
      for fault in faults.values()
    ]
    where = f'start: checkpoint of step {step} in {checkpoints.directory}'
    return state, beside, '\n'.join([*lines, where])
  raise RunFault(
    f'no checkpoint in {checkpoints.directory} is good: {"; ".join(faults.values())}; '
    'put a copy of one there, or delete that folder to start again'
  )


def begin(setup: Setup) -> Start:
  x, state = setup.experiment, setup.fresh_state()
  if not x.init_from:
    return state, NOTHING_BESIDE, f'start: fresh, seed {x.seed}'
  loaded, line = pretrained(
    x.init_from, setup.model, state.variables, x.data.image_size, setup.data_dir
  )
  variables = jax.device_put(loaded, jax.tree.map(lambda leaf: leaf.sharding, state.variables))
  ema = None if state.ema is None else jax.tree.map(lambda leaf: leaf.copy(), variables)
  return dataclasses.replace(state, ema=ema, **variables), NOTHING_BESIDE, f'start: {line}'
