"""Checks of a model's options against the fields of its module."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any

from vit_jax.errors import UserError, nearest


def take(cls: type, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
  """(an instance of the dataclass `cls` from the options that are its fields, the others).

  Raises:
    UserError: an option has a value that its field does not take.
  """
  names = {field.name for field in dataclasses.fields(cls)}
  own = {name: options[name] for name in names & options.keys()}
  check_options(cls, own, ())
  return cls(**own), {name: options[name] for name in options.keys() - names}


def check_options(cls: type, options: Mapping[str, Any], fixed: tuple[str, ...]) -> None:
  """Raises a UserError unless each option is a field of `cls` with a value it takes.

  Args:
    fixed: fields that are no options.
  """
  hints = typing.get_type_hints(cls)
  fields = {f.name: f for f in dataclasses.fields(cls) if f.name not in (*fixed, 'parent', 'name')}
  for name, value in options.items():
    if name not in fields:
      raise UserError(f'model option {name!r} is unknown; {nearest(name, fields)}')
    if not _fits(value, hints[name]):
      raise UserError(f'model option {name} is {value!r}; it must be {_words(hints[name])}')
    limits = fields[name].metadata
    numbers = value if isinstance(value, list | tuple) else [value]
    if limits and not all(limits['low'] <= number <= limits['high'] for number in numbers):
      low, high = limits['low'], limits['high']
      right = f'lie in [{low:g}, {high:g}]' if high < math.inf else f'be at least {low:g}'
      raise UserError(f'model option {name} is {value!r}; it must {right}')


def _fits(value: Any, hint: Any) -> bool:
  args = typing.get_args(hint)
  if typing.get_origin(hint) is typing.Literal:
    return any(value == arg and type(value) is type(arg) for arg in args)
  if typing.get_origin(hint) is tuple:  # of any length; a recipe's JSON has lists
    return isinstance(value, list | tuple) and all(_fits(item, args[0]) for item in value)
  if args:
    return any(_fits(value, arg) for arg in args)
  if hint is float:
    return type(value) in (int, float)
  return type(value) is hint


def _words(hint: Any) -> str:
  args = typing.get_args(hint)
  if typing.get_origin(hint) is typing.Literal:
    return ' or '.join(repr(arg) for arg in args)
  if typing.get_origin(hint) is tuple:
    return 'a list, each of it ' + _words(args[0])
  if args:
    return ' or '.join(_words(arg) for arg in args)
  return {int: 'a whole number', float: 'a number', bool: 'true or false'}[hint]
