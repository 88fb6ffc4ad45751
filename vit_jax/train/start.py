"""The start of a run, before its first step: whose folder it is, with which data, from what state.

The start order: the newest good checkpoint of this run, else `init_from`, else fresh.
"""

import contextlib
import math
from pathlib import Path
from typing import NamedTuple

from vit_jax import config
from vit_jax.config import Experiment
from vit_jax.parallel import rules
from vit_jax.parallel.processes import Processes
from vit_jax.run import Checkpoints, Identity, Run, agree
from vit_jax.train.recorder import Window
from vit_jax.train.state import TrainState
from vit_jax.train.trainer import Opened, Trainer


class Start(NamedTuple):
  """Where the loop begins; the same on every process.

  Attributes:
    window: sums of the steps since the last logged row.
    best: how good the best evaluation so far was (`config.worth`).
    evaluated: the evals whose metrics of this very step are stored.
    train_seconds, total_seconds: spent by the starts before this one.
    lines: what to print.
  """

  step: int
  state: TrainState
  window: Window
  best: float
  evaluated: frozenset[str]
  train_seconds: float
  total_seconds: float
  lines: list[str]


def start(
  run: Run,
  x: Experiment,
  data_dir: Path,
  here: Processes,
  stack: contextlib.ExitStack,
  *,
  accept_data: bool,
  opened: Opened | None,
) -> tuple[Trainer, Checkpoints, Start]:
  """Takes the folder, compares the run in it and all processes with this one, restores the state.

  Args:
    stack: holds the lock and the checkpoints until the run ends.

  Raises:
    UserError: a fault in the input, another run or another training in the folder, or a process
      that differs from the others.
    RunFault: the run has checkpoints, and none of them is good.
  """
  stack.enter_context(run.lock(here))
  here.share(lambda: run.check_same(x) if run.has_checkpoints else None)
  trainer = Trainer(x, data_dir, opened=opened)
  goes_on = here.share(lambda: run.has_checkpoints)
  fresh = None if goes_on else trainer.begin()
  identity = trainer.identity(weights=fresh[2] if fresh else '')
  agree(here, x, identity)
  identity = Identity.from_json(
    here.share(lambda: run.claim(x, identity, accept_data=accept_data).to_json())
  )
  if identity.steps != trainer.steps:  # other data, that was accepted
    opened = opened or Opened(trainer.loader.source, trainer.evals)
    trainer = Trainer(x, data_dir, opened=opened, steps=identity.steps)
  _ = trainer.frozen  # a fault in the teacher is found before the first step
  checkpoints = stack.enter_context(run.checkpoints(x.checkpoint, here))
  restored = checkpoints.restore_newest(trainer.abstract_state.as_tree())
  if restored is None:
    state, line, _ = fresh or trainer.begin()
    beside = {'data_position': 0, 'window': {}, 'train_seconds': 0.0, 'total_seconds': 0.0}
    lines = [f'start: {line}']
  else:
    tree, beside, said = restored
    state, lines = trainer.abstract_state.replace(**tree), [said]
  if trainer.mesh.size > 1:
    here.share(lambda: run.write_sharding(rules.table(trainer.abstract_state, trainer.mesh)))
    held = rules.summary(trainer.abstract_state, trainer.mesh)
    lines.append(f'sharding: {held}; see sharding.txt')
  step = beside['data_position'] // x.batch_size
  best, evaluated = here.share(lambda: _evaluated(run, x, step))
  return (
    trainer,
    checkpoints,
    Start(
      step,
      state,
      Window(beside['window'], 0, beside['train_seconds']),
      best,
      frozenset(evaluated),
      beside['train_seconds'],
      beside['total_seconds'],
      lines,
    ),
  )


def _evaluated(run: Run, x: Experiment, step: int) -> tuple[float, list[str]]:
  """(how good the best stored evaluation up to this step is, the evals stored at it)."""
  rows = [row for row in run.metrics if row['step'] <= step]
  key = x.checkpoint.best
  best = max((config.worth(key, row[key]) for row in rows if key in row), default=-math.inf)
  now = {name.partition('/')[0] for row in rows if row['step'] == step for name in row}
  return best, sorted(now & set(x.evals))
