"""Dataclasses to and from the keys and values of a recipe, and their fields with a range."""

import ast
import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from vit_jax.errors import UserError, nearest

MOST = 2**31 - 1  # of whole numbers: steps, rows and sizes are 32 bits on devices


def bounded(
  default: Any = dataclasses.MISSING, low: float = -math.inf, high: float = math.inf
) -> Any:
  """A field whose number, or each of whose numbers, must be in [low, high].

  Without `high` a whole number may be up to `MOST`, and a float any finite one.
  """
  return dataclasses.field(default=default, metadata={'low': low, 'high': high})


def tag(kind: str) -> Any:
  """The field `kind`, which says what a group of keys is; a recipe always has it."""
  return dataclasses.field(default=kind, metadata={'tag': True})


def build(cls: Any, values: Any, where: str) -> Any:
  """Builds dataclass `cls` from a mapping, checking every key, type and range.

  A dataclass whose keys are not its fields has its own `from_keys(values, where)`, `to_keys()` and
  `changes(default)` in place of `build`, `plain` and `changes`, and `types()`: the type of each
  key.

  Raises:
    UserError: an unknown key, a wrong type, a value out of range, or keys that contradict each
      other: `cls.__post_init__` raises a sentence that begins with one of them.
  """
  if not isinstance(values, Mapping):
    raise UserError(f'{where} must be a group of keys, not {values!r}')
  values = dict(values)
  if hasattr(cls, 'from_keys'):
    return cls.from_keys(values, where)
  hints, fields = typing.get_type_hints(cls), {f.name: f for f in dataclasses.fields(cls)}
  for key in values:
    if key not in fields:
      raise UserError(f'{where}.{key} is not a key; {nearest(str(key), fields)}')
  built = {
    key: check(value, hints[key], f'{where}.{key}', fields[key].metadata)
    for key, value in values.items()
  }
  try:
    return cls(**built)
  except UserError as error:
    raise UserError(f'{where}.{error}') from None


def check(value: Any, hint: Any, where: str, limits: Mapping[str, float]) -> Any:
  """`value` as type `hint`; else raises a UserError that says what would be right."""
  origin, args = typing.get_origin(hint), typing.get_args(hint)
  if isinstance(hint, types.UnionType):
    hint = _variant(hint, value, where)
  if dataclasses.is_dataclass(hint):
    return build(typing.cast(type, hint), value, where)
  if value is None:
    raise UserError(f'{where} is missing: it needs a value')
  if origin is Literal:
    if not any(value == arg and type(value) is type(arg) for arg in args):
      raise UserError(f'{where} is {_shown(value)}; it must be one of: {", ".join(map(str, args))}')
    return value
  if origin is tuple:
    if not isinstance(value, (tuple, list)) or (args[-1] is not ... and len(value) != len(args)):
      raise UserError(f'{where} is {_shown(value)}; it must be {_words(hint)}')
    return tuple(check(item, args[0], f'{where}[{i}]', limits) for i, item in enumerate(value))
  if origin is Mapping:
    if not isinstance(value, Mapping):
      raise UserError(f'{where} is {_shown(value)}; it must be a dictionary')
    for name in value:
      if not isinstance(name, str) or not name or '.' in name:
        raise UserError(f'{where} has the name {name!r}; a name must be text without a dot')
    return {name: check(v, args[1], f'{where}.{name}', {}) for name, v in value.items()}
  if hint is float and type(value) is int:
    try:
      value = float(value)
    except OverflowError:
      raise UserError(f'{where} is too large; it must be a finite number') from None
  if type(value) is not hint:
    raise UserError(f'{where} is {_shown(value)}; it must be {_words(hint)}')
  if hint in (int, float):
    low, high = limits.get('low', -math.inf), limits.get('high', math.inf)
    most = MOST if hint is int and high == math.inf else high
    if not low <= value <= most or not math.isfinite(value):
      bounds = f'between {low:g} and {high:g}' if high < math.inf else f'at least {low:g}'
      if high == math.inf and value > low:
        bounds = f'at most {MOST}' if hint is int else 'finite'
      raise UserError(f'{where} is {_shown(value)}; it must be {bounds}')
  return value


def _shown(value: Any) -> str:
  """A value in a sentence."""
  try:
    text = repr(value)
  except ValueError:  # Python writes no number of more than 4,300 digits
    return f'a number of {value.bit_length():,} bits'
  if text.startswith('<'):
    return f'of type {type(value).__name__}'
  return text if len(text) < 100 else f'{text[:60]} ... {text[-20:]}'


def _variant(hint: types.UnionType, value: Any, where: str) -> Any:
  """Which dataclass of a union is meant by the key `kind`; without it the first."""
  first, *others = [cls for cls in typing.get_args(hint) if cls is not types.NoneType]
  if not isinstance(value, Mapping) or 'kind' not in value:
    return first
  kinds = {
    kind: cls
    for cls in (first, *others)
    for kind in typing.get_args(typing.get_type_hints(cls).get('kind'))
  }
  if others and value['kind'] not in kinds:
    raise UserError(f'{where}.kind is {value["kind"]!r}; it must be one of: {", ".join(kinds)}')
  return kinds.get(value['kind'], first)


def plain(value: Any) -> Any:
  """A dataclass as nested dictionaries that JSON can hold; `build` reads it back.

  A field that is None has no key.
  """
  if hasattr(value, 'to_keys'):
    value = value.to_keys()
  elif dataclasses.is_dataclass(value):
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    value = {name: field for name, field in fields.items() if field is not None}
  if isinstance(value, Mapping):
    return {key: plain(item) for key, item in value.items()}
  return [plain(item) for item in value] if isinstance(value, tuple) else value


def flat(tree: Mapping[str, Any], where: str = '') -> dict[str, Any]:
  """{key with dots: value} of nested dictionaries."""
  leaves: dict[str, Any] = {}
  for name, value in tree.items():
    key = f'{where}.{name}' if where else name
    leaves |= flat(value, key) if isinstance(value, Mapping) else {key: value}
  return leaves


def changes(value: Any, default: Any) -> dict[str, Any]:
  """As `plain`, but only the keys whose values differ from those of `default`."""
  changed = {}
  for field in dataclasses.fields(value):
    ours, theirs = getattr(value, field.name), getattr(default, field.name)
    if (ours == theirs or ours is None) and 'tag' not in field.metadata:
      continue
    if ours is not None and hasattr(ours, 'changes'):
      changed[field.name] = ours.changes(theirs)
    elif dataclasses.is_dataclass(ours):
      changed[field.name] = changes(ours, theirs if type(theirs) is type(ours) else type(ours)())
    elif isinstance(ours, Mapping):  # of the user's own names
      changed[field.name] = {
        name: changes(item, _defaults(item)) if dataclasses.is_dataclass(item) else plain(item)
        for name, item in ours.items()
      }
    else:
      changed[field.name] = plain(ours)
  return changed


def _defaults(value: Any) -> types.SimpleNamespace:
  """The default of each field that has one; a class may have fields that need a value."""
  found = {}
  for field in dataclasses.fields(value):
    if field.default is not dataclasses.MISSING:
      found[field.name] = field.default
    elif field.default_factory is not dataclasses.MISSING:
      found[field.name] = field.default_factory()
  return types.SimpleNamespace(**found)


def merged(values: Mapping[str, Any], updates: Mapping[str, Any], kind: Any) -> dict[str, Any]:
  """`values` with `updates`, both with the keys of dataclass `kind`, nested or with dots.

  In a group of keys, those not named keep their values. A group of which one key at most is set
  (its class has `ONE_OF`), and a mapping of the user's own names, are replaced. Of the keys
  in `EXCLUSIVE` of a class one at most is set: another one takes its place.
  """
  found = dict(values)
  parts = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
  exclusive = {key for part in parts for key in getattr(part, 'EXCLUSIVE', ())}
  for key, value in updates.items():
    if not isinstance(key, str):
      raise UserError(f'{key!r} is not a key; a key must be text such as optim.lr')
    key, dot, _ = key.partition('.')
    if key in exclusive and value:
      found = {other: v for other, v in found.items() if other in updates or other not in exclusive}
    inner = type_of(kind, [key])
    if dot:  # all of the group at once, for they may exclude each other
      value = {k[len(key) + 1 :]: v for k, v in updates.items() if k.startswith(f'{key}.')}
    if dot or isinstance(value, Mapping) and _is_group(inner):
      group = found.get(key)
      group = group if isinstance(group, Mapping) else {}
      # Of another class, which has other keys.
      other = not dot and _is_choice(inner) and _kind(value, inner) != _kind(group, inner)
      if hasattr(inner, 'ONE_OF'):  # what came before these updates gives way to them
        group = {}
      value = merged({} if other else group, value, inner)
    found[key] = value
  return found


def _is_choice(hint: Any) -> bool:
  """Whether a group is of one of several classes, as its key `kind` says."""
  parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else ()
  return sum(map(dataclasses.is_dataclass, parts)) > 1


def _kind(values: Mapping[str, Any], hint: Any) -> Any:
  return values.get('kind', typing.get_args(hint)[0]().kind)


def _is_group(hint: Any) -> bool:
  parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
  return any(dataclasses.is_dataclass(part) and not hasattr(part, 'ONE_OF') for part in parts)


def type_of(hint: Any, path: Sequence[str]) -> Any:
  """The type of the key at `path` below a dataclass or mapping of type `hint`, or None."""
  for key in path:
    if isinstance(hint, types.UnionType):
      found = (type_of(cls, [key]) for cls in typing.get_args(hint))
      hint = next((hint for hint in found if hint is not None), None)
    elif typing.get_origin(hint) is Mapping:
      hint = typing.get_args(hint)[1]
    elif hasattr(hint, 'types'):
      hint = hint.types().get(key)
    elif dataclasses.is_dataclass(hint):
      hint = typing.get_type_hints(hint).get(key)
    else:
      return None
  return hint


def parse(text: str, hint: Any) -> Any:
  """`text` as a value of type `hint`; unchanged if it is none, which `check` then refuses."""
  choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
  if hint in (None, str):
    return text
  for value in (*choices, *((True, False) if hint is bool else ())):
    if text == str(value) or isinstance(value, bool) and text.lower() == str(value).lower():
      return value
  try:
    return text if choices else ast.literal_eval(text)
  except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # of deep brackets
    return text


def whole(text: str) -> int | None:
  """The whole number that ASCII digits say; None of any other text."""
  return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def as_text(value: Any) -> str:
  """Text that `parse` reads back as `value`."""
  return value if isinstance(value, str) else repr(value)


def _words(hint: Any) -> str:
  """A type as a user would say it."""
  if typing.get_origin(hint) is not tuple:
    return {int: 'a whole number', float: 'a number', bool: 'True or False', str: 'text'}[hint]
  args = typing.get_args(hint)
  if typing.get_origin(args[0]) is Literal:
    return f'a list of some of: {", ".join(typing.get_args(args[0]))}'
  if args[-1] is ...:
    return 'several numbers such as (1, 1, 1)'
  return f'{len(args)} numbers such as ({", ".join(["1"] * len(args))})'
