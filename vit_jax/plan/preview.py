"""A recipe before it runs: what it resolves to, and what that means, by arithmetic on shapes."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vit_jax import config
from vit_jax.config import Experiment, Mesh
from vit_jax.errors import UserError
from vit_jax.fields import flat, plain
from vit_jax.models import flops
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel.chips import GIB
from vit_jax.paths import is_address
from vit_jax.plan import estimate
from vit_jax.plan.sizes import data_size
from vit_jax.remote.runs import run_folder
from vit_jax.run import Run
from vit_jax.tables import as_text
from vit_jax.train import parameters
from vit_jax.train.domain import Sizes
from vit_jax.train.trainer import Trainer
from vit_jax.trees import flatten

WIDTH, HEIGHT = 64, 8  # of a plot, in characters


def preview(x: Experiment, data_dir: Path, num_examples: int = 0, num_classes: int = 0) -> str:
  """All phases as text. Nothing is started, and data is opened only where its size is not known.

  Args:
    num_examples, num_classes: of the training data, if the user says them.

  Raises:
    UserError: keys do not fit each other or the data, or its size is neither known nor given.
  """
  parts, before = [], None
  for number, phase in enumerate(x.phases, 1):
    trainer = _trainer(phase, data_dir, num_examples, num_classes)
    title = f'{phase.name}: {phase.model.name}, {trainer.parameters / 1e6:,.1f} M parameters'
    if len(x.phases) > 1:
      title = f'phase {number} of {len(x.phases)}, {title}'
    parts.append('\n'.join([title, '', *_keys(phase, before), '', *_lines(trainer)]))
    before = phase
  return '\n\n\n'.join(parts)


def diff(x: Experiment, other: str) -> str:
  """The keys in which two recipes differ, as a table.

  Args:
    other: a recipe as `config.recipe` takes it, or a run folder.

  Raises:
    UserError: there is no such recipe or run folder.
  """
  # FILE:ARG and NAME:ARG are recipes.
  path = run_folder(other) if is_address(other) or not other.partition(':')[2] else None
  theirs = Run(path).experiment if path and path.is_dir() else config.recipe(other)
  ours, others = flat(plain(x)), flat(plain(theirs))
  rows = [
    (key, _shown(ours.get(key)), _shown(others.get(key)))
    for key in sorted({*ours, *others})
    if ours.get(key) != others.get(key)
  ]
  if not rows:
    return f'{x.name} and {other} are the same recipe'
  return as_text((), [('key', x.name, other), *rows])


def _shown(value: Any) -> str:
  return '-' if value is None else config.as_flag('', value).partition('=')[2]


def _trainer(x: Experiment, data_dir: Path, num_examples: int, num_classes: int) -> Trainer:
  """On one device, whatever the mesh of the recipe."""
  x = replace(x, mesh=Mesh(), then=None)
  mesh = meshes.make_mesh(x.mesh, jax.devices()[:1])
  try:
    sizes = Sizes(*data_size(x.data, num_examples, num_classes))
  except UserError as unknown:
    try:
      return Trainer(x, data_dir, mesh=mesh)
    except UserError:
      raise unknown from None
  return Trainer(x, data_dir, mesh=mesh, sizes=sizes)


def _keys(x: Experiment, before: Experiment | None) -> list[str]:
  """What is not the default or, of a later phase, not as in the phase before."""
  changed = replace(x, then=None).changes(before)
  rows = [f'  {key} = {_shown(value)}' for key, value in sorted(flat(changed).items())]
  return ['keys that differ from ' + ('the phase before' if before else 'the defaults'), *rows]


def _lines(trainer: Trainer) -> list[str]:
  x, domain, steps = trainer.experiment, trainer.domain, trainer.steps
  per_step = trainer.sizes.examples_per_step(x.batch_size)
  # Of sentences, for the largest batch.
  flop = 6 * flops.forward_macs(trainer.model, trainer.shape, train=True) * domain.rows[-1]
  passes = f' in {x.optim.accumulate} passes' if x.optim.accumulate > 1 else ''
  if domain.unit == domain.examples or trainer.sizes.num_batches:
    epochs = steps * per_step / trainer.sizes.num_examples
    length = f'{per_step:,.0f} {domain.examples}{passes}, {epochs:,.2f} epochs of '
    length += f'{trainer.sizes.num_examples:,}'
  else:  # pairs, whose batches only the data can count
    length = f'{x.batch_size:,} {domain.unit}{passes}'
  state = {**estimate.state_bytes(trainer), 'batch': estimate.tree_bytes(trainer.abstract_batch)}
  needed = estimate.memory_bytes(trainer)
  rows = [(f'  {name}', f'{size / GIB:,.3f} GiB') for name, size in state.items() if size]
  rest = needed - sum(state.values())
  rows += [
    ('  gradients, activations', f'{rest / GIB:,.3f} GiB'),
    ('  together', f'{needed / GIB:,.3f} GiB'),
  ]
  return [
    f'length: {steps:,} steps of {length}',
    '',
    'learning rate by step',
    *plot([float(rate) for rate in _rates(trainer)], steps),
    '',
    as_text(('parameters', 'leaves', 'M', 'lr times', 'decay'), _groups(trainer), '<>>>>'),
    '',
    'memory on a single device, estimated without a compiler (`vit_jax plan` compiles for chips)',
    as_text((), rows, '<>'),
    '',
    f'compute: {flop / 1e12:,.3f} TFLOP per step, {flop * steps / 1e18:,.3f} exaFLOP in all',
  ]


def _rates(trainer: Trainer) -> np.ndarray:
  """The largest learning rate in each column of the plot."""
  steps = np.linspace(0, max(trainer.steps - 1, 0), 32 * WIDTH).round().astype(np.int32)
  rates = np.asarray(jax.device_get(jax.vmap(trainer.schedule)(steps)))
  return rates.reshape(WIDTH, 32).max(axis=1)


def plot(values: Sequence[float], steps: int) -> list[str]:
  """Values from 0 to their largest, `steps` wide, as lines of text."""
  high = max(values) or 1.0
  levels = [round(value / high * (HEIGHT - 1)) for value in values]
  lines = []
  for level in reversed(range(HEIGHT)):
    label = f'{high * level / (HEIGHT - 1):9.3g}' if level in (0, HEIGHT - 1) else ' ' * 9
    lines.append(
      f'{label} |' + ''.join('*' if found == level else ' ' for found in levels).rstrip()
    )
  return [*lines, ' ' * 10 + '+' + '-' * WIDTH, ' ' * 11 + f'0{max(steps - 1, 0):>{WIDTH - 1},}']


def _groups(trainer: Trainer) -> list[tuple[str, int, float, str, str]]:
  """Rows of parameters that are treated alike; layers of a stack may differ in their rate."""
  x, leaves = trainer.experiment, flatten(trainer.abstract_state.params)
  found: dict[tuple[str, float, float], list[tuple[str, float]]] = defaultdict(list)
  for path, factors in parameters.factors(x.optim, trainer.abstract_state.params).items():
    kind = 'frozen' if factors.frozen else 'decayed' if factors.weight_decay else 'not decayed'
    rates = np.unique(np.asarray(factors.lr))
    for rate in rates:
      found[kind, float(rate), factors.weight_decay].append((path, leaves[path].size / len(rates)))
  return [
    (f'  {kind}', len(of), sum(size for _, size in of) / 1e6, f'{rate:.3g}', f'{decay:.3g}')
    for (kind, rate, decay), of in sorted(found.items())
  ]
