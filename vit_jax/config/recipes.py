"""Recipes: files with `get_config()`, by path or by name, and the keys that a caller changes."""

import ast
import dataclasses
import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vit_jax import fields
from vit_jax.config.schema import Experiment, resolve
from vit_jax.errors import UserError, nearest

# Our recipes: in the package if a wheel was installed, else next to it in the checkout.
_PACKAGE = Path(__file__).parents[1]
SHIPPED = (_PACKAGE if (_PACKAGE / 'configs').is_dir() else _PACKAGE.parent) / 'configs'


def recipe(
  spec: str | Path, updates: Mapping[str, Any] | None = None, /, **keys: Any
) -> Experiment:
  """The experiment of a recipe, with changes: `recipe('deit:B/16', {'optim.lr': 1e-3}, seed=1)`.

  A group of keys in `updates` or `keys` leaves those alone that it does not name; a mapping of the
  user's own names, such as `evals`, is replaced.

  Args:
    spec: 'FILE', 'FILE:ARG', or one of ours in place of FILE: 'deit:B/16', also as
      'configs/deit.py:B/16' where there is no such file.
    updates: values by key, nested or with dots: {'optim': {'lr': 1e-3}} or {'optim.lr': 1e-3}.
    **keys: the same, of the outermost keys.

  Raises:
    UserError: there is no such recipe or key, or a value does not fit.
  """
  values = load_config(str(spec)).to_dict()
  return resolve(_merged(_merged(values, updates or {}, Experiment), keys, Experiment))


def update(x: Experiment, updates: Mapping[str, Any]) -> Experiment:
  """The experiment with changes, as `recipe` takes them.

  Raises:
    UserError: there is no such key, or a value does not fit.
  """
  # On its changes alone: another model's name brings its own defaults.
  return resolve(_merged(x.changes(), updates, Experiment))


def load_config(spec: str) -> ConfigDict:
  """The ConfigDict of a recipe; see `recipe` for `spec`."""
  path, arg = _split(spec)
  module = _load(path)
  if not hasattr(module, 'get_config'):
    raise UserError(f'--config: {path} has no function get_config()')
  takes_arg = bool(inspect.signature(module.get_config).parameters)
  if arg and not takes_arg:
    raise UserError(f'--config: {path} takes no argument, but {arg!r} follows the colon')
  try:
    return module.get_config(arg) if arg else module.get_config()
  except ValueError as error:
    raise UserError(f'--config: {path}: {error}') from None


def from_flags(flags: Sequence[str]) -> dict[str, Any]:
  """{key with dots: value} of '--config.KEY=VALUE' flags, each value read as the type of its key.

  A key of type text takes any text as it is; others take Python literals, and true and false.
  Text that does not fit stays text, which `resolve` refuses.
  """
  values = {}
  for flag in flags:
    key, equals, text = flag.partition('=')
    if not key.startswith('--config.') or not equals:
      raise UserError(
        f'{flag!r} is not a flag of this command; keys of the recipe are changed with '
        '--config.KEY=VALUE'
      )
    key = key.removeprefix('--config.')
    values[key] = fields.parse(text, fields.type_of(Experiment, key.split('.')))
  return values


def as_flag(key: str, value: Any) -> str:
  """The flag that `from_flags` reads as this key and value; it is not quoted for a shell."""
  return f'--config.{key}={fields.as_text(value)}'


def shipped() -> dict[str, str]:
  """Our recipes by name, with the first line of what they say of themselves."""
  found = {}
  for path in sorted(SHIPPED.glob('*.py')):
    words = ast.get_docstring(ast.parse(path.read_text())) or ''
    found[path.stem] = words.partition('\n')[0]
  return found


def load_sweep(spec: str) -> list[dict[str, Any]]:
  """The runs of a sweep, each as {key of the recipe: value}, from `get_sweep()` of its file.

  One empty run where the file defines no sweep.
  """
  path, arg = _split(spec)
  module = _load(path)
  if not hasattr(module, 'get_sweep'):
    return [{}]
  takes_arg = bool(inspect.signature(module.get_sweep).parameters)
  runs = module.get_sweep(arg) if arg and takes_arg else module.get_sweep()
  for run in runs:
    if not isinstance(run, dict) or not all(isinstance(key, str) for key in run):
      raise UserError(
        f'--config: get_sweep() of {path} must return a list such as '
        f"[{{'optim.lr': 1e-3}}, ...], but one of its runs is {run!r}"
      )
  return [dict(run) for run in runs]


METHODS = ('train', 'bag_of_words')


class System(NamedTuple):
  """One row of a comparison, as `get_comparison()` of a recipe has it.

  Attributes:
    name: what `get_config` of the recipe takes.
    year: of its publication.
    choices: {key of the recipe: value} of each of the ways to train it, of which held-out
      training images choose one; it may be empty.
    teacher: name of a system before it, whose weights it learns from.
    method: one of `METHODS`: train the recipe's model, or a bag of visual words in its place.
  """

  name: str
  year: int
  choices: list[dict[str, Any]] = []
  teacher: str = ''
  method: str = 'train'


def load_comparison(spec: str) -> list[System]:
  """The systems that a recipe compares, in the order in which they are trained.

  Raises:
    UserError: it has none, a key is wrong, or a teacher is not before its student.
  """
  path, _ = _split(spec)
  module = _load(path)
  right = (
    "it must return a list such as [dict(name='ResNet', year=2015, choices=[{'optim.lr': 1e-3}])]"
  )
  if not hasattr(module, 'get_comparison'):
    raise UserError(
      f'--config: {path} compares nothing: it has no function get_comparison(); {right}'
    )
  systems: list[System] = []
  for row in module.get_comparison():
    if not isinstance(row, dict) or not {'name', 'year'} <= set(row) <= set(System._fields):
      raise UserError(f'--config: get_comparison() of {path} has {row!r}; {right}')
    system = System(**row)
    before = [other.name for other in systems]
    if system.method not in METHODS:
      raise UserError(
        f'--config: in get_comparison() of {path} the method of {system.name!r} is '
        f'{system.method!r}; {nearest(system.method, METHODS)}'
      )
    if system.name in before:
      raise UserError(f'--config: get_comparison() of {path} has {system.name!r} twice')
    if system.teacher and system.teacher not in before:
      raise UserError(
        f'--config: in get_comparison() of {path} the teacher {system.teacher!r} '
        f'must come before its student {system.name!r}'
      )
    systems.append(system)
  if not systems:
    raise UserError(f'--config: get_comparison() of {path} is empty; {right}')
  return systems


def _split(spec: str) -> tuple[Path, str]:
  """(file, argument or '') of 'FILE:ARG' or 'NAME:ARG'."""
  file, _, arg = spec.partition(':')
  path = Path(file).expanduser()
  if path.suffix != '.py' or not path.is_file():
    ours = SHIPPED / f'{file.removeprefix("configs/").removesuffix(".py")}.py'
    beside = [other.name for other in path.parent.glob('*.py')] if path.suffix else []
    if ours.parent != SHIPPED or not ours.is_file():
      hint = nearest(path.name, beside) if beside else nearest(path.stem, shipped())
      raise UserError(f'--config: there is no recipe {file}; {hint}')
    path = ours
  return path, arg


def _load(path: Path) -> ModuleType:
  module_spec = importlib.util.spec_from_file_location(path.stem, path)
  assert module_spec and module_spec.loader
  module = importlib.util.module_from_spec(module_spec)
  module_spec.loader.exec_module(module)
  return module


def _merged(values: Mapping[str, Any], updates: Mapping[str, Any], kind: Any) -> dict[str, Any]:
  """`values` with `updates`, as `recipe` takes them; both have keys of the dataclass `kind`."""
  merged = dict(values)
  for key, value in updates.items():
    key, dot, below = key.partition('.')
    value, inner = {below: value} if dot else value, fields.type_of(kind, [key])
    if dot or dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
      group = merged.get(key)
      value = _merged(group if isinstance(group, Mapping) else {}, value, inner)
    merged[key] = value
  return merged
