"""The loop: when things happen.

The law, at step s: evaluate and save what is due at s, then train on batch(s). Metrics of a step
are fetched while the next one runs, so the device never waits for the host. Evaluation comes
before the save, so a checkpoint carries its own metrics. What a checkpoint at s needs to go on
bit by bit is the state, s itself (the data position) and the sums not yet logged.
"""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import jax

from vit_jax import config
from vit_jax.config import Experiment
from vit_jax.data import loader
from vit_jax.models import flops
from vit_jax.parallel import device
from vit_jax.training import finish, metrics, writers
from vit_jax.training.checkpoint import Checkpoints
from vit_jax.training.pretrained import pretrained
from vit_jax.training.progress import Progress
from vit_jax.training.setup import Setup, set_up
from vit_jax.training.state import TrainState

PREEMPTED = 75  # exit code: saved, please run the same command again
NOTHING_BESIDE = {'data_position': 0, 'window': {}, 'train_seconds': 0.0, 'total_seconds': 0.0}


def train(x: Experiment, workdir: Path, data_dir: Path) -> int:
  """Trains, evaluates and leaves a run folder; returns the exit code, 0 or 75.

  Raises:
    UserError: a fault in the input, or a run folder that belongs to another experiment.
  """
  began = time.perf_counter()
  finish.claim(workdir, x)
  setup = set_up(x, data_dir)
  checkpoints = Checkpoints(workdir, x.checkpoint)
  with _interruptible() as interrupted:
    state, beside, line = start(setup, checkpoints)
    print(line, flush=True)
    run = Loop(setup, workdir, checkpoints, beside, began)
    try:
      state = run.train(state, interrupted)
      checkpoints.close()
    finally:
      run.close()
  if run.step < setup.steps:
    print(f'stopped and saved at step {run.step}; the same command goes on from there')
    return PREEMPTED
  finish.finish(setup, workdir, state.eval_variables, run.last_evaluation(state),
                train_seconds=run.watch.seconds, total_seconds=run.total_seconds)
  return 0


def start(setup: Setup, checkpoints: Checkpoints) -> tuple[TrainState, dict[str, Any], str]:
  """The start order: newest committed checkpoint of this run, else `init_from`, else fresh.

  Returns (state, what was saved beside it, one line that says which it was).
  """
  x, steps = setup.experiment, checkpoints.steps()
  if steps:
    state, beside = checkpoints.restore(steps[-1], setup.abstract_state)
    return state, beside, f'start: checkpoint of step {steps[-1]} in {checkpoints.directory}'
  state = setup.fresh_state()
  if not x.init_from:
    return state, NOTHING_BESIDE, f'start: fresh, seed {x.seed}'
  loaded, line = pretrained(x.init_from, setup.model, state.variables, x.data.image_size,
                            setup.data_dir)
  variables = jax.device_put(loaded, jax.tree.map(lambda leaf: leaf.sharding, state.variables))
  ema = None if state.ema is None else jax.tree.map(lambda leaf: leaf.copy(), variables)
  return dataclasses.replace(state, ema=ema, **variables), NOTHING_BESIDE, f'start: {line}'


class Stopwatch:
  """Seconds spent training, over all starts of a run."""

  def __init__(self, seconds: float):
    self._seconds = seconds
    self._since: float | None = time.perf_counter()

  @property
  def seconds(self) -> float:
    running = 0.0 if self._since is None else time.perf_counter() - self._since
    return self._seconds + running

  def stop(self) -> None:
    self._seconds, self._since = self.seconds, None

  @contextmanager
  def paused(self) -> Iterator[None]:
    self.stop()
    yield
    self._since = time.perf_counter()


class Loop:
  """The moving parts of one `train` call."""

  def __init__(self, setup: Setup, workdir: Path, checkpoints: Checkpoints,
               beside: Mapping[str, Any], began: float):
    x = setup.experiment
    self.setup, self.checkpoints = setup, checkpoints
    self._frozen = setup.load_frozen()
    self.step = self.start = int(beside['data_position']) // x.batch_size
    self.watch = Stopwatch(beside['train_seconds'])
    self._window: dict[str, float] = dict(beside['window'])  # sums since the last logged row
    self._window_began = self.watch.seconds
    self._window_steps = 0  # of this process: what throughput is measured over
    self._began = began - beside['total_seconds']
    self._evaluation: tuple[int, dict[str, finish.Evaluation]] = (-1, {})
    self._lead = jax.process_index() == 0
    path = workdir / 'metrics.jsonl'
    judged = [row for row in writers.read_rows(path)
              if x.checkpoint.best in row and row['step'] <= self.start]
    self._evaluated = {row['step'] for row in judged}
    self._best = [row[x.checkpoint.best] for row in judged]
    self._writers = writers.open_writers(x, workdir, self.start) if self._lead else []
    self._progress = Progress(self.start, setup.steps, quiet=not self._lead)
    self._peak = device.device_peak() * jax.device_count()
    self._flop_per_image = 6 * flops.forward_macs(setup.model, setup.image_shape, train=True)

  @property
  def total_seconds(self) -> float:
    return time.perf_counter() - self._began

  def close(self) -> None:
    self.watch.stop()
    self._progress.close()
    for writer in self._writers:
      writer.close()

  def train(self, state: TrainState, interrupted: Callable[[], bool]) -> TrainState:
    """Runs to the last step or until interrupted; the step it stops at is saved either way."""
    x, steps = self.setup.experiment, self.setup.steps
    due_eval = self._due(x.evaluate)
    due_save = self._due(x.checkpoint.every)
    train_step = None
    train_loader = self.setup.train_loader()
    pending = None  # (step, metrics) of the last update, still on the device
    last_save = time.perf_counter()
    prefetched = loader.prefetch(train_loader, self.start, steps,
                                 lambda batch: self.setup.put(batch, x.batch_size))
    with closing(prefetched) as batches:
      for s in range(self.start, steps + 1):
        self.step = s
        stop = interrupted()
        save = (stop or due_save(s) or
                0 < 60 * x.checkpoint.minutes < time.perf_counter() - last_save)
        if s > self.start and (due_eval(s) or save):
          pending = self._log(pending)
          with self.watch.paused():
            measured = self.evaluate(state, s) if due_eval(s) else None
            if save or self._is_best(measured):
              self._save(state, s, measured)
              last_save = time.perf_counter()
        if stop or s == steps:
          break
        batch = next(batches)
        if train_step is None:
          train_step = self.setup.train_step().lower(state, batch, *self._frozen).compile()
          self._window_began = self.watch.seconds  # the compiler's time is not throughput
        with jax.transfer_guard('disallow'):
          state, sums = train_step(state, batch, *self._frozen)
        self._log(pending)
        pending = s + 1, sums
        self._progress.advance()
    if train_loader.bad_records:
      self._progress.say(f'{train_loader.bad_records} records could not be decoded and were '
                         'skipped')
    return state

  def evaluate(self, state: TrainState, s: int) -> dict[str, float]:
    """Judges every eval split; writes one row, unless the run folder has it already."""
    x = self.setup.experiment
    evaluations = {name: finish.Evaluation(*self.setup.evaluate(state.eval_variables, split))
                   for name, split in x.data.evals.items()}
    self._evaluation = s, evaluations
    row = {f'{name}/{metric}': value for name, evaluation in evaluations.items()
           for metric, value in metrics.summarise(evaluation.rows).items()}
    if s not in self._evaluated:
      self._write(s, row)
      self._progress.say(f'step {s}/{self.setup.steps}  ' + '  '.join(
          f'{name}/{metric} {row[f"{name}/{metric}"]:.4f}'
          for name in evaluations for metric in ('top1', 'loss')))
    return row

  def last_evaluation(self, state: TrainState) -> dict[str, finish.Evaluation]:
    """The evaluation at the end of the run; done again where a restart had only the checkpoint."""
    if self._evaluation[0] != self.step:
      self.evaluate(state, self.step)
    return self._evaluation[1]

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
    window, seconds = self._window, self.watch.seconds
    examples, updates = max(window['examples'], 1.0), window['updates']
    speed = self._window_steps * x.batch_size / (seconds - self._window_began)
    row = {'train/loss': window['loss'] / examples, 'train/top1': window['top1'] / examples,
           'train/grad_norm': window['grad_norm'] / updates,
           'train/lr': float(jax.device_get(self.setup.schedule(s - 1))),
           'train/images_per_second': speed,
           'train/fraction_of_peak': speed * self._flop_per_image / self._peak,
           'train/seconds': seconds}
    self._write(s, row)
    self._progress.show(s, row)
    self._window, self._window_steps, self._window_began = {}, 0, seconds

  def _is_best(self, measured: Mapping[str, float] | None) -> bool:
    """Whether this evaluation beats all before it, and best checkpoints are kept."""
    options = self.setup.experiment.checkpoint
    if measured is None or not options.keep_best:
      return False
    value, before = measured[options.best], list(self._best)
    self._best.append(value)
    if config.lower_is_better(options.best):
      return value < min(before, default=float('inf'))
    return value > max(before, default=float('-inf'))

  def _save(self, state: TrainState, s: int, measured: dict[str, float] | None) -> None:
    # A copy of the window: the save reads it while training goes on.
    beside = {'data_position': s * self.setup.experiment.batch_size, 'window': {**self._window},
              'train_seconds': self.watch.seconds, 'total_seconds': self.total_seconds}
    self.checkpoints.save(s, state, beside, measured)

  def _write(self, s: int, row: Mapping[str, float]) -> None:
    for writer in self._writers:
      writer.write(s, row)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
  """Turns SIGTERM and the first Ctrl-C into a question the loop asks between steps."""
  told = threading.Event()
  if threading.current_thread() is not threading.main_thread() or jax.process_count() > 1:
    yield told.is_set
    return

  def tell(signum: int, frame: Any) -> None:
    if told.is_set():
      raise KeyboardInterrupt
    told.set()
    print('\nstopping after this step ...', flush=True)

  before = {number: signal.signal(number, tell) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield told.is_set
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
