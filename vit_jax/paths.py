"""Paths and addresses that a person types."""

import os
import re
from pathlib import Path

from vit_jax.errors import UserError

_ADDRESS = re.compile(r'([A-Za-z][\w+.-]*):/+')  # a Path keeps one of two slashes

FILES_ONLY = ('http', 'https', 'hf')  # kinds of addresses below which nothing is written
Place = Path | str  # a path on this machine, or an address


def is_address(text: str | os.PathLike[str]) -> bool:
  """Whether this is an address, such as gs://bucket/run, and no path."""
  return bool(_ADDRESS.match(os.fspath(text)))


def scheme(address: str) -> str:
  """'gs' of gs://bucket/run."""
  return address.partition(':')[0].lower()


def place(text: str | os.PathLike[str]) -> Place:
  """Where a run folder or data sets are: an address with both slashes, or a path by `local`.

  Raises:
    UserError: it is an address of a kind below which nothing is written, or `~NAME` of an unknown
      user.
  """
  text = os.fspath(text)
  if not is_address(text):
    return local(text)
  if scheme(text) in FILES_ONLY:
    raise UserError(
      f'{text} cannot be a run folder or a folder of data sets; an address of one is in a store, '
      'such as gs://bucket/run or s3://bucket/run'
    )
  name = text[text.index(':') + 1 :].strip('/')
  return f'{scheme(text)}:{"///" if scheme(text) == "file" else "//"}{name}'


def join(folder: Place, name: str) -> Place:
  return f'{folder}/{name}' if isinstance(folder, str) else folder / name


def local(text: str | os.PathLike[str]) -> Path:
  """A path on this machine, with `~` expanded. Every flag that takes a path uses this.

  Raises:
    UserError: it is an address, such as gs://bucket/run, or `~NAME` of an unknown user.
  """
  text = os.fspath(text)
  if is_address(text):
    raise UserError(
      f'{text} is an address, but a path on this machine is needed; name one, and copy files to it '
      'or from it with the tools of that storage'
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


def cache_dir() -> Path:
  """Where copies of what is elsewhere are kept: $VIT_JAX_CACHE_DIR, else ~/.cache/vit_jax."""
  return local(os.environ.get('VIT_JAX_CACHE_DIR') or '~/.cache/vit_jax')
