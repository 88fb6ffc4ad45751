"""Command lines: every key of the schema and every flag of every command, with values of all kinds.

Keys and flags are read from the schema and from the parsers, so that new ones are tried too.
"""

import argparse
import dataclasses
import importlib
import math
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tests.storm.verdicts import SECRET, Case
from tests.storm.world import World
from vit_jax.commands import COMMANDS
from vit_jax.config import Experiment
from vit_jax.config.schema import Model
from vit_jax.models import option_types

# Of no number of the schema, whatever its range.
NO_NUMBER = (
  'abc', '1e999', '-1e999', 'nan', 'inf', '-inf', '1j', '{1, 2}', "b'x'", '[]', '()', '{}', 'None',
  '²', '١٢', '', ' ', '10**20', '1_0_', '0x', '1 2', '(1,)', '"1"', '...', 'lambda: 1', '1\n2',
  '[' * 300, '9' * 5000,
)  # fmt: skip
HUGE = '99999999999999999999999999', '-99999999999999999999999999'
TEXTS = (
  '', ' ', 'a\nb', 'a\tb', '../../x', '.', '..', '~nobody_at_all/x', 'gs://bucket/x', 'x' * 300,
  '\udcff', '‮abc', '{{ x }}', '$(id)', '`id`', "'; id #", '%s%n', 'CON', '<script>',
  'a' + 'é' * 100,
  '@', 'x@y', '#', ':', '1e999', '{1}', 'None',
)  # fmt: skip
NUMBERS = (
  '0', '-1', '1', '²', '١', '1e999', 'nan', 'inf', '1.5', '', 'abc', '10**20', '0x10', '1_0',
  ' 3',
  '99999999999999999999', '3000000000', '-99999999999999999999', '1\n2',
)  # fmt: skip


class Key(NamedTuple):
  """A key of the schema: its path, its type, and the range of its numbers."""

  path: str
  hint: Any
  limits: Mapping[str, float]


def keys(kind: Any = Experiment, where: str = '', depth: int = 0) -> Iterator[Key]:
  """Every key below a dataclass; of the user's own names one, of phases the first."""
  if kind is Model:
    yield Key(f'{where}name', str, {})
    for name, hint in option_types().items():
      yield Key(f'{where}{name}', hint, {})
    return
  hints = typing.get_type_hints(kind)
  for field in dataclasses.fields(kind):
    path, hint = f'{where}{field.name}', hints[field.name]
    if field.name == 'then':
      continue
    yield Key(path, hint, field.metadata)
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if typing.get_origin(hint) is Mapping:
      inner = typing.get_args(hint)[1]
      parts = typing.get_args(inner) if isinstance(inner, types.UnionType) else (inner,)
      path = f'{path}.other'
    elif typing.get_origin(hint) is tuple:
      parts = ()
    for part in parts:
      if dataclasses.is_dataclass(part):
        yield from keys(part, f'{path}.')


def values(key: Key) -> Iterator[tuple[str, str]]:
  """(a value as text, what is expected) of a key."""
  hint, low, high = key.hint, key.limits.get('low', -math.inf), key.limits.get('high', math.inf)
  if hint in (int, float):
    yield from ((text, 'sentence') for text in NO_NUMBER)
    yield from ((text, 'sentence' if hint is int else 'either') for text in HUGE)
    if low > -math.inf:
      yield repr(hint(low - 1)), 'sentence'
    if high < math.inf:
      yield repr(hint(high + 1)), 'sentence'
    yield '1.5' if hint is int else '1.5.5', 'sentence'
    yield 'True', 'sentence'
    yield ('3000000000' if hint is int else '1e308'), 'either'
    yield repr(hint(max(low, 0))), 'either'
  elif hint is bool:
    yield from ((text, 'sentence') for text in ('2', 'yes', '', '²', '{1}', "b'x'", '1e999'))
    yield from (('true', 'either'), ('False', 'either'))
  elif hint is str:
    yield from ((text, 'either') for text in TEXTS)
  elif typing.get_origin(hint) is Literal:
    yield from ((text, 'sentence') for text in ('', 'no_such', '²', '[]', '1e999', 'a\nb'))
    yield from ((str(value), 'either') for value in typing.get_args(hint))
  elif typing.get_origin(hint) is tuple:
    wrong = ('abc', '1', '{1, 2}', "b'x'", '(1e999,) * 2', '(1e999, 1e999, 1e999)', '((1,),)', '²',
             "('a', 'b')", '(nan,)', '(1j, 1j)', '[None]', '(' * 300)  # fmt: skip
    yield from ((text, 'sentence') for text in wrong)
    yield '(3000000000, 3000000000)', 'either'
  else:  # a group of keys
    wrong = ('abc', '1', '[]', '{1, 2}', "b'x'", "{'no such': 1}", "{1: {2: 3}}", "{'a.b': {}}",
             "{'a/b': {}}", '²', '{' * 300, "{'x': {1, 2}}", '{None: 1}', "{'': {}}")  # fmt: skip
    yield from ((text, 'sentence') for text in wrong)
    yield '{}', 'either'


def overrides(world: World) -> list[Case]:
  """Every key with every value, as `launch` resolves a recipe; some as `train --dry_run` does."""
  launch = ['launch', '--print', f'--config={world.recipe}']
  cases = [
    Case(f'config.{key.path}', [*launch, f'--config.{key.path}={text}'], expects)
    for key in keys()
    for text, expects in values(key)
  ]
  for key in ('', '.', 'steps.', '.steps', 'steps.x', 'model..name', 'no_such', 'steps ', 'Steps',
              '__class__', 'model.__init__', 'optim.lr.x.y', 'evals.', 'evals..kind', '²',
              'a' * 300,
              'evals.a/b.kind', 'evals.a.b.c', 'then', 'then.steps', 'then.then.x',
              'evals.train.kind'):  # fmt: skip
    argv = [*launch, f'--config.{key}=1']
    cases.append(Case(f'the key {key[:20]!r}', argv, 'sentence'))
  return cases


class _Seen(Exception):
  """The parser of a command, once it is complete."""


def flags_of(command: str) -> list[argparse.Action]:
  """The flags and arguments of a command, from its own parser."""

  def stop(parser, *args, **keys):
    raise _Seen(parser)

  kept, argparse.ArgumentParser.parse_known_args = argparse.ArgumentParser.parse_known_args, stop
  try:
    importlib.import_module(f'vit_jax.commands.{command}').main([])
  except _Seen as seen:
    return [a for a in seen.args[0]._actions if a.dest != 'help']
  finally:
    argparse.ArgumentParser.parse_known_args = kept
  raise AssertionError(f'{command} has no parser')


def base(command: str, world: World) -> dict[str, list[str]]:
  """A short command line that works: {flag or '' of arguments: values}."""
  made = world.folder / 'made'
  recipe, run, images = str(world.recipe), str(world.run), f'folder:{world.images}'
  return {
    'prepare': {'': [images], '--to': ['kept'], '--data_dir': [str(made / 'data')]},
    'stats': {'': [images], '--images': ['2']},
    'train': {'--config': [recipe], '--workdir': [str(made / 'run')]},
    'finetune': {'--weights': [run], '--data': [str(world.images)], '--dry_run': []},
    'evaluate': {'--workdir': [str(world.copy)]},
    'predict': {'--weights': [str(world.vit)], '--input': [str(world.image)]},
    'convert': {'--from': [str(world.vit)], '--to': [str(made / 'out.npz')]},
    'export': {'': [str(world.vit)], '--to': [str(made / 'export')], '--formats': ['timm']},
    'transfer': {'--weights': [str(world.vit)], '--data': [images], '--methods': ['knn']},
    'bench': {
      '--model': ['LeNet-5'],
      '--batch': ['1'],
      '--image_size': ['32'],
      '--seconds': ['.1'],
    },
    'report': {'': [run], '--page': [str(made / 'page.html')]},
    'launch': {'--config': [recipe], '--print': []},
    'sweep': {'--config': [recipe], '--print': [], '--grid.optim.lr': ['1e-3,1e-4']},
    'compare': {'--config': [recipe], '--workdir': [str(made / 'compare')]},
    'recipes': {},
    'models': {},
    'plan': {'--config': [recipe], '--topology': ['v5e:2x2']},
  }[command]


def line(command: str, flags: Mapping[str, list[str]]) -> list[str]:
  """The argv of a command. Arguments come first; of a flag that is given twice the last counts."""
  argv = [command, *flags.get('', [])]
  for flag, given in flags.items():
    if flag and len(given) == 1:
      argv.append(f'{flag}={given[0]}')
    elif flag:
      argv += [flag, *given]
  return argv


def places(world: World) -> tuple[str, ...]:
  """Paths that are not what a flag expects."""
  return (
    str(world.image), str(world.recipe), str(world.images), str(world.run), '/dev/null',
    str(world.run / 'config.json'), str(world.folder / 'empty'), str(world.folder / 'nowhere'),
    str(world.image / 'below'), str(world.vit), f'{world.run}@77', f'{world.run}@',
    f'{world.run}@²',
    str(world.folder / 'loop'), str(world.folder / 'secret'),
    str(world.folder / 'pipe'), str(world.folder / 'socket'), SECRET,
  )  # fmt: skip


def flag_values(action: argparse.Action, world: World) -> Iterator[tuple[list[str], str]]:
  """(values of a flag, what is expected)."""
  if action.nargs == 0:
    yield from (([], 'either'), (['yes'], 'sentence'), ([''], 'sentence'))
    return
  if action.choices:
    yield from (([text], 'sentence') for text in ('', 'no_such', '²', 'a\nb'))
    return
  texts = NUMBERS if action.type not in (None,) and action.dest != 'weights' else ()
  for text in (*texts, *TEXTS, *places(world)):
    yield [text], 'either'
  if action.nargs is None and action.option_strings:
    yield [], 'sentence'


def made(flags: Mapping[str, list[str]]):
  """Complains if an output that was asked for is not there."""

  def check(outcome) -> str:
    for flag in ('--output', '--csv', '--json', '--page', '--png', '--plot', '--attention'):
      if flag in flags and not (outcome.folder / Path(flags[flag][0]).expanduser()).exists():
        return f'{flag} was not written'
    return ''

  return check


def flag_cases(world: World) -> list[Case]:
  """Every flag of every command with every value."""
  cases = []
  for command in COMMANDS:
    usual = base(command, world)
    actions = flags_of(command)
    for action in actions:
      flag = action.option_strings[-1] if action.option_strings else ''
      for given, expects in flag_values(action, world):
        if not action.option_strings and command in ('recipes', 'models'):
          continue
        flags = {**usual, flag: given}
        text = f'{command} {flag}'.strip()
        cases.append(Case(text, line(command, flags), expects, made(flags)))
    for extra in ('--no_such', '--no_such=1', '-x', '--config.steps', '--', '--='):
      cases.append(Case(f'{command} {extra}', [*line(command, usual), extra], 'either'))
    cases.append(Case(command, line(command, usual), 'right' if command != 'plan' else 'either'))
    cases.append(Case(f'{command} --help', [command, '--help'], 'right'))
  cases += [
    Case(repr(text), [text], 'sentence') for text in ('trian', '²', 'a\nb', '-v', '../train')
  ]
  return cases
