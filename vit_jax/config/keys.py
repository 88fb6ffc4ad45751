"""All keys of a recipe as text, read from the schema: key, default, what it is.

What a key is comes from where it is declared: the comment at its field, or the class's docstring.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from vit_jax.config.durations import LENGTHS, Duration
from vit_jax.config.schema import Experiment, Model
from vit_jax.fields import plain
from vit_jax.models.names import MODELS

WIDTH = 100
KEY, DEFAULT = 21, 15  # columns
KINDS = 'of images', 'of sentences'  # what runs learn from, where their keys differ


class Key(NamedTuple):
  """A key of a recipe."""

  group: str  # such as 'config.optim'
  name: str  # below the group
  default: str
  about: str  # its choices, and what it is


def describe() -> str:
  """Every key of a recipe, by group."""
  lines, group = [], None
  for key in all_keys():
    if key.group != group:
      lines += ['', key.group]
      group = key.group
    line = f'  {key.name:<{KEY}} {key.default:<{DEFAULT}} '
    about = _cut(key.about, WIDTH - len(line)) or ['']
    lines += [(line + about[0]).rstrip(), *(' ' * len(line) + more for more in about[1:])]
  return '\n'.join(
    [
      'keys of a recipe, as in --config.optim.lr=1e-3: key, default, what it is',
      *lines,
      '',
      f'LENGTH is one of {", ".join(LENGTHS)}: --config.optim.warmup.epochs=5',
    ]
  )


def all_keys() -> list[Key]:
  """In the order of the schema; the keys of a group after those that are not in one."""
  return list(_keys(Experiment, 'config'))


def _keys(cls: Any, group: str) -> Iterator[Key]:
  hints, notes, inner = typing.get_type_hints(cls), notes_of(cls), []
  for field in dataclasses.fields(cls):
    hint, name, about = hints[field.name], field.name, notes.get(field.name, '')
    default = _default(field)
    parts = [hint] if not isinstance(hint, types.UnionType) else list(typing.get_args(hint))
    if hint is Model:
      inner.append((Model, name))
    elif hint is Duration:
      yield Key(group, f'{name}.LENGTH', _duration(default), about)
    elif typing.get_origin(hint) is Mapping:
      value = typing.get_args(hint)[1]
      several = typing.get_args(value) if isinstance(value, types.UnionType) else [value]
      inner += [(part, f'{name}.NAME') for part in several]
    elif found := [part for part in parts if dataclasses.is_dataclass(part)]:
      if found == [Experiment]:
        yield Key(group, name, 'none', about)
      else:
        inner += [(part, name) for part in found]
    else:
      yield Key(group, name, _text(default), _about(hint, about))
  for part, name in inner:
    place = f'{group}.{name}'
    if part is Model:
      yield from _model_keys(place)
      continue
    same = [other for other, of in inner if of == name]
    title = f'{place}, {KINDS[same.index(part)]}' if len(same) > 1 else place
    yield from _keys(part, title)


def _model_keys(group: str) -> Iterator[Key]:
  """Of the families of models: an option under the first one that has it."""
  if group != 'config.model':
    yield Key(group, 'name', "''", 'and its options, as of config.model')
    return
  yield Key(group, 'name', Experiment().model.name, '`vit_jax models` lists them')
  seen = set()
  for cls in dict.fromkeys(entry.options for entry in MODELS.values()):
    hints, notes = typing.get_type_hints(cls), notes_of(cls)
    family = cls.__name__.removesuffix('Options')
    for field in dataclasses.fields(cls):
      if field.name not in seen:
        seen.add(field.name)
        missing = field.default is dataclasses.MISSING
        about = _about(hints[field.name], notes.get(field.name, ''))
        about = about if family == 'ViT' else f'{family}: {about}'
        yield Key(group, field.name, 'of the name' if missing else _text(field.default), about)


def notes_of(cls: Any) -> dict[str, str]:
  """What is said of each field, by the comments and docstrings of the class and its bases."""
  found: dict[str, str] = {}
  for base in reversed(cls.__mro__):
    if dataclasses.is_dataclass(base):
      found |= _attributes(inspect.getdoc(base) or '') | _comments(base)
  return found


def _attributes(doc: str) -> dict[str, str]:
  """{name: text} of the section "Attributes" of a docstring."""
  _, _, section = doc.partition('Attributes:\n')
  found, names = {}, []
  for line in section.splitlines():
    head, colon, text = line.strip().partition(': ')
    if line.startswith('  ') and not line.startswith('   ') and colon:
      names = head.split(', ')
      found |= dict.fromkeys(names, text)
    elif line.startswith('   '):
      found |= {name: f'{found[name]} {line.strip()}' for name in names}
  return found


def _comments(cls: Any) -> dict[str, str]:
  """{name: comment at the end of its line, or on the lines above it}."""
  source = textwrap.dedent(inspect.getsource(cls))
  lines, found = source.splitlines(), {}
  (tree,) = ast.parse(source).body
  for node in getattr(tree, 'body', []):
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
      last = lines[(node.end_lineno or node.lineno) - 1].encode()[node.end_col_offset or 0 :]
      about, row = last.decode().strip(), node.lineno - 2
      above = []
      while not about and lines[row].strip().startswith('#'):
        above.insert(0, lines[row].strip(' #'))
        row -= 1
      about = '' if about.startswith('# pyright') else about
      if about or above:
        found[node.target.id] = about.strip(' #') or ' '.join(above)
  return found


def _cut(text: str, room: int) -> list[str]:
  """The choices and what comes first, in lines; and more of it, where they have room."""
  clauses = re.split(r'(?<=[.;])\s', re.sub(r' \(arXiv[^)]*\)', '', text))
  needed = 2 if '|' in clauses[0] else 1
  found = ' '.join(clauses[:needed])
  lines = textwrap.wrap(found.rstrip('.;'), room)
  for clause in clauses[needed:]:
    found = f'{found} {clause}'
    if len(more := textwrap.wrap(found.rstrip('.;'), room)) > len(lines):
      break
    lines = more
  return lines


def _about(hint: Any, about: str) -> str:
  choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
  values = '|'.join(str(choice) for choice in choices) if len(choices) > 1 else ''
  return '; '.join(filter(None, [values, about]))


def _default(field: Any) -> Any:
  if field.default_factory is not dataclasses.MISSING:
    return field.default_factory()
  return field.default


def _text(value: Any) -> str:
  if isinstance(value, tuple):
    return '(' + ', '.join(_text(item) for item in value) + ')' if value else '()'
  if isinstance(value, float):
    return f'{value:g}'
  return "''" if value == '' else str(value)


def _duration(value: Duration) -> str:
  return next((f'{name}={number:g}' for name, number in plain(value).items() if number), 'none')
