"""Recipes: a file with `get_config()`, and the keys of it that a command line changes."""

from __future__ import annotations

import ast
import importlib.util
import inspect
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vit_jax.errors import UserError, nearest


def load_config(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
  """The ConfigDict of 'FILE' or 'FILE:ARG', with '--config.KEY=VALUE' overrides set in it.

  A value is read as a Python literal where it is one, and as text elsewhere. A key that the
  recipe leaves at its default is added; `config.resolve` then refuses keys that do not exist.
  """
  path, arg = _split(spec)
  module = _load(path)
  if not hasattr(module, 'get_config'):
    raise UserError(f'--config: {path} has no function get_config()')
  takes_arg = bool(inspect.signature(module.get_config).parameters)
  if arg and not takes_arg:
    raise UserError(f'--config: {path} takes no argument, but {arg!r} follows the colon')
  try:
    recipe = module.get_config(arg) if arg else module.get_config()
  except ValueError as error:
    raise UserError(f'--config: {path}: {error}') from None
  return override(recipe, overrides)


def override(recipe: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
  """The recipe, with '--config.KEY=VALUE' set in it; see `load_config`."""
  for text in overrides:
    _override(recipe, text)
  return recipe


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


class System(NamedTuple):
  """One row of a comparison, as `get_comparison()` of a recipe has it.

  Attributes:
    name: what `get_config` of the recipe takes.
    year: of its publication.
    choices: {key of the recipe: value} of each of the ways to train it, of which held-out
      training images choose one; it may be empty.
    teacher: name of a system before it, whose weights it learns from.
  """

  name: str
  year: int
  choices: list[dict[str, Any]] = []
  teacher: str = ''


def load_comparison(path: Path) -> list[System]:
  """The systems that a recipe compares, in the order in which they are trained.

  Raises:
    UserError: it has none, a key is wrong, or a teacher is not before its student.
  """
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
  file, _, arg = spec.partition(':')
  return Path(file), arg


def _load(path: Path) -> ModuleType:
  if not path.is_file():
    others = sorted(path.parent.glob('*.py')) if path.parent.is_dir() else []
    hint = (
      nearest(path.name, [other.name for other in others])
      if others
      else f'the folder {path.parent} does not exist or holds no recipes'
    )
    raise UserError(f'--config: there is no file {path}; {hint}')
  module_spec = importlib.util.spec_from_file_location(path.stem, path)
  assert module_spec and module_spec.loader
  module = importlib.util.module_from_spec(module_spec)
  module_spec.loader.exec_module(module)
  return module


def _override(recipe: ConfigDict, text: str) -> None:
  key, equals, value = text.partition('=')
  if not key.startswith('--config.') or not equals:
    raise UserError(
      f'{text!r} is not a flag of this command; keys of the recipe are changed with '
      '--config.KEY=VALUE'
    )
  *groups, last = key.removeprefix('--config.').split('.')
  node = recipe
  for group in groups:
    if group not in node:
      with node.unlocked():
        node[group] = ConfigDict()
    node = node[group]
    if not isinstance(node, ConfigDict):
      raise UserError(f'{key} cannot be set: config.{group} is a value, not a group of keys')
  with node.unlocked(), node.ignore_type():
    node[last] = _literal(value)


def _literal(text: str) -> Any:
  if text.lower() in ('true', 'false'):
    return text.lower() == 'true'
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text
