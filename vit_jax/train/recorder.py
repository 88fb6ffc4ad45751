"""What a run records while it goes: rows of metrics, events, seconds; and what a person sees."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import jax

from vit_jax.models import flops
from vit_jax.parallel import device
from vit_jax.parallel.processes import Processes
from vit_jax.parallel.watchdog import Watchdog
from vit_jax.run import Run
from vit_jax.train.progress import Progress
from vit_jax.train.trainer import Trainer


class Window(NamedTuple):
  """Sums over the steps since the last logged row.

  A checkpoint keeps `sums`: without them a resumed run would log other averages than an
  undisturbed one. `steps` and `began`, in seconds of training, are of this process alone: what
  throughput is measured over.
  """

  sums: Mapping[str, float]
  steps: int
  began: float

  def add(self, metrics: Mapping[str, Any]) -> Self:
    """With the metrics of one more step, fetched from the device."""
    fetched = {**jax.device_get(metrics), 'updates': 1.0}
    sums = {name: self.sums.get(name, 0.0) + float(value) for name, value in fetched.items()}
    return self._replace(sums=sums, steps=self.steps + 1)


class Recorder:
  """The writers of one start of a run; those of process 0 write, the others keep quiet."""

  def __init__(
    self,
    trainer: Trainer,
    run: Run,
    here: Processes,
    watch: Watchdog,
    *,
    step: int,
    train_seconds: float,
    total_seconds: float,
    began: float,
  ):
    """
    Args:
      step: at which this start begins.
      train_seconds, total_seconds: spent by the starts before it.
      began: time.perf_counter() when this process started.
    """
    self._trainer, self._watch = trainer, watch
    self._began = began - total_seconds
    self._trained = train_seconds - self._training()
    self._step = step
    self.lead = here.index == 0
    x = trainer.experiment
    self._peak = device.device_peak() * jax.device_count()
    self._flop_per_image = 6 * flops.forward_macs(trainer.model, trainer.image_shape, train=True)
    self._progress = Progress(step, trainer.steps, quiet=not self.lead)
    self._writer = run.metrics_writer(x, step) if self.lead else None
    self._events = run.event_log(watch)
    if self.lead:
      self._events.start(step, here.count, jax.device_count())
      here.at_exit.append(self._end)  # also where another thread ends the process

  @property
  def total_seconds(self) -> float:
    return time.perf_counter() - self._began

  @property
  def train_seconds(self) -> float:
    """Seconds spent training, over all starts of the run."""
    return self._trained + self._training()

  def _training(self) -> float:
    _, booked = self._watch.booked()
    return sum(booked.get(name, 0.0) for name in ('compile', 'data', 'step'))

  def say(self, line: str) -> None:
    self._progress.say(line)

  def at(self, step: int) -> None:
    """The run has come to this step."""
    self._step = self._watch.step = step

  def advance(self) -> None:
    self._progress.advance()

  def write(self, step: int, row: Mapping[str, float]) -> None:
    """Writes a row of metrics; it is on disk when this returns."""
    if self._writer:
      self._writer.write(step, row)
    self._events.spent(step)

  def spent(self, step: int) -> None:
    self._events.spent(step)

  def log(self, step: int, window: Window) -> Window:
    """Writes the row of a window that ends before `step`; returns an empty one."""
    seconds, batch_size = self.train_seconds, self._trainer.experiment.batch_size
    speed = window.steps * batch_size / (seconds - window.began)
    examples, updates = max(window.sums['examples'], 1.0), window.sums['updates']
    row = {
      **{
        f'train/{name}': window.sums[name] / (updates if name == 'grad_norm' else examples)
        for name in window.sums
        if name not in ('examples', 'updates')
      },
      'train/lr': float(jax.device_get(self._trainer.schedule(step - 1))),
      'train/images_per_second': speed,
      'train/fraction_of_peak': speed * self._flop_per_image / self._peak,
      'train/seconds': seconds,
    }
    self.write(step, row)
    self._progress.show(step, row)
    return Window({}, 0, seconds)

  def close(self, code: int) -> None:
    self._progress.close()
    if self._writer:
      self._writer.close()
    self._end(code)

  def _end(self, code: int) -> None:
    self._events.end(self._step, code)
