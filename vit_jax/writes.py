"""Files that are written whole or not at all."""

import glob
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vit_jax.errors import writing

STALE = 3600.0  # seconds without a write, after which what a process left counts as left


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
  """A file to write, which then replaces `path`: a reader sees the old one or the new one.

  It has a new name beside `path`, so that no link is followed and no other writer is disturbed.
  What is no regular file, such as /dev/stdout, is written in place; a pipe that nobody reads is an
  OSError.
  """
  if path.exists() and not path.is_file():
    with open(os.open(path, os.O_WRONLY | os.O_NONBLOCK), 'wb') as file:
      os.set_blocking(file.fileno(), True)
      yield file
    return
  _clear(path)
  fresh = path.with_name(f'{_prefix(path)}{secrets.token_hex(4)}.part')
  try:
    with open(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR, _mode(path)), 'wb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(fresh, path)
  except BaseException:
    fresh.unlink(missing_ok=True)
    raise


@contextmanager
def output(path: Path) -> Iterator[IO[bytes]]:
  """As `replacing`, for a file that the user named: raises a UserError if the disk refuses."""
  with writing(path), replacing(path) as file:
    yield file


def write(path: Path, content: str | bytes | bytearray) -> None:
  """Writes a file that the user named; raises a UserError if the disk refuses."""
  with output(path) as file:
    file.write(content.encode() if isinstance(content, str) else content)


def _prefix(path: Path) -> str:
  return f'.{path.name[:100]}.'


def _mode(path: Path) -> int:
  """That of the file that is replaced."""
  return stat.S_IMODE(path.stat().st_mode) if path.is_file() else 0o666


def _clear(path: Path) -> None:
  """Removes what processes that were killed have left of this file."""
  for left in path.parent.glob(f'{glob.escape(_prefix(path))}*.part'):
    try:
      if time.time() - left.lstat().st_mtime > STALE:
        left.unlink()
    except OSError:
      pass  # another process was first, or may not be disturbed
