"""Does the loader keep up: the loader alone, the train step alone, and both as training runs them.

All three take turns. The step is the one that training compiles, and batches are fetched as there:
ahead, on threads, onto the device.
"""

import importlib.metadata
import logging
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from vit_jax import config
from vit_jax.bench.timing import FEWEST_TURNS, OPTIM
from vit_jax.tables import as_text

LOG = logging.getLogger(__name__)
STEPS = 10**6  # more than any turn takes
FEWEST_STEPS = 4  # of a turn
KEPT_UP = 0.05  # share of the time that the step may wait for a loader that keeps up
ROLES = {'loader': 'the loader alone', 'step': 'the step alone', 'both': 'both, as in training'}


class Feeding:
  """A model's train step, and the loader of a data set that feeds it."""

  def __init__(self, data: Mapping[str, Any], model: Mapping[str, Any], batch: int, data_dir: Path):
    """
    Args:
      data, model: keys of `config.data` and `config.model`.
      data_dir: of prepared data sets.

    Raises:
      UserError: a key is wrong, or the data set cannot be opened.
    """
    from vit_jax.train.trainer import Trainer  # here: a bare image, which only benches, lacks TFDS

    optim = {'lr': OPTIM.lr, 'weight_decay': OPTIM.weight_decay, 'schedule': OPTIM.schedule}
    keys = {'data': dict(data), 'model': dict(model), 'optim': optim}
    x = config.resolve({'name': 'bench', 'steps': STEPS, 'batch_size': batch, **keys})
    self.trainer, self.batch = Trainer(x, data_dir), batch
    self.loader = self.trainer.domain.loader
    self._state, self._next = self.trainer.init(), 0
    (self._resident,) = self._batches(1)

  def _batches(self, count: int) -> Any:
    """The next batches of the stream, and no more: nothing is fetched beyond a turn."""
    start, self._next = self._next, self._next + count
    return self.trainer.batches(start, self._next)

  def _step(self, batch: Any) -> None:
    self._state, metrics = self.trainer.step(self._state, batch)
    jax.block_until_ready(metrics)

  def loads(self, count: int) -> float:
    """Seconds for that many batches, on the device."""
    began = time.perf_counter()
    for batch in self._batches(count):
      jax.block_until_ready(batch)
    return time.perf_counter() - began

  def steps(self, count: int) -> float:
    """Seconds for that many steps on a batch that is there."""
    began = time.perf_counter()
    for _ in range(count):
      self._step(self._resident)
    return time.perf_counter() - began

  def trains(self, count: int) -> tuple[float, float]:
    """(seconds for that many steps on fresh batches, those of them spent waiting for a batch).

    The first batches, which nothing could be done beside, are not counted.
    """
    ahead = self.trainer.experiment.images.prefetch + 1
    batches, waited = self._batches(ahead + count), 0.0
    for _ in range(ahead):
      self._step(next(batches))
    began = time.perf_counter()
    for _ in range(count):
      asked = time.perf_counter()
      batch = next(batches)
      waited += time.perf_counter() - asked
      self._step(batch)
    return time.perf_counter() - began, waited


def measure(
  data: Mapping[str, Any],
  model: Mapping[str, Any],
  batch: int,
  *,
  data_dir: Path,
  seconds: float = 20.0,
) -> dict[str, Any]:
  """Images/s of the loader, the step and both, each timed for about `seconds`; and who waits.

  Throughput is the median over turns; a turn of long steps still has a few.

  Args:
    data, model: keys of `config.data` and `config.model`.

  Raises:
    UserError: as `Feeding`, or the batch does not divide over the devices.
  """
  feeding = Feeding(data, model, batch, data_dir)
  feeding.steps(1)  # compiles
  turn_seconds, load, step = seconds / FEWEST_TURNS, feeding.loads(1), feeding.steps(1)
  count, loads = (max(FEWEST_STEPS, round(turn_seconds / each)) for each in (max(load, step), load))
  rates: dict[str, list[float]] = {role: [] for role in ROLES}
  shares = []
  for turn in range(FEWEST_TURNS):
    LOG.debug(f'turn {turn + 1} of {FEWEST_TURNS}: {count} steps ...')
    took, waited = feeding.trains(count)
    rates['loader'].append(loads * batch / feeding.loads(loads))
    rates['step'].append(count * batch / feeding.steps(count))
    rates['both'].append(count * batch / took)
    shares.append(waited / took)
  source, waited = feeding.loader.source, statistics.median(shares)
  return {
    'data': source.name,
    'examples': len(source),
    'model': feeding.trainer.experiment.model.name,
    'batch': batch,
    'shape': list(feeding.trainer.shape),
    'threads': feeding.loader.threads,
    'cores': os.cpu_count(),
    'device': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'images_per_second': {role: statistics.median(turns) for role, turns in rates.items()},
    'slowest_turn': {role: min(turns) for role, turns in rates.items()},
    'fastest_turn': {role: max(turns) for role, turns in rates.items()},
    'step_waits_share': waited,
    'waits': 'step' if waited > KEPT_UP else 'loader',
    'versions': {name: importlib.metadata.version(name) for name in ('jax', 'jaxlib', 'flax')},
  }


def table(figures: Mapping[str, Any]) -> str:
  """The figures as text, and which one waits for the other."""
  rows = [
    [
      words,
      f'{figures["images_per_second"][role]:,.1f}',
      f'({figures["slowest_turn"][role]:,.1f} - {figures["fastest_turn"][role]:,.1f})',
    ]
    for role, words in ROLES.items()
  ]
  share = f'{figures["step_waits_share"]:.0%} of its time'
  verdict = f'the loader waits for the step, which waits {share}: the loader keeps up'
  if figures['waits'] == 'step':
    verdict = f'the step waits for the loader, {share}: more cores or smaller files would help'
  shape = ' x '.join(map(str, figures['shape']))
  return (
    f'{figures["data"]} ({figures["examples"]:,} images), {figures["threads"]} threads; '
    f'{figures["model"]}, {figures["batch"]} images of {shape} per step, {figures["device"]}\n\n'
    f'{as_text(["", "images/s", "(slowest - fastest)"], rows, "<>>")}\n\n{verdict}'
  )
