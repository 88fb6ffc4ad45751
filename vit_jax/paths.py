"""Paths that a person types."""

import os
import re
from pathlib import Path

from vit_jax.errors import UserError

_ADDRESS = re.compile(r'[A-Za-z][\w+.-]*:/')  # a Path keeps one of two slashes


def is_address(text: str | os.PathLike[str]) -> bool:
  """Whether this is an address, such as gs://bucket/run, and no path."""
  return bool(_ADDRESS.match(os.fspath(text)))


def local(text: str | os.PathLike[str]) -> Path:
  """A path on this machine, with `~` expanded. Every flag that takes a path uses this.

  Raises:
    UserError: it is an address, such as gs://bucket/run, or `~NAME` of an unknown user.
  """
  text = os.fspath(text)
  if is_address(text):
    raise UserError(
      f'{text} is an address, but a path on this machine is needed; mount the storage, and name '
      'the folder where it is mounted'
    )
  try:
    return Path(text).expanduser()
  except RuntimeError:
    raise UserError(
      f'{text}: the home folder of this user is unknown; write the path out'
    ) from None


def shown(path: str | os.PathLike[str]) -> str:
  """A path as text that any terminal and file takes, also where it is no UTF-8 on the disk."""
  return os.fsencode(path).decode('utf-8', 'backslashreplace')


def default_data_dir() -> Path:
  """Where prepared data sets are stored: $VIT_JAX_DATA_DIR, else ~/.cache/vit_jax."""
  return local(os.environ.get('VIT_JAX_DATA_DIR') or '~/.cache/vit_jax')
