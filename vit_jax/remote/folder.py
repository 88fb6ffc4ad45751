"""A folder at an address (gs://, s3://, any that fsspec knows), whose files are whole objects.

A store has no folders, no rename and no append: an object is written as a whole and then there. It
can refuse to write one that exists (`create`), on which the lock of a run rests. Listings may lag,
so nothing here that matters is found by one.
"""

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vit_jax.errors import UserError
from vit_jax.paths import scheme
from vit_jax.remote.faults import TRIES, missing_package, reason, retried

# What fsspec's clients are told, by the kind of address: how long they wait for an answer, and to
# leave trying again to us.
_WAITS = {'connect_timeout': 10, 'read_timeout': 60, 'retries': {'max_attempts': 1}}
_OPTIONS: dict[str, dict[str, Any]] = {
  'file': {'auto_mkdir': True},
  'gs': {'requests_timeout': 120},
  'gcs': {'requests_timeout': 120},
  's3': {'config_kwargs': _WAITS},
  's3a': {'config_kwargs': _WAITS},
}


def filesystem(address: str) -> tuple[Any, str]:
  """(fsspec's file system of an address, the path in it).

  Raises:
    UserError: it needs a package that is not installed, no storage has such addresses, or there are
      no credentials for it.
  """
  import fsspec  # here: runs on this machine need none

  options = {'use_listings_cache': False, **_OPTIONS.get(scheme(address), {})}
  try:
    return fsspec.core.url_to_fs(address, **options)
  except ImportError:
    raise UserError(missing_package(address)) from None
  except ValueError as error:
    raise UserError(f'{address} is no address of a storage: {reason(error)}') from None


class RemoteFolder:
  """The objects below one address, by their names relative to it.

  Every method tries again after a fault that passes, and raises as `faults.retried` does.
  """

  def __init__(self, address: str):
    self.address = address.rstrip('/')
    self._files, root = filesystem(self.address)
    self._root = root.rstrip('/')

  def _path(self, name: str) -> str:
    return f'{self._root}/{name}' if name else self._root

  def _where(self, name: str) -> str:
    return f'{self.address}/{name}' if name else self.address

  def read(self, name: str) -> bytes | None:
    """The bytes of an object; None if there is no such object."""
    try:
      return retried(self._where(name), 'reading', lambda: self._files.cat_file(self._path(name)))
    except FileNotFoundError:
      return None

  def read_object(self, name: str, tries: int = TRIES) -> dict[str, Any]:
    """The JSON object that an object holds; {} if there is none, or it holds another value.

    Raises:
      StoreFault: it holds no JSON.
    """

    def read() -> Any:
      return json.loads(self._files.cat_file(self._path(name)))

    try:
      value = retried(self._where(name), 'reading', read, tries)
    except FileNotFoundError:
      return {}
    return value if isinstance(value, dict) else {}

  def write(self, name: str, data: bytes, tries: int = TRIES) -> None:
    self._written(name, lambda: self._files.pipe_file(self._path(name), data), tries)

  def create(self, name: str, data: bytes) -> bool:
    """Whether this call, and no other, has created the object."""

    def make() -> bool:
      if self._files.exists(self._path(name)):  # not every server heeds the condition
        return self._files.cat_file(self._path(name)) == data
      try:
        self._files.pipe_file(self._path(name), data, mode='create')
      except FileExistsError:
        # An answer may be lost after the object was written, and the call repeated.
        return self._files.cat_file(self._path(name)) == data
      return True

    return self._written(name, make)

  def put(self, path: Path, name: str) -> None:
    """Uploads a file."""

    def upload() -> None:
      self._files.put_file(os.fspath(path), self._path(name))
      size, sent = self._files.info(self._path(name))['size'], path.stat().st_size
      if size != sent:
        raise EOFError(f'{size:,} of {sent:,} bytes were stored')

    self._written(name, upload)

  def get(self, name: str, path: Path) -> None:
    """Downloads a whole file or none; raises a FileNotFoundError if there is no such object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f'.{path.name[:100]}.{secrets.token_hex(4)}.part')
    try:
      retried(
        self._where(name),
        'reading',
        lambda: self._files.get_file(self._path(name), os.fspath(fresh)),
      )
      os.replace(fresh, path)
    finally:
      fresh.unlink(missing_ok=True)

  def names(self, folder: str = '') -> list[str]:
    """The last parts of the names of the objects and folders in a folder, by a listing."""
    try:
      found = retried(
        self._where(folder), 'listing', lambda: self._files.ls(self._path(folder), detail=False)
      )
    except (FileNotFoundError, NotADirectoryError):
      return []
    return sorted({path.rstrip('/').rpartition('/')[2] for path in found} - {''})

  def sizes(self) -> dict[str, int]:
    """Bytes of each object directly in the folder, by a listing."""
    try:
      found = retried(self.address, 'listing', lambda: self._files.ls(self._path(''), detail=True))
    except (FileNotFoundError, NotADirectoryError):
      return {}
    return {
      each['name'].rpartition('/')[2]: each['size'] for each in found if each['type'] == 'file'
    }

  def remove(self, names: Iterable[str], tries: int = TRIES) -> None:
    """Removes objects; those that are not there count as removed."""
    for name in names:
      try:
        retried(
          self._where(name),
          'removing',
          lambda name=name: self._files.rm_file(self._path(name)),
          tries,
        )
      except FileNotFoundError:
        pass

  def remove_folder(self, folder: str) -> None:
    try:
      retried(
        self._where(folder),
        'removing',
        lambda: self._files.rm(self._path(folder), recursive=True),
      )
    except FileNotFoundError:
      pass

  def modified(self, name: str) -> float:
    """When an object was written, by the store's clock; raises a FileNotFoundError if it is not."""
    when = retried(self._where(name), 'reading', lambda: self._files.modified(self._path(name)))
    return when.timestamp()

  def _written(self, name: str, call: Any, tries: int = TRIES) -> Any:
    try:
      return retried(self._where(name), 'writing', call, tries)
    except FileNotFoundError:
      raise UserError(
        f'{self._where(name)} cannot be written: there is no such bucket; create it, or correct '
        'the address'
      ) from None
