"""The loop: when things happen.

The law, at step s: evaluate and save what is due at s, then train on batch(s). Metrics of a step
are fetched while the next one runs, so the device never waits for the host. Evaluation comes
before the save, so a checkpoint carries its own metrics. What a checkpoint at s needs to go on
bit by bit is the state, s itself (the data position) and the sums not yet logged.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from vit_jax import config
from vit_jax.config import Experiment
from vit_jax.data import loader
from vit_jax.errors import PREEMPTED, UserError, nearest
from vit_jax.models import flops
from vit_jax.parallel import device, processes
from vit_jax.parallel.preemption import Preemption
from vit_jax.parallel.watchdog import Watchdog
from vit_jax.training import features, finish, metrics, writers
from vit_jax.training.checkpoint import Checkpoints
from vit_jax.training.events import EventLog
from vit_jax.training.progress import Progress
from vit_jax.training.setup import Setup, set_up
from vit_jax.training.start import start
from vit_jax.training.state import TrainState


def train(x: Experiment, workdir: Path, data_dir: Path, preemption: Preemption) -> int:
  """Trains, evaluates and leaves a run folder; returns the exit code, 0 or 75.

  Raises:
    UserError: a fault in the input, or a run folder that belongs to another experiment.
    RunFault: no good checkpoint is left, one could not be saved, or other processes are gone.
  """
  with (
    processes.start(x.limits) as here,
    Watchdog(here, workdir, x.limits.start, preemption.began) as watch,
  ):
    preemption.attach(here)
    here.listen()
    here.share(lambda: finish.claim(workdir, x))
    setup = set_up(x, data_dir)
    here.share(lambda: finish.write_config(workdir, x))  # of a run that can begin
    checkpoints = Checkpoints(workdir, x.checkpoint, clean=True)
    here.share(checkpoints.take_back)
    state, beside, line = start(setup, checkpoints, here)
    run = Loop(setup, workdir, checkpoints, beside, here, watch, preemption)
    run.say(line)
    if setup.mesh.size > 1:
      run.say(setup.write_sharding(workdir))
    code = 1
    try:
      state = run.train(state)
      with watch.phase('save', x.limits.save):
        checkpoints.close()
      here.share(checkpoints.take_back)
      if run.stopped:
        run.say(f'stopped and saved at step {run.step}; the same command goes on from there')
      else:
        preemption.finish()
        run.finish(state)
      code = PREEMPTED if run.stopped else 0
    except Exception:
      run.end_save()
      raise
    finally:
      run.close(code)
  return code


class Loop:
  """The moving parts of one `train` call."""

  def __init__(
    self,
    setup: Setup,
    workdir: Path,
    checkpoints: Checkpoints,
    beside: Mapping[str, Any],
    here: processes.Processes,
    watch: Watchdog,
    preemption: Preemption,
  ):
    x = setup.experiment
    self.setup, self.checkpoints, self._workdir = setup, checkpoints, workdir
    self._watch, self._preemption, self._limits = watch, preemption, x.limits
    self._here = here
    self._frozen = setup.load_frozen()
    self.step = self.start = int(beside['data_position']) // x.batch_size
    self.stopped = False  # before the end, to go on another time
    self._began = preemption.began - beside['total_seconds']
    self._trained = beside['train_seconds'] - self._training_time()
    self._window: dict[str, float] = dict(beside['window'])  # sums since the last logged row
    self._window_began = self.train_seconds
    self._window_steps = 0  # of this process: what throughput is measured over
    self._evaluation: tuple[int, dict[str, finish.Evaluation], features.Judged] = (-1, {}, {})
    self._lead = here.index == 0
    judged = here.share(
      lambda: [
        (row['step'], config.worth(x.checkpoint.best, row[x.checkpoint.best]))
        for row in writers.read_rows(workdir / 'metrics.jsonl')
        if x.checkpoint.best in row and row['step'] <= self.start
      ]
    )
    self._evaluated = {step for step, _ in judged}
    self._best = [value for _, value in judged]
    self._writers = writers.open_writers(x, workdir, self.start) if self._lead else []
    self._progress = Progress(self.start, setup.steps, quiet=not self._lead)
    self._peak = device.device_peak() * jax.device_count()
    self._flop_per_image = 6 * flops.forward_macs(setup.model, setup.image_shape, train=True)
    self._events = EventLog(workdir / 'events.jsonl', watch)
    if self._lead:
      self._events.start(self.start, here.count, jax.device_count())
      here.at_exit.append(self._end)  # also where another thread ends the process

  @property
  def total_seconds(self) -> float:
    return time.perf_counter() - self._began

  @property
  def train_seconds(self) -> float:
    """Seconds spent training, over all starts of the run."""
    return self._trained + self._training_time()

  def _training_time(self) -> float:
    _, booked = self._watch.booked()
    return sum(booked.get(name, 0.0) for name in ('compile', 'data', 'step'))

  def say(self, line: str) -> None:
    self._progress.say(line)

  def close(self, code: int) -> None:
    self._progress.close()
    for writer in self._writers:
      writer.close()
    self._end(code)

  def end_save(self) -> None:
    """After a fault, which its catcher tells: the save under way is not lost for it."""
    with contextlib.suppress(Exception), self._watch.phase('save', self._limits.save):
      self.checkpoints.close()

  def _end(self, code: int) -> None:
    self._events.end(self.step, code)

  def train(self, state: TrainState) -> TrainState:
    """Runs to the last step or until stopped; the step it stops at is saved either way."""
    x, steps, watch, limits = self.setup.experiment, self.setup.steps, self._watch, self._limits
    due_eval = self._due(x.evaluate)
    due_save = self._due(x.checkpoint.every)
    train_step = None
    train_loader = self.setup.train_loader()
    pending = None  # (step, metrics) of the last update, still on the device
    last_save = time.perf_counter()
    prefetched = loader.prefetch(
      train_loader, self.start, steps, lambda batch: self.setup.put(batch, x.batch_size)
    )
    # The others may be compiling still while this process waits in its first step.
    with watch.phase('step', limits.start), contextlib.closing(prefetched) as batches:
      for s in range(self.start, steps + 1):
        self.step = watch.step = s
        self.checkpoints.check()
        self.stopped = self._preemption.tick()
        if self._lead and 0 < 60 * x.checkpoint.minutes < time.perf_counter() - last_save:
          self._preemption.ask_save()  # clocks differ: all save where the first process says
          last_save = time.perf_counter()
        saved = s == self.start
        save = self._preemption.save_due() or self.stopped or due_save(s)
        # A run that was stopped in an evaluation comes back to it.
        judge = due_eval(s) and not self.stopped and not (saved and s in self._evaluated | {0})
        if judge or (save and not saved):
          pending = self._log(pending)
          measured = self.evaluate(state, s) if judge else None
          if ((save or self.stopped) and not saved) or self._is_best(measured):
            self._save(state, s, measured)
            last_save = time.perf_counter()
        if self.stopped or s == steps:
          break
        with watch.phase('data', limits.data):
          batch = next(batches)
        if train_step is None:
          with watch.phase('compile', limits.start):
            train_step = self.setup.train_step().lower(state, batch, *self._frozen).compile()
          self._window_began = self.train_seconds  # the compiler's time is not throughput
          self._preemption.begin()
        with jax.transfer_guard('disallow'):
          state, sums = train_step(state, batch, *self._frozen)
        if pending is not None:
          self._log(pending)
          watch.renew(limits.step)
        pending = s + 1, sums
        self._progress.advance()
    if train_loader.bad_records:
      self.say(f'{train_loader.bad_records} records could not be decoded and were skipped')
    return state

  def finish(self, state: TrainState) -> None:
    """Judges and predicts at the end of the run, and writes its last words."""
    self._progress.close()
    with self._watch.phase('evaluate', self._limits.start):
      if self._evaluation[0] != self.step:  # a restart had only the checkpoint
        self.evaluate(state, self.step)
      finish.finish(
        self.setup,
        self._workdir,
        state.eval_variables,
        *self._evaluation[1:],
        train_seconds=self.train_seconds,
        total_seconds=self.total_seconds,
        before_batch=lambda: self._watch.renew(self._limits.save),
      )

  def evaluate(self, state: TrainState, s: int) -> dict[str, float] | None:
    """Judges every eval split; writes one row, unless the run folder has it already. None where
    it was stopped, between two batches."""
    x = self.setup.experiment
    try:
      with self._watch.phase('evaluate', self._limits.start):
        evaluations = {
          name: finish.Evaluation(
            *self.setup.evaluate(state.eval_variables, split, self._before_batch)
          )
          for name, split in x.data.evals.items()
        }
        judged = features.judge(
          self.setup,
          state.eval_variables,
          self._before_batch,
          lambda: self._watch.renew(self._limits.start),
          self._here.share,
        )
    except Stopped:
      self.stopped = True
      return None
    self._evaluation = s, evaluations, judged
    results = {name: metrics.summarise(evaluation.rows) for name, evaluation in evaluations.items()}
    row = {
      f'{name}/{metric}': value
      for name, result in {**results, **judged}.items()
      for metric, value in result.items()
    }
    if s not in self._evaluated:
      self._write(s, row)
      self.say(
        f'step {s}/{self.setup.steps}  '
        + '  '.join(
          f'{key} {value:.4f}'
          for key, value in row.items()
          if key.split('/')[0] in judged or key.endswith(('/top1', '/loss'))
        )
      )
    return row

  def _before_batch(self) -> None:
    """Of an evaluation, whose batches are the places between which it may stop."""
    if self._preemption.tick():
      raise Stopped
    first = self._evaluation[0] < 0  # it compiles
    self._watch.renew(self._limits.start if first else self._limits.step)

  def _due(self, every: config.Duration) -> Callable[[int], bool]:
    """Whether something of this cadence is due at a step; all is due at the last one."""
    x = self.setup.experiment
    period = every.to_steps(x.batch_size, len(self.setup.source))
    return lambda s: s == self.setup.steps or (period > 0 and s > 0 and s % period == 0)

  def _log(self, pending: tuple[int, Any] | None) -> None:
    """Fetches an update's metrics into the window; writes a row where one is due."""
    if pending is None:
      return
    x, (s, sums) = self.setup.experiment, pending
    for name, value in jax.device_get(sums).items():
      self._window[name] = self._window.get(name, 0.0) + float(value)
    self._window['updates'] = self._window.get('updates', 0.0) + 1
    self._window_steps += 1
    if not self._due(x.log.every)(s):
      return
    window, seconds = self._window, self.train_seconds
    examples, updates = max(window['examples'], 1.0), window['updates']
    speed = self._window_steps * x.batch_size / (seconds - self._window_began)
    row = {
      'train/loss': window['loss'] / examples,
      'train/top1': window['top1'] / examples,
      'train/grad_norm': window['grad_norm'] / updates,
      'train/lr': float(jax.device_get(self.setup.schedule(s - 1))),
      'train/images_per_second': speed,
      'train/fraction_of_peak': speed * self._flop_per_image / self._peak,
      'train/seconds': seconds,
    }
    self._write(s, row)
    self._progress.show(s, row)
    self._window, self._window_steps, self._window_began = {}, 0, seconds

  def _is_best(self, measured: Mapping[str, float] | None) -> bool:
    """Whether this evaluation beats all before it, and best checkpoints are kept."""
    options = self.setup.experiment.checkpoint
    if measured is None or not options.keep_best:
      return False
    if options.best not in measured:
      raise UserError(
        f'config.checkpoint.best is {options.best!r}, which was not measured; '
        f'{nearest(options.best, measured)}'
      )
    value, before = config.worth(options.best, measured[options.best]), list(self._best)
    self._best.append(value)
    return value > max(before, default=-math.inf)

  def _save(self, state: TrainState, s: int, measured: dict[str, float] | None) -> None:
    # A copy of the window: the save reads it while training goes on.
    beside = {
      'data_position': s * self.setup.experiment.batch_size,
      'window': {**self._window},
      'train_seconds': self.train_seconds,
      'total_seconds': self.total_seconds,
    }
    with self._watch.phase('save', self._limits.save):
      if s == self.start and self._here.share(lambda: s in self.checkpoints.steps()):
        self._here.share(lambda: self.checkpoints.make_way(s))
        self._here.gather(self.checkpoints.steps())  # each without that one, before any writes
      self.checkpoints.save(s, state, beside, measured)
    self._events.spent(s)

  def _write(self, s: int, row: Mapping[str, float]) -> None:
    for writer in self._writers:
      writer.write(s, row)
    self._events.spent(s)


class Stopped(Exception):
  """Ends an evaluation in the middle."""
