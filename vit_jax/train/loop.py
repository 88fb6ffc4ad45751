"""The loop: when things happen."""

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vit_jax import config
from vit_jax.config import Experiment
from vit_jax.errors import PREEMPTED, UserError, nearest
from vit_jax.evaluate.backbone import Pulse
from vit_jax.parallel import processes
from vit_jax.parallel.preemption import Preemption
from vit_jax.parallel.processes import Processes
from vit_jax.parallel.watchdog import Watchdog
from vit_jax.paths import Place
from vit_jax.run import Run
from vit_jax.train import phases
from vit_jax.train.domain import Judged, Opened
from vit_jax.train.finish import End, finish
from vit_jax.train.recorder import Recorder
from vit_jax.train.rollback import check_end, roll_back
from vit_jax.train.start import Start, start
from vit_jax.train.state import TrainState, Window
from vit_jax.train.trainer import Trainer


def train(
  x: Experiment,
  workdir: Place,
  data_dir: Path,
  preemption: Preemption,
  *,
  accept_data: bool = False,
  opened: Opened | None = None,
) -> int:
  """Trains, evaluates and writes a run folder for each phase; returns the exit code, 0 or 75.

  Phases that are done are passed over, and the one that was interrupted goes on.

  Args:
    accept_data: resume even if the data has changed since the run began.
    opened: data in place of what the recipe names.

  Raises:
    UserError: a fault in the input, a run folder of another experiment or of a training that is
      under way, or a process that differs from the others.
    RunFault: no good checkpoint is left, one could not be saved, or other processes are gone.
  """
  for place in phases.folders(x, workdir):  # refuses a path before anything starts
    if isinstance(place, Path):
      Run(place)
  count, checked = len(x.phases), False
  with processes.start(x.limits) as here:
    for number in range(count):
      phase, run = phases.at(x, workdir, number, here)
      if number < count - 1 and here.share(lambda run=run, phase=phase: phases.is_done(run, phase)):
        continue
      lines = [f'phase {number + 1} of {count}: {phase.name}, in {run.place}'] if count > 1 else []
      began = time.perf_counter() if checked else preemption.began
      with Watchdog(here, run.path, phase.limits.start, began) as watch:
        if not checked:  # before the first step of all
          phases.check_data(x.phases[number + 1 :], data_dir, opened)
          checked = True
        code = _train(run, phase, lines, data_dir, preemption, here, watch, accept_data, opened)
      if code:
        return code
  return 0


def _train(
  run: Run,
  x: Experiment,
  lines: list[str],
  data_dir: Path,
  preemption: Preemption,
  here: Processes,
  watch: Watchdog,
  accept_data: bool,
  opened: Opened | None,
) -> int:
  """One phase; `lines` are printed first."""
  with contextlib.ExitStack() as stack:
    preemption.attach(here)
    here.listen()
    begun = start(run, x, data_dir, here, stack, accept_data=accept_data, opened=opened)
    recorder = Recorder(begun, run, here, watch)
    for line in [*lines, *begun.lines]:
      recorder.say(line)
    code, control = 1, Control(here, watch, preemption)
    try:
      end = loop(begun, recorder, control)
      with watch.phase('save', x.limits.save):
        begun.checkpoints.finish()
      if end.stopped:
        recorder.say(f'stopped and saved at step {end.step}; the same command goes on from there')
      else:
        preemption.finish()
        with watch.phase('evaluate', x.limits.start):
          finish(begun.trainer, run, end, recorder, _Pulse(control, x.limits))
      code = PREEMPTED if end.stopped else 0
    finally:
      recorder.close(code)
  return code


class Control(NamedTuple):
  """What watches over the main thread: the other processes, its limits, and requests to stop."""

  here: Processes
  watch: Watchdog
  preemption: Preemption


def loop(begun: Start, recorder: Recorder, control: Control) -> End:
  """Runs from the step of `begun` to the last one, or until stopped; that step is saved either way.

  The law, at step s: evaluate what is due at s; then save, if a save is due or the evaluation is
  the best so far; then train on batch(s). Metrics of a step are fetched while the next one runs,
  so the device never waits for the host. Evaluation comes before the save, so a checkpoint carries
  its own metrics, and the row of an evaluation is on disk before its save begins. To resume bit by
  bit, a checkpoint at s needs the state, s itself (the data position), the sums not yet logged and
  the rollbacks so far.

  An update that is not finite, or a spike, is skipped in the step itself. config.spikes.patience
  of them in a row roll back to the last good checkpoint, one update later: that one is under way
  when the row is known, unless an evaluation or a save fetched it early. The clock and the data go
  on (`rollback.py`).
  """
  trainer, checkpoints, (_, watch, preemption) = begun.trainer, begun.checkpoints, control
  x, steps, limits = trainer.experiment, trainer.steps, trainer.experiment.limits
  state, window, best, judged = begun.state, begun.window, begun.best, {}
  due_log, due_save = due(x.log.every, trainer), due(x.checkpoint.every, trainer)
  due_evals = {name: due(line.every, trainer) for name, line in x.evals.items()}
  pending: tuple[int, Any] | None = None  # (step, metrics) of the last update, on the device
  past, patience = begun.past, x.spikes.patience
  in_a_row = int(jax.device_get(state.spikes['in_a_row']))  # updates skipped, as far as fetched
  rollback_at = begun.step + 1 if in_a_row == patience else -1
  programs: dict[Any, Any] = {}  # by the shapes of a batch
  last_save = time.perf_counter()

  def fetch(window: Window, pending: tuple[int, Any] | None) -> Window:
    nonlocal in_a_row, rollback_at
    if pending is None:
      return window
    step, metrics = pending[0], jax.device_get(pending[1])
    in_a_row = int(metrics.pop('in_a_row'))
    if metrics['skipped']:
      recorder.skipped(step, metrics, in_a_row)
    if in_a_row == patience:
      rollback_at = step + 1
    window = window.add(metrics)
    return recorder.log(step, window) if due_log(step) else window

  # Others may still be compiling while this process waits in its first step.
  with (
    watch.phase('step', limits.start),
    contextlib.closing(trainer.batches(begun.step, steps)) as batches,
  ):
    for s in range(begun.step, steps + 1):
      recorder.at(s)
      checkpoints.check()
      if s == rollback_at:
        window, pending = fetch(window, pending), None
        with watch.phase('init', limits.start):
          state, past = roll_back(trainer, checkpoints, state, s, past)
        in_a_row = 0
        recorder.rolled_back(s, past.source)
      stopped = preemption.tick()
      if recorder.lead and 0 < 60 * x.checkpoint.minutes < time.perf_counter() - last_save:
        preemption.ask_save()  # clocks differ: all save where the first process says
        last_save = time.perf_counter()
      save, saved = preemption.save_due() or stopped or due_save(s), s == begun.step
      names = [] if stopped else [name for name, is_due in due_evals.items() if is_due(s)]
      if saved:  # a run that was stopped in an evaluation comes back to it
        names = [name for name in names if s > 0 and name not in begun.evaluated]
      if names or (save and not saved):
        window, pending, judged = fetch(window, pending), None, {}
        if s == steps:
          check_end(x.spikes, in_a_row, steps, past)
        if names:
          judged, stopped = evaluate(trainer, state, s, names, recorder, control)
        measured = as_row(judged)
        value = worth_of(x.checkpoint, measured, names)
        improved, best = x.checkpoint.keep_best > 0 and value > best, max(value, best)
        if ((save or stopped) and not saved) or improved:
          begun.lock.check()
          with watch.phase('save', limits.save):
            beside = {
              'data_position': s * x.batch_size,
              'window': dict(window.sums),
              'rollbacks': past,
              'train_seconds': recorder.train_seconds,
              'total_seconds': recorder.total_seconds,
            }
            # See `rollback.py`: what a run rolls back to must not hang on the clock.
            good = in_a_row == 0 and (due_save(s) or x.checkpoint.every == config.Duration())
            checkpoints.save(s, state.as_tree(), beside, measured, good=good)
          recorder.spent(s)
          last_save = time.perf_counter()
      if stopped or s == steps:
        break
      with watch.phase('data', limits.data):
        batch = next(batches)
      shapes = tuple(leaf.shape for leaf in jax.tree.leaves(batch))
      if shapes not in programs:
        began = recorder.train_seconds
        recorder.compiling()
        with watch.phase('compile', limits.start):
          programs[shapes] = trainer.train_step.lower(state, batch, *trainer.frozen).compile()
        # Compiling is not throughput.
        window = window._replace(began=window.began + recorder.train_seconds - began)
        preemption.begin()
      with jax.transfer_guard('disallow'):
        state, metrics = programs[shapes](state, batch, *trainer.frozen)
      if pending is not None:
        window = fetch(window, pending)
        watch.renew(limits.step)
      pending = s + 1, metrics
      recorder.advance()
  if begun.step < steps and (bad := trainer.domain.loader.bad_records):
    recorder.say(f'{bad} records could not be decoded and were skipped')
  return End(s, state, stopped, judged)


def due(every: config.Duration, trainer: Trainer) -> Callable[[int], bool]:
  """Whether something of this cadence is due at a step; everything is at the last one."""
  steps, period = trainer.steps, trainer.to_steps(every)
  return lambda s: s == steps or (period > 0 and s > 0 and s % period == 0)


def evaluate(
  trainer: Trainer,
  state: TrainState,
  s: int,
  names: list[str],
  recorder: Recorder,
  control: Control,
) -> tuple[Mapping[str, Judged], bool]:
  """Judges lines of the table and writes their row; ({}, True) if stopped on the way.

  Predictions are made at the end of the run.
  """
  x = trainer.experiment
  names = [name for name in names if x.evals[name].kind != 'predict']
  try:
    with control.watch.phase('evaluate', x.limits.start):
      pulse = _Pulse(control, x.limits, stoppable=True)
      judged = trainer.evaluate(state.eval_variables, names, pulse)
  except Stopped:
    return {}, True
  if row := as_row(judged):
    recorder.write(s, row)
    shown = (name for name in row if not name.endswith(('/top5', '/ece')))
    recorder.say(
      f'step {s}/{trainer.steps}  ' + '  '.join(f'{name} {row[name]:.4f}' for name in shown)
    )
  return judged, False


def as_row(judged: Mapping[str, Judged]) -> dict[str, float]:
  """{'val/top1': ...} of what was judged."""
  return {
    f'{name}/{metric}': value
    for name, found in judged.items()
    for metric, value in found.metrics.items()
  }


def worth_of(options: config.Checkpoint, measured: Mapping[str, float], names: list[str]) -> float:
  """How good this evaluation is, more being better; -inf if the metric of the best is not due.

  Raises:
    UserError: config.checkpoint.best names a metric that its eval does not give.
  """
  if options.best in measured:
    return config.worth(options.best, measured[options.best])
  name = options.best.partition('/')[0]
  if name in names and any(key.startswith(f'{name}/') for key in measured):
    raise UserError(
      f'config.checkpoint.best is {options.best!r}, which was not measured; '
      f'{nearest(options.best, measured)}'
    )
  return -math.inf


class Stopped(Exception):
  """Ends an evaluation between two batches."""


class _Pulse(Pulse):
  """Renews the limit of the phase at each batch, and if `stoppable` stops there when asked to."""

  def __init__(self, control: Control, limits: config.Limits, *, stoppable: bool = False):
    self._here, self._watch, self._preemption = control
    self._limits, self._stoppable = limits, stoppable
    self._first = True  # it compiles

  def begin(self, title: str, total: int) -> None:
    self._watch.renew(self._limits.start)

  def beat(self, count: int) -> None:
    if self._stoppable and self._preemption.tick():
      raise Stopped
    self._watch.renew(self._limits.start if self._first else self._limits.step)
    self._first = False

  def share(self, make: Callable[[], Any]) -> Any:
    self._watch.renew(self._limits.start)  # methods on the host may take long
    return self._here.share(make)
