"""Small files of a run folder: written whole or not at all; bad parts are skipped in reading."""

import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vit_jax.errors import first_line
from vit_jax.reads import content
from vit_jax.writes import replacing


def write_text(path: Path, text: str) -> None:
  path.parent.mkdir(exist_ok=True)
  with replacing(path) as file:
    file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
  write_text(path, json.dumps(value, indent=2) + '\n')


def read_object(path: Path, faults: list[str]) -> dict[str, Any]:
  """The JSON object in a file; {} if there is none, and a fault if the file is damaged."""
  try:
    value = json.loads(content(path))
    if isinstance(value, dict):
      return value
    faults.append(f'{path} is damaged: it does not hold a JSON object')
  except FileNotFoundError:
    pass
  except (OSError, ValueError, RecursionError) as error:  # undecodable text is a ValueError too
    faults.append(f'{path} is damaged: {_reason(error)}')
  return {}


def read_lines(
  path: Path, good: Callable[[dict[str, Any]], bool], faults: list[str]
) -> list[dict[str, Any]]:
  """The JSON objects of a file, one per line, that are `good`; a fault says which lines are not."""
  found, bad, lines = [], [], []
  try:
    lines = content(path).splitlines()
  except FileNotFoundError:
    pass
  except OSError as error:
    faults.append(f'{path} cannot be read: {_reason(error)}')
  with _uninterrupted():
    for number, value in enumerate(_values(lines), 1):
      if isinstance(value, dict) and good(value):
        found.append(value)
      else:
        bad.append(number)
  if bad:
    more = f' and {len(bad) - 1} more' if len(bad) > 1 else ''
    faults.append(f'{path}: line {bad[0]}{more} of {len(lines)} cannot be read and is left out')
  return found


NUMBERS = frozenset((int, float))  # types of JSON's


def is_number(value: Any) -> bool:
  return type(value) in NUMBERS


@contextmanager
def _uninterrupted() -> Iterator[None]:
  """Without the collector of garbage, which looks through a million new objects again and again."""
  collects = gc.isenabled()
  gc.disable()
  try:
    yield
  finally:
    if collects:
      gc.enable()


def _values(lines: list[bytes]) -> Iterator[Any]:
  """The JSON value of each line; None for one that is damaged. Of good lines, which are many, at
  once."""
  if all(line[:1] == b'{' and line[-1:] == b'}' for line in lines):
    try:
      found = json.loads(b'[' + b','.join(lines) + b']')
      if len(found) == len(lines):
        yield from found
        return
    except (ValueError, RecursionError):
      pass
  for line in lines:
    try:
      yield json.loads(line)
    except (ValueError, RecursionError):
      yield None


def _reason(error: Exception) -> str:
  return getattr(error, 'strerror', None) or first_line(error)
