"""Timing of train steps. Contenders take turns, so a drift of the machine's speed affects all.

Ours is the step that training compiles, on synthetic images that are already on the device. It
needs only jax, flax, optax, numpy and ml_collections (torch and timm for the rival).
"""

import importlib.metadata
import itertools
import logging
import os
import statistics
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from vit_jax import config, models
from vit_jax.bench.rival import Timm
from vit_jax.config import Mesh
from vit_jax.models import flops
from vit_jax.models.texts import UNKNOWN
from vit_jax.parallel import chips, device, rules
from vit_jax.parallel import mesh as meshes
from vit_jax.tables import as_text
from vit_jax.train import optim, step
from vit_jax.train.schedules import make_schedule
from vit_jax.train.state import init_state
from vit_jax.train.task import Classification, Translation

LOG = logging.getLogger(__name__)
NUM_CLASSES, VOCABULARY = 1000, 32_000
OPTIM = config.Optim(lr=1e-3, weight_decay=0.05, schedule='constant')
TURN_SECONDS = 2.0
FEWEST_TURNS = 3
FRACTIONS = ('GFLOP/s', 'of matmul', 'of datasheet')


class Ours:
  """vit_jax: the train step over all devices of this process."""

  def __init__(
    self,
    model_name: str,
    batch: int,
    shape: tuple[int, ...],
    dtype: str,
    options: Mapping[str, Any],
  ):
    self.name = f'vit_jax {dtype}'
    mesh = meshes.make_mesh(Mesh())
    meshes.check_batch(batch, mesh, '--batch')
    classes = NUM_CLASSES
    if models.reads_text(model_name):
      classes, inputs, task = VOCABULARY, models.Texts(VOCABULARY), Translation(0.1)
    else:
      inputs = None
      task = Classification(classes, config.Loss(), config.Augment(), (0.5,) * 3, (0.5,) * 3)
    self.model = models.build(model_name, classes, None, inputs, dtype=dtype, **options)
    schedule = make_schedule(OPTIM, 1, batch, batch)
    tx = optim.make_optimizer(OPTIM, schedule)

    def init():
      return init_state(self.model, tx, shape, seed=0)

    shapes = jax.eval_shape(init)
    self._state = jax.jit(init, out_shardings=rules.shardings(shapes, mesh))()
    self._batch = meshes.put_batch(_made_up(batch, shape), mesh)
    train_step = step.make_train_step(self.model, task, tx, mesh=mesh, state=shapes)
    self._step = train_step.lower(self._state, self._batch).compile()

  def steps(self, count: int) -> float:
    """Takes that many steps and returns the seconds until the last one was done."""
    began = time.perf_counter()
    for _ in range(count):
      self._state, metrics = self._step(self._state, self._batch)
    loss = float(jax.block_until_ready(metrics['loss']))
    seconds = time.perf_counter() - began
    if not np.isfinite(loss):
      raise RuntimeError(f'the loss of {self.name} is {loss}: its steps compute nothing useful')
    return seconds


def _made_up(batch: int, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
  """Rows of images (H, W, C), or of pairs (S, T) without padding."""
  rng, mask = np.random.default_rng(0), np.ones(batch, bool)
  if len(shape) == 3:
    images = rng.integers(0, 256, (batch, *shape), np.uint8)
    return {'image': images, 'label': rng.integers(0, NUM_CLASSES, batch, np.int32), 'mask': mask}
  sides = [rng.integers(UNKNOWN, VOCABULARY, (batch, length), np.int32) for length in shape]
  return {'source': sides[0], 'target': sides[1], 'mask': mask}


def measure(
  model_name: str,
  batch: int,
  *,
  shape: tuple[int, ...],
  dtypes: tuple[str, ...],
  against: str | None = None,
  seconds: float = 20.0,
  options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Times all contenders in turns, each for about `seconds`, and returns the figures.

  A contender with long steps still takes a few. Throughput is the median over turns. FLOP/s count
  6 per multiply-accumulate of the forward pass (2 FLOP, forward and twice backward), whatever the
  program really executes.

  Args:
    shape: (H, W, C) of images, or (S, T) of pairs of sentences.
    options: of our model, as `models.build` takes them.

  Raises:
    UserError: the batch does not divide over the devices, or the rival cannot run.
  """
  if against == 'timm':
    Timm.check(model_name)
  ours = [Ours(model_name, batch, shape, dtype, options or {}) for dtype in dtypes]
  macs = flops.forward_macs(ours[0].model, shape)
  rivals = itertools.product(dtypes, (False, True)) if against == 'timm' else ()
  timms = [Timm(model_name, batch, shape[0], *kind) for kind in rivals]
  contenders: list[Ours | Timm] = [*ours, *timms]
  turn_seconds = min(TURN_SECONDS, seconds / FEWEST_TURNS)
  step_seconds: dict[str, float] = {}
  for contender in contenders:  # warm up, and size the turns
    contender.steps(1)
    step_seconds[contender.name] = contender.steps(1)
  rates: dict[str, list[float]] = {name: [] for name in step_seconds}
  spent = dict.fromkeys(step_seconds, 0.0)
  matmul: dict[str, list[float]] = {dtype: [] for dtype in dtypes}
  for turn in range(max(FEWEST_TURNS, round(seconds / turn_seconds))):
    for dtype in dtypes:
      matmul[dtype].append(device.measured_matmul_rate(dtype))
    for contender in contenders:
      name = contender.name
      if turn >= FEWEST_TURNS and spent[name] > seconds:
        continue
      LOG.debug(f'turn {turn + 1}: {name} ...')
      if step_seconds[name] < turn_seconds:
        contender.steps(1)  # caches and memory were another's a moment ago
      count = max(1, round(turn_seconds / step_seconds[name]))
      took = contender.steps(count)
      rates[name].append(count * batch / took)
      spent[name] += took
  for timm in timms:
    timm.close()
  examples = 'images' if len(shape) == 3 else 'pairs'
  asked = {'model': model_name, 'batch': batch, 'shape': list(shape), 'examples': examples}
  return asked | _figures(rates, matmul, macs)


def _figures(
  rates: dict[str, list[float]], matmul: dict[str, list[float]], macs: float
) -> dict[str, Any]:
  devices = jax.device_count()
  # A CPU's devices share its cores, so the measured rate is already that of all of them.
  sharing = 1 if jax.default_backend() == 'cpu' else devices
  datasheet = chips.datasheet_peak(jax.devices()[0].device_kind)
  matmul_rate = {dtype: statistics.median(turns) for dtype, turns in matmul.items()}
  rows = []
  for name, turns in rates.items():
    rate = statistics.median(turns)
    flop = 6 * macs * rate
    row = {
      'name': name,
      'turns': len(turns),
      'examples_per_second': rate,
      'slowest_turn': min(turns),
      'fastest_turn': max(turns),
      'flop_per_second': flop,
      'fraction_of_matmul': flop / (matmul_rate[name.split()[1]] * sharing),
    }
    if datasheet is not None:
      row['fraction_of_datasheet'] = flop / (datasheet * devices)
    rows.append(row)
  versions = {name: importlib.metadata.version(name) for name in ('jax', 'jaxlib', 'flax')}
  return {
    'gflop_per_example': 6 * macs / 1e9,
    'device': f'{devices} x {jax.devices()[0].device_kind}',
    'cores': os.cpu_count(),
    'matmul_flop_per_second': matmul_rate,
    'versions': versions | Timm.versions(),
    'contenders': rows,
  }


def table(figures: dict[str, Any]) -> str:
  """The figures as text; ratios are to the first contender."""
  matmul = figures['matmul_flop_per_second'].items()
  rates = ', '.join(f'{dtype} {rate / 1e9:,.0f} GFLOP/s' for dtype, rate in matmul)
  shape = ' x '.join(map(str, figures['shape']))
  first = figures['contenders'][0]['examples_per_second']
  rows = [
    [
      row['name'],
      f'{row["examples_per_second"]:,.1f}',
      f'({row["slowest_turn"]:,.1f} - {row["fastest_turn"]:,.1f})',
      f'{row["flop_per_second"] / 1e9:,.0f}',
      f'{row["fraction_of_matmul"]:.1%}',
      f'{row["fraction_of_datasheet"]:.1%}' if 'fraction_of_datasheet' in row else '-',
      f'{first / row["examples_per_second"]:.2f}x',
    ]
    for row in figures['contenders']
  ]
  examples = figures['examples']
  head = ['', f'{examples}/s', '(slowest - fastest)', *FRACTIONS, 'ours is']
  return (
    f'{figures["model"]}, {figures["batch"]} {examples} of {shape} per step, '
    f'{figures["gflop_per_example"]:.2f} GFLOP to train on one, {figures["device"]}\n'
    f'matmul rate here: {rates}\n\n{as_text(head, rows, "<>>>>>>")}'
  )
