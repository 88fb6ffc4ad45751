"""Small files of a run folder: written whole or not at all; bad parts are skipped in reading."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from vit_jax.errors import first_line


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
  """A file to write, which then replaces `path`: a reader sees the old one or the new one."""
  path.parent.mkdir(exist_ok=True)
  fresh = path.with_name(path.name + '.tmp')
  try:
    with open(fresh, 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(fresh, path)
  except BaseException:
    fresh.unlink(missing_ok=True)
    raise


def write_text(path: Path, text: str) -> None:
  with replacing(path) as file:
    file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
  write_text(path, json.dumps(value, indent=2) + '\n')


def read_object(path: Path, faults: list[str]) -> dict[str, Any]:
  """The JSON object in a file; {} if there is none, and a fault if the file is damaged."""
  try:
    value = json.loads(path.read_bytes())
    if isinstance(value, dict):
      return value
    faults.append(f'{path} is damaged: it does not hold a JSON object')
  except FileNotFoundError:
    pass
  except (OSError, ValueError) as error:  # undecodable text is a ValueError too
    faults.append(f'{path} is damaged: {_reason(error)}')
  return {}


def read_lines(
  path: Path, good: Callable[[dict[str, Any]], bool], faults: list[str]
) -> list[dict[str, Any]]:
  """The JSON objects of a file, one per line, that are `good`; a fault says which lines are not."""
  found, bad, lines = [], [], []
  try:
    lines = path.read_bytes().splitlines()
  except FileNotFoundError:
    pass
  except OSError as error:
    faults.append(f'{path} cannot be read: {_reason(error)}')
  for number, line in enumerate(lines, 1):
    try:
      value = json.loads(line)
    except ValueError:
      value = None
    if isinstance(value, dict) and good(value):
      found.append(value)
    else:
      bad.append(number)
  if bad:
    more = f' and {len(bad) - 1} more' if len(bad) > 1 else ''
    faults.append(f'{path}: line {bad[0]}{more} of {len(lines)} cannot be read and is left out')
  return found


def is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool)


def _reason(error: Exception) -> str:
  return getattr(error, 'strerror', None) or first_line(error)
