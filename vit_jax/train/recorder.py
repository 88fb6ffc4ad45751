"""What a run records as it goes: rows of metrics, events, seconds; and what a person sees."""

import logging
import math
import sys
import time
from collections.abc import Mapping

import jax
from tqdm import tqdm

from vit_jax.parallel import chips, device
from vit_jax.parallel.processes import Processes
from vit_jax.parallel.watchdog import Watchdog
from vit_jax.run import Run
from vit_jax.train.start import Start
from vit_jax.train.state import Window

SHORT = {'images': 'img', 'tokens': 'tokens'}

log = logging.getLogger(__name__)


class Recorder:
  """The writers of one start of a run; only those of process 0 write."""

  def __init__(self, begun: Start, run: Run, here: Processes, watch: Watchdog):
    trainer = self._trainer = begun.trainer
    self._watch, self._step = watch, begun.step
    self._began = watch.began - begun.total_seconds
    self._trained = begun.train_seconds - self._training()
    self.lead = here.index == 0
    self._peak, self._said_why = device.device_peak() * jax.device_count(), False
    self._flop_per_step = trainer.domain.flop_per_step()
    self._progress = Progress(begun.step, trainer.steps, trainer.domain.unit, quiet=not self.lead)
    self._writer = run.metrics_writer(trainer.experiment, begun.step) if self.lead else None
    self._events = run.event_log(watch)
    if self.lead:
      self._events.start(begun.step, here.count, jax.device_count())
      here.at_exit.append(self._end)  # also where another thread ends the process
    if begun.uploads:
      limit = trainer.experiment.limits.save
      begun.uploads.waiting = lambda: watch.phase('upload', limit)
      begun.uploads.done = self._uploaded

  @property
  def total_seconds(self) -> float:
    return time.perf_counter() - self._began

  @property
  def train_seconds(self) -> float:
    """Seconds of training, over all starts of the run."""
    return self._trained + self._training()

  def _training(self) -> float:
    _, booked = self._watch.booked()
    return sum(booked.get(name, 0.0) for name in ('compile', 'data', 'step'))

  def say(self, line: str) -> None:
    self._progress.say(line)

  def at(self, step: int) -> None:
    """Notes the step that the run has reached."""
    self._step = self._watch.step = step

  def advance(self) -> None:
    self._progress.advance()

  def compiling(self) -> None:
    """Says that a program is being compiled, which may take minutes."""
    self._progress.compiling()

  def write(self, step: int, row: Mapping[str, float]) -> None:
    """Writes a row of metrics; it is on disk when this returns."""
    if self._writer:
      self._writer.write(step, row)
    self._events.spent(step)

  def spent(self, step: int) -> None:
    self._events.spent(step)

  def _uploaded(self, step: int, size: int, seconds: float) -> None:
    self._events.note('upload', step, bytes=size, took=round(seconds, 6))

  def skipped(self, step: int, metrics: Mapping[str, float], in_a_row: int) -> None:
    """Notes that the update before `step` was skipped; of a row of them, says so of the first."""
    loss = _ratio(metrics['loss'], metrics[self._trainer.domain.counted])
    words = {'loss': f'{loss:g}', 'grad_norm': f'{metrics["grad_norm"]:g}'}
    self._events.note('skipped', step, **words, in_a_row=in_a_row)
    if in_a_row == 1:
      self.say(
        f'step {step}: skipped an update of loss {words["loss"]} and gradient norm '
        f'{words["grad_norm"]}'
      )

  def rolled_back(self, step: int, source: int) -> None:
    self._events.note('rollback', step, source=source)
    self.say(
      f'step {step}: rolled back to the weights of step {source}, and passed over the data since'
    )

  def log(self, step: int, window: Window) -> Window:
    """Writes the row of a window that ends before `step`; returns an empty one.

    Means are over the updates that were not skipped, and NaN if there are none.
    """
    seconds, domain = self.train_seconds, self._trainer.domain
    steps_per_second = window.steps / (seconds - window.began)
    sums = dict(window.sums)
    count, updates, skipped = (sums.pop(name) for name in (domain.counted, 'updates', 'skipped'))
    means = {
      f'train/{name}': _ratio(value, updates if name == 'grad_norm' else count)
      for name, value in sums.items()
    }
    if skipped:
      means['train/skipped'] = skipped
    counts_units = domain.counted == domain.unit
    per_step = _ratio(count, updates) if counts_units else self._trainer.experiment.batch_size
    row = {
      **means,
      'train/lr': float(jax.device_get(self._trainer.schedule(step - 1))),
      f'train/{domain.unit}_per_second': steps_per_second * per_step,
      'train/fraction_of_peak': steps_per_second * self._flop_per_step / self._peak,
      'train/seconds': seconds,
    }
    self.write(step, row)
    self._progress.show(step, row)
    if chips.above_peak(row['train/fraction_of_peak']) and not self._said_why:
      self._said_why = True
      self.say(device.why_above_peak())
    return Window({}, 0, seconds)

  def close(self, code: int) -> None:
    self._progress.close()
    if self._writer:
      self._writer.close()
    self._end(code)

  def _end(self, code: int) -> None:
    self._events.end(self._step, code)


def _ratio(sum: float, count: float) -> float:
  return sum / count if count else math.nan


class Progress:
  """Counts steps; shows loss, speed, fraction of peak and time left."""

  def __init__(self, start: int, steps: int, unit: str, quiet: bool = False):
    self._steps, self._unit, self._quiet = steps, unit, quiet
    self._first, self._began = start, time.perf_counter()
    self._bar, self._compiling, self._said = None, False, False
    if not quiet and sys.stderr.isatty():
      self._bar = tqdm(total=steps, initial=start, unit='step', dynamic_ncols=True)

  def advance(self) -> None:
    if self._bar is not None:
      if self._compiling:
        self._bar.set_postfix_str('', refresh=False)
      self._compiling = False
      self._bar.update()

  def compiling(self) -> None:
    """Shows it in the bar until the next step; without a bar, says it the first time."""
    self._compiling = True
    if self._bar is not None:
      self._bar.set_postfix_str('compiling')
    elif not self._said:
      self._said = True
      self.say('compiling the step')

  def show(self, step: int, row: Mapping[str, float]) -> None:
    """Shows a row of training metrics, as `Recorder.log` makes it."""
    speed = f'{row[f"train/{self._unit}_per_second"]:,.0f} {SHORT[self._unit]}/s'
    share = row['train/fraction_of_peak']
    peak = 'over 100% of peak' if chips.above_peak(share) else f'{share:.0%} of peak'
    words = f'loss {row["train/loss"]:.4f}  {speed}  {peak}'
    if self._bar is not None:
      self._bar.set_postfix_str(words)
      return
    done = max(step - self._first, 1)
    left = (time.perf_counter() - self._began) / done * (self._steps - step)
    self.say(f'step {step}/{self._steps}  {words}  {tqdm.format_interval(left)} left')

  def say(self, line: str) -> None:
    """Logs one line without tearing the bar."""
    if self._quiet:
      return
    if self._bar is not None:
      self._bar.write(line)
    else:
      log.info(line)

  def close(self) -> None:
    if self._bar is not None:
      self._bar.close()
