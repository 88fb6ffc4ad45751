"""The start of a run: take its folder, compare its identity, restore or make its state.

The start order: the newest good checkpoint of this run, else `init_from`, else fresh.
"""

import contextlib
import math
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from vit_jax import config
from vit_jax.config import Experiment
from vit_jax.parallel import rules
from vit_jax.parallel.processes import Processes
from vit_jax.run import CheckpointWriter, Lock, Run, Uploads, agree
from vit_jax.train.domain import Opened
from vit_jax.train.rollback import Rollbacks
from vit_jax.train.state import TrainState, Window
from vit_jax.train.trainer import Trainer


class Start(NamedTuple):
  """Where the loop begins; the same on every process."""

  trainer: Trainer
  checkpoints: CheckpointWriter
  step: int
  state: TrainState
  window: Window  # since the last logged row
  past: Rollbacks
  best: float  # worth of the best evaluation so far (`config.worth`)
  evaluated: frozenset[str]  # evals whose metrics of this very step are stored
  train_seconds: float  # spent by earlier starts, as total_seconds
  total_seconds: float
  lines: list[str]  # to print
  lock: Lock
  uploads: Uploads | None  # of a run at an address


def start(
  run: Run,
  x: Experiment,
  data_dir: Path,
  here: Processes,
  stack: contextlib.ExitStack,
  *,
  accept_data: bool,
  opened: Opened | None,
) -> Start:
  """Takes the folder, compares it and all processes with this run, and restores the state.

  Args:
    stack: holds the lock and the checkpoints until the run ends.

  Raises:
    UserError: a fault in the input, another run or another training in the folder, or a process
      that differs from the others.
    RunFault: the run has checkpoints, and none of them is good.
  """
  lock = stack.enter_context(run.lock(here))
  if uploads := run.uploads(here, x.checkpoint, x.limits.save):
    stack.enter_context(uploads)
  before = here.share(lambda: run.length_before(x))
  goes_on = here.share(lambda: run.goes_on(x))  # refuses another recipe before data is opened
  known = run.vocabularies if goes_on else None
  trainer = Trainer(x, data_dir, opened=opened, vocabularies=known)
  fresh = None if goes_on else trainer.begin()
  identity = trainer.identity(weights=fresh[2] if fresh else '')
  agree(here, x, identity)
  steps = here.share(lambda: run.claim(x, identity, goes_on=goes_on, accept_data=accept_data).steps)
  if steps != trainer.steps:  # other data, which was accepted
    domain = trainer.domain
    opened = opened or Opened(domain.source, dict(domain.evals))
    trainer = Trainer(x, data_dir, opened=opened, steps=steps, vocabularies=domain.vocabularies)
  if trainer.domain.vocabularies and known is None:
    here.share(lambda: run.write_vocabularies(trainer.domain.vocabularies))
  _ = trainer.frozen  # a fault in the teacher is found before the first step
  leaves = jax.tree.leaves(trainer.abstract_state)
  run.check_room(x.checkpoint, sum(leaf.size * leaf.dtype.itemsize for leaf in leaves))
  checkpoints = stack.enter_context(run.checkpoint_writer(x.checkpoint, here, uploads))
  restored = checkpoints.restore_newest(trainer.abstract_state.as_tree())
  if restored is None:
    state, line, _ = fresh or trainer.begin()
    beside = {
      'data_position': 0,
      'window': {},
      'rollbacks': Rollbacks(),
      'train_seconds': 0.0,
      'total_seconds': 0.0,
    }
    lines = [f'start: {line}']
  else:
    tree, beside, said = restored
    state, lines = trainer.abstract_state.replace(**tree), [said]
  lines = [*here.share(lambda: _found(trainer, run)), *lines]
  if trainer.shortened:
    lines.append(trainer.shortened)
  step = beside['data_position'] // x.batch_size
  if before and steps > before:
    rate, was = (np.asarray(trainer.schedule_of(count)(step)) for count in (steps, before))
    lines.append(
      f'lengthened from {before:,} to {steps:,} steps: from step {step:,} the learning rate is '
      f'that of a {x.optim.schedule} schedule of {steps:,} steps, {rate:.2e} instead of {was:.2e}'
    )
  if trainer.mesh.size > 1:
    here.share(lambda: run.write_sharding(rules.table(trainer.abstract_state, trainer.mesh)))
    held = rules.summary(trainer.abstract_state, trainer.mesh)
    lines.append(f'sharding: {held}; see sharding.txt')
  train_seconds = beside['train_seconds']
  best, evaluated = here.share(lambda: _evaluated(run, x, step))
  return Start(
    trainer,
    checkpoints,
    step,
    state,
    Window(beside['window'], 0, train_seconds),
    Rollbacks(*beside['rollbacks']),
    best,
    frozenset(evaluated),
    train_seconds,
    beside['total_seconds'],
    lines,
    lock,
    uploads,
  )


def _found(trainer: Trainer, run: Run) -> list[str]:
  """A line about each data set; what was found in full goes to the run folder."""
  found = trainer.domain.found()
  if found:
    run.write_data([details for _, details in found])
  return [line for line, _ in found]


def _evaluated(run: Run, x: Experiment, step: int) -> tuple[float, list[str]]:
  """(worth of the best stored evaluation up to this step, the evals stored at it)."""
  rows = [row for row in run.metrics if row['step'] <= step]
  key = x.checkpoint.best
  best = max((config.worth(key, row[key]) for row in rows if key in row), default=-math.inf)
  now = {name.partition('/')[0] for row in rows if row['step'] == step for name in row}
  return best, sorted(now & set(x.evals))
