"""Fields of dataclasses with a range, and dataclasses from the keys and values of a recipe."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal

from vit_jax.errors import UserError, nearest


def bounded(
  default: Any = dataclasses.MISSING, low: float = -math.inf, high: float = math.inf
) -> Any:
  """A field whose number, or each of whose numbers, must lie in [low, high]."""
  return dataclasses.field(default=default, metadata={'low': low, 'high': high})


def build(cls: Any, values: Any, where: str) -> Any:
  """Builds dataclass `cls` from a mapping, checking every key, type and range."""
  if not isinstance(values, Mapping):
    raise UserError(f'{where} must be a group of keys, not {values!r}')
  values = dict(values)
  if hasattr(cls, 'from_keys'):  # some of its keys are checked elsewhere
    return cls.from_keys(values, where)
  hints, fields = typing.get_type_hints(cls), {f.name: f for f in dataclasses.fields(cls)}
  for key in values:
    if key not in fields:
      raise UserError(f'{where}.{key} is not a key; {nearest(key, fields)}')
  built = {
    key: check(value, hints[key], f'{where}.{key}', fields[key].metadata)
    for key, value in values.items()
  }
  try:
    return cls(**built)
  except UserError as error:
    raise UserError(f'{where}: {error}') from None


def check(value: Any, hint: Any, where: str, limits: Mapping[str, float]) -> Any:
  """Returns `value` as type `hint`, or raises a UserError that says what would be right."""
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if dataclasses.is_dataclass(hint):
    return build(typing.cast(type, hint), value, where)
  if value is None:
    raise UserError(f'{where} is missing: it needs a value')
  if origin is Literal:
    if value not in args:
      raise UserError(f'{where} is {value!r}; it must be one of: {", ".join(map(str, args))}')
    return value
  if origin is tuple:
    if not isinstance(value, (tuple, list)) or (args[-1] is not ... and len(value) != len(args)):
      raise UserError(f'{where} is {value!r}; it must be {_words(hint)}')
    return tuple(check(item, args[0], where, limits) for item in value)
  if origin is Mapping:
    if not isinstance(value, Mapping):
      raise UserError(f'{where} is {value!r}; it must be a dictionary')
    return {str(k): check(v, args[1], f'{where}.{k}', {}) for k, v in value.items()}
  if hint is float and type(value) is int:
    value = float(value)
  if type(value) is not hint:
    raise UserError(f'{where} is {value!r}; it must be {_words(hint)}')
  if hint in (int, float):
    low, high = limits.get('low', -math.inf), limits.get('high', math.inf)
    if not low <= value <= high:  # also refuses NaN
      bounds = f'at least {low:g}' if high == math.inf else f'between {low:g} and {high:g}'
      raise UserError(f'{where} is {value!r}; it must be {bounds}')
  return value


def _words(hint: Any) -> str:
  """A type as a user would say it."""
  names = {int: 'a whole number', float: 'a number', bool: 'True or False', str: 'text'}
  if typing.get_origin(hint) is tuple:
    args = typing.get_args(hint)
    if typing.get_origin(args[0]) is Literal:
      return f'a list of some of: {", ".join(typing.get_args(args[0]))}'
    count = 'several' if args[-1] is ... else str(len(args))
    return f'{count} numbers such as ({", ".join(["1"] * (3 if args[-1] is ... else len(args)))})'
  return names[hint]
