"""Recipes: files with `get_config()`, by path or name, and the keys that a caller changes."""

import ast
import importlib.util
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_origin, get_type_hints

from ml_collections import ConfigDict

from vit_jax import fields
from vit_jax.config.resolving import resolve
from vit_jax.config.schema import Experiment
from vit_jax.errors import UserError, first_line, nearest
from vit_jax.fields import merged
from vit_jax.paths import local

# Our recipes: in the package if a wheel was installed, else next to it in the checkout.
_PACKAGE = Path(__file__).parents[1]
SHIPPED = (_PACKAGE if (_PACKAGE / 'configs').is_dir() else _PACKAGE.parent) / 'configs'


def recipe(
  spec: str | Path, updates: Mapping[str, Any] | None = None, /, **keys: Any
) -> Experiment:
  """The experiment of a recipe, with changes: `recipe('deit:B/16', {'optim.lr': 1e-3}, seed=1)`.

  In a group of keys, those not named keep their values; a mapping of the user's own names, such as
  `evals`, is replaced, and so is a length such as `optim.warmup`.

  Args:
    spec: 'FILE', 'FILE:ARG', or one of ours in place of FILE: 'deit:B/16', also as
      'configs/deit.py:B/16' if there is no such file.
    updates: values by key, nested or with dots: {'optim': {'lr': 1e-3}} or {'optim.lr': 1e-3}.
    **keys: the same, of the outermost keys.

  Raises:
    UserError: there is no such recipe or key, or a value does not fit.
  """
  values = load_config(str(spec)).to_dict()
  return resolve(merged(merged(values, updates or {}, Experiment), keys, Experiment))


def update(x: Experiment, updates: Mapping[str, Any]) -> Experiment:
  """The experiment with changes, which are given and checked as in `recipe`."""
  # On its changes alone, because another model's name has other defaults.
  return resolve(merged(x.changes(), updates, Experiment))


def load_config(spec: str) -> ConfigDict:
  """The ConfigDict of a recipe; see `recipe` for `spec`."""
  path, module, arg = _load(spec)
  if not callable(getattr(module, 'get_config', None)):
    raise UserError(f'--config: {path} has no function get_config()')
  found = _call(module.get_config, arg, path)
  if not isinstance(found, ConfigDict):
    raise UserError(
      f'--config: get_config() of {path} returns a {type(found).__name__}; it must return an '
      'ml_collections.ConfigDict'
    )
  return found


def from_flags(flags: Sequence[str]) -> dict[str, Any]:
  """{key with dots: value} of '--config.KEY=VALUE' flags, each value read as the type of its key.

  A key of type text takes any text; others take Python literals, and true and false. Text that does
  not fit stays text, which `resolve` refuses.
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
  """Our recipes: name -> first line of its docstring."""
  found = {}
  for path in sorted(SHIPPED.glob('*.py')):
    words = ast.get_docstring(ast.parse(path.read_text())) or ''
    found[path.stem] = words.partition('\n')[0]
  return found


def load_sweep(spec: str) -> list[dict[str, Any]]:
  """The runs of `get_sweep()` of a recipe, each as {key: value}; without it one run, {}."""
  path, module, arg = _load(spec)
  if not hasattr(module, 'get_sweep'):
    return [{}]
  takes = callable(module.get_sweep) and _takes_arg(module.get_sweep)
  runs = _call(module.get_sweep, arg if takes else '', path)
  for run in runs if isinstance(runs, list | tuple) and runs else [runs]:
    if runs is run or not isinstance(run, dict) or not all(isinstance(key, str) for key in run):
      raise UserError(
        f'--config: get_sweep() of {path} must return a list such as '
        f"[{{'optim.lr': 1e-3}}, ...], but one of its runs is {run!r}"
      )
  return [dict(run) for run in runs]


METHODS = ('train', 'bag_of_words')


class System(NamedTuple):
  """One row of a comparison, as `get_comparison()` of a recipe returns it."""

  name: str  # what `get_config` of the recipe takes
  year: int = 0  # of its publication, by which the table is ordered; of all systems or of none
  # {key of the recipe: value} of each way to train it; held-out training images choose one.
  choices: list[dict[str, Any]] = []
  teacher: str = ''  # an earlier system, whose weights it learns from
  method: str = 'train'  # of the recipe's model, or a bag of visual words in its place
  seeds: int = 0  # it is trained with the first so many of the command's; 0: with all


def load_comparison(spec: str) -> list[System]:
  """The systems that a recipe compares, in the order in which they are trained.

  Raises:
    UserError: it has none, a key is wrong, or a teacher is not before its student.
  """
  path, module, arg = _load(spec)
  right = "it must return a list such as [dict(name='ResNet', choices=[{'optim.lr': 1e-3}])]"
  if not hasattr(module, 'get_comparison'):
    raise UserError(
      f'--config: {path} compares nothing: it has no function get_comparison(); {right}'
    )
  where = f'--config: get_comparison() of {path}'
  systems: dict[str, System] = {}
  rows = _call(module.get_comparison, arg, path)
  for row in rows if isinstance(rows, list | tuple) else [None]:
    if not isinstance(row, dict) or not {'name'} <= set(row) <= set(System._fields):
      raise UserError(f'{where} has {row or rows!r}; {right}')
    system = System(**row)
    for key, kind in get_type_hints(System).items():
      if not isinstance(getattr(system, key), get_origin(kind) or kind):
        raise UserError(f'{where} has {key}={getattr(system, key)!r} in {row!r}; {right}')
    if (
      not system.name
      or system.seeds < 0
      or not all(isinstance(choice, dict) for choice in system.choices)
    ):
      raise UserError(f'{where} has {row!r}; {right}')
    name, teacher, method = system.name, system.teacher, system.method
    if method not in METHODS:
      raise UserError(f'{where}: the method of {name!r} is {method!r}; {nearest(method, METHODS)}')
    if name in systems:
      raise UserError(f'{where} has {name!r} twice')
    if teacher and teacher not in systems:
      raise UserError(f'{where}: the teacher {teacher!r} must come before its student {name!r}')
    if teacher and not _as_many(systems[teacher].seeds, system.seeds):
      raise UserError(
        f'{where}: {name!r} has {system.seeds or "all"} seeds, and its teacher {teacher!r} '
        f'{systems[teacher].seeds}; a student needs a teacher of each of its seeds'
      )
    systems[name] = system
  if not systems:
    raise UserError(f'{where} is empty; {right}')
  if len({system.year > 0 for system in systems.values()}) > 1:
    raise UserError(f'{where} has a year in some rows only; give it to all of them or to none')
  return [*systems.values()]


def _load(spec: str) -> tuple[Path, ModuleType, str]:
  """(file, module, argument or '') of 'FILE:ARG' or 'NAME:ARG'."""
  file, _, arg = spec.partition(':')
  path = local(spec if arg.startswith('/') else file)  # refuses an address, which has a ':' too
  if path.suffix != '.py' or not path.is_file():
    ours = SHIPPED / f'{file.removeprefix("configs/").removesuffix(".py")}.py'
    beside = [other.name for other in path.parent.glob('*.py')] if path.suffix else []
    if ours.parent != SHIPPED or not ours.is_file():
      hint = nearest(path.name, beside) if beside else nearest(path.stem, shipped())
      raise UserError(f'--config: there is no recipe {file}; {hint}')
    path = ours
  module_spec = importlib.util.spec_from_file_location(path.stem, path)
  assert module_spec and module_spec.loader  # its name ends in .py
  module = importlib.util.module_from_spec(module_spec)
  with _reading(path):
    module_spec.loader.exec_module(module)
  return path, module, arg


def _call(function: Callable[..., Any], arg: str, path: Path) -> Any:
  """What a function of a recipe returns for the argument, or without one."""
  with _reading(path):
    if arg and not _takes_arg(function):
      raise UserError(f'--config: {path} takes no argument, but {arg!r} follows the colon')
    return function(arg) if arg else function()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
  """Around code of a recipe: what it raises is a UserError with its line."""
  try:
    yield
  except UserError:
    raise
  except (Exception, SystemExit) as error:  # it is the user's, and may raise anything
    lines = [
      frame.lineno
      for frame in traceback.extract_tb(error.__traceback__)
      if frame.filename == str(path)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f'{path}, line {line}' if line else str(path)
    if isinstance(error, ValueError):
      raise UserError(f'--config: {where}: {first_line(error)}') from None
    why = f'{type(error).__name__}: {first_line(error)}'.removesuffix(': ')
    more = '; a recipe imports ml_collections alone' if isinstance(error, ImportError) else ''
    raise UserError(f'--config: {where} fails: {why}{more}') from None


def _as_many(teachers: int, students: int) -> bool:
  return not teachers or 0 < students <= teachers


def _takes_arg(function: Callable[..., Any]) -> bool:
  return bool(inspect.signature(function).parameters)
