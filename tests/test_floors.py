"""Who may import whom, read from the sources: the floors, and a few laws beside them."""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

# A room imports from rooms on lower floors, never from another one of its own floor.
FLOORS = [
  ['errors', 'fields', 'losses', 'paths', 'reads', 'redaction', 'tables', 'trees', 'writes'],
  ['models', 'remote'],
  ['config'],
  ['data', 'layouts', 'parallel'],
  ['run'],
  ['weights'],
  ['evaluate', 'export'],
  ['train'],
  ['bench', 'launch', 'plan', 'transfer'],
  ['report'],
  ['commands'],
  ['__main__'],
]
FACE = 'vit_jax'
# What a bare accelerator image has, on which the bench must run. jax brings jaxlib and scipy.
BARE = {'jax', 'jaxlib', 'scipy', 'flax', 'optax', 'numpy', 'ml_collections'}


class Import(NamedTuple):
  """One imported name: the module it lies in, or the module itself."""

  module: str
  line: int
  at_import: bool  # executed when the file is imported, and not only in a function or for types


def imports(source: str, package: str, known: set[str]) -> Iterator[Import]:
  """All imports of a file. `package` resolves relative ones, `known` tells modules from names."""

  def walk(node: ast.AST, at_import: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
      for alias in node.names:
        yield Import(alias.name, node.lineno, at_import)
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ''
      if node.level:
        above = package.split('.')[: len(package.split('.')) - node.level + 1]
        base = '.'.join([*above, *([base] if base else [])])
      for alias in node.names:
        name = f'{base}.{alias.name}'
        yield Import(name if name in known or base == 'flax' else base, node.lineno, at_import)
    inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for_types = isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test)
    for child in ast.iter_child_nodes(node):
      yield from walk(child, at_import and not inside_function and not for_types)

  yield from walk(ast.parse(source), True)


def modules(root: Path) -> dict[str, str]:
  """Module name -> source, of the package and the recipes."""
  found = {}
  for path in [*root.glob('vit_jax/**/*.py'), *root.glob('configs/**/*.py')]:
    parts = path.relative_to(root).with_suffix('').parts
    found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path.read_text()
  return found


def floor_of(module: str) -> int | None:
  """The floor of a module's room. The face of the library, which imports lazily, is open to all."""
  if module == FACE:
    return -1
  room = module.split('.')[1]
  return next((floor for floor, rooms in enumerate(FLOORS) if room in rooms), None)


def room_of(module: str) -> str:
  return '.'.join(module.split('.')[:2])


def read(sources: Mapping[str, str]) -> dict[str, list[Import]]:
  packages = {name.rpartition('.')[0] for name in sources}
  return {
    name: list(imports(source, name if name in packages else name.rpartition('.')[0], set(sources)))
    for name, source in sources.items()
  }


def violations(sources: Mapping[str, str]) -> list[str]:
  """Every import that the house forbids, one line each."""
  bad = []
  for module, found in read(sources).items():
    floor = floor_of(module)
    ours = module.split('.')[0] == 'vit_jax'
    if ours and floor is None:
      bad.append(f'{module} stands on no floor')
    for target, line, _ in found:
      top = target.split('.')[0]
      where = f'{module}:{line} imports {target}'
      if top == 'tensorflow':
        bad.append(f'{where}: TensorFlow is never imported')
      if (target + '.').startswith('flax.linen.') and room_of(module) != 'vit_jax.models':
        bad.append(f'{where}: only models/ imports flax.linen')
      if not ours and top != 'ml_collections':
        bad.append(f'{where}: a recipe imports ml_collections only')
      if ours and top == 'configs':
        bad.append(f'{where}: vit_jax never imports a recipe')
      if room_of(module) == 'vit_jax.report' and room_of(target) == 'vit_jax.train':
        bad.append(f'{where}: report imports nothing that trains')
      if ours and floor is not None and module != FACE and top == 'vit_jax':
        above = floor_of(target)
        if above is None or above > floor:
          bad.append(f'{where}: from floor {floor} up to floor {above}')
        elif above == floor > 0 and room_of(module) != room_of(target):
          bad.append(f'{where}: another room of floor {floor}')
  return bad


def closure(start: str, sources: Mapping[str, str]) -> dict[str, list[str]]:
  """What importing `start` and everything below it imports from outside -> the files that do.

  Importing a.b.c runs a and a.b too. `start` stands for all modules of its package.
  """
  found = read(sources)
  todo = [name for name in sources if name == start or name.startswith(start + '.')]
  done: set[str] = set()
  outside: dict[str, list[str]] = {}
  while todo:
    module = todo.pop()
    if module in done or module not in sources:
      continue
    done.add(module)
    parents = module.split('.')[:-1]
    todo += ['.'.join(parents[: i + 1]) for i in range(len(parents))]
    for target, line, at_import in found[module]:
      if at_import and target.split('.')[0] == 'vit_jax':
        todo.append(target)
      elif at_import and target.split('.')[0] not in sys.stdlib_module_names:
        outside.setdefault(target.split('.')[0], []).append(f'{module}:{line}')
  return outside


def circles(sources: Mapping[str, str]) -> list[str]:
  """Modules that import themselves through others, however late."""
  found = read(sources)
  graph = {
    module: {i.module for i in found[module]} & set(sources) - {module, FACE}
    for module in sources
    if module != FACE
  }
  while True:  # take off the modules that import nothing that is left
    free = {module for module, targets in graph.items() if not targets & set(graph)}
    if not free:
      return sorted(graph)
    graph = {module: targets for module, targets in graph.items() if module not in free}


SOURCES = modules(ROOT)


def test_sources_are_found():
  assert {'vit_jax', 'vit_jax.report', 'vit_jax.report.page', 'configs.folder'} <= set(SOURCES)
  assert len(SOURCES) > 30


def test_floors_hold():
  assert violations(SOURCES) == []


def test_no_circles():
  assert circles(SOURCES) == []


@pytest.mark.parametrize('start', ['vit_jax.bench', 'vit_jax.commands.bench'])
def test_the_bench_runs_on_a_bare_image(start):
  outside = closure(start, SOURCES)
  extra = {name: files for name, files in outside.items() if name not in BARE}
  assert extra == {}


def test_the_bench_compiles_the_step_that_training_does():
  outside = closure('vit_jax.bench', SOURCES)
  assert {'jax', 'flax', 'optax'} <= set(outside)  # the closure reaches models and the step
  assert any(file.startswith('vit_jax.train.step') for file in outside['jax'])


@pytest.mark.parametrize(
  'module, line, told',
  [
    ('vit_jax.models.planted', 'from vit_jax.train import step', 'up to floor 7'),
    ('vit_jax.config.planted', 'import vit_jax.train.loop as l', 'up to floor 7'),
    ('vit_jax.train.optim', 'def f():\n  from ..commands import main', 'up to floor 10'),
    ('vit_jax.run.planted', 'from ..weights import fetch', 'up to floor 5'),
    ('vit_jax.parallel.mesh', 'from vit_jax.data import loader', 'another room of floor 3'),
    ('vit_jax.plan.planted', 'from vit_jax import bench', 'another room of floor 8'),
    ('vit_jax.train.step', 'import flax.linen as nn', 'only models/'),
    ('vit_jax.train.step', 'from flax import linen as nn', 'only models/'),
    ('vit_jax.train.step', 'from flax.linen import Dense', 'only models/'),
    ('vit_jax.report.planted', 'from vit_jax.train import step', 'nothing that trains'),
    ('vit_jax.data.planted', 'def f():\n  import tensorflow.data', 'TensorFlow'),
    ('vit_jax.data.planted', 'from tensorflow import io', 'TensorFlow'),
    ('vit_jax.commands', 'from configs import earth_climate', 'never imports a recipe'),
    ('configs.planted', 'from vit_jax import config', 'ml_collections only'),
    ('configs.planted', 'import numpy', 'ml_collections only'),
    ('vit_jax.utils', 'x = 1', 'stands on no floor'),
    ('vit_jax.training.planted', '', 'stands on no floor'),
  ],
)
def test_a_planted_violation_is_caught(module, line, told):
  bad = violations({**SOURCES, module: line})
  assert any(module in found and told in found for found in bad), bad


@pytest.mark.parametrize(
  'module, line',
  [
    ('vit_jax.models.planted', 'from flax import linen as nn\nfrom vit_jax.models import sizes'),
    ('vit_jax.data.planted', 'import tensorflow_datasets as tfds\nfrom vit_jax.data import decode'),
    ('vit_jax.data.augment', 'from vit_jax.config import Augment'),
    (
      'vit_jax.report.planted',
      'from vit_jax import models, config\nfrom vit_jax.report import page',
    ),
    ('configs.planted', 'from ml_collections import ConfigDict'),
  ],
)
def test_what_is_allowed_passes(module, line):
  assert not [found for found in violations({**SOURCES, module: line}) if module in found]


def test_a_planted_package_of_the_bench_is_caught():
  planted = SOURCES['vit_jax.train.optim'] + '\ntry:\n  import orbax.checkpoint\nfinally: pass\n'
  extra = set(closure('vit_jax.bench', {**SOURCES, 'vit_jax.train.optim': planted}))
  assert 'orbax' in extra
  lazy = SOURCES['vit_jax.train.optim'] + '\ndef f():\n  import orbax.checkpoint\n'
  assert 'orbax' not in closure('vit_jax.bench', {**SOURCES, 'vit_jax.train.optim': lazy})
  init = {**SOURCES, 'vit_jax.train': 'import scipy'}  # imported on the way to its modules
  assert 'scipy' in closure('vit_jax.bench', init)


def test_a_planted_circle_is_caught():
  planted = {'a': 'import b', 'b': 'def f():\n  import c', 'c': 'from a import x', 'd': 'import a'}
  assert circles(planted) == ['a', 'b', 'c', 'd']
  assert circles({**planted, 'c': ''}) == []
