"""Where the bytes of examples are: files in a folder, or members of tar archives."""

import hashlib
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from vit_jax.data import identity
from vit_jax.errors import UserError
from vit_jax.paths import shown
from vit_jax.reads import content, opened


class Store(Protocol):
  """Bytes by a key, which is the same on every disk. Reading is safe from several threads."""

  # Whether `head` and `size` cost much less than `read`.
  @property
  def seeks(self) -> bool: ...

  def read(self, key: str) -> bytes: ...

  # Its first `length` bytes.
  def head(self, key: str, length: int) -> bytes: ...

  # Number of bytes, without reading them.
  def size(self, key: str) -> int: ...

  # What to sort keys by so that reading them in order is fastest.
  def place(self, key: str) -> Any: ...

  # Where a person finds it.
  def where(self, key: str) -> str: ...

  # A digest of names and sizes, and with `times` the times of change, of examples.
  def stamps(self, keys: Sequence[str], times: bool) -> bytes: ...


@dataclass(frozen=True)
class Files:
  """Files by their path below `root`."""

  root: Path

  @property
  def seeks(self) -> bool:
    return True

  def read(self, key: str) -> bytes:
    return content(self.root / key)

  def head(self, key: str, length: int) -> bytes:
    with opened(self.root / key) as file:
      return file.read(length)

  def size(self, key: str) -> int:
    return os.stat(self.root / key).st_size

  def place(self, key: str) -> str:
    return key

  def where(self, key: str) -> str:
    return shown(self.root / key)

  def stamps(self, keys: Sequence[str], times: bool) -> bytes:
    return identity.stamps(self.root, keys, times)


class Member(NamedTuple):
  """Where in an archive the bytes of a member are."""

  archive: str  # below the root of the archives
  offset: int
  size: int


@dataclass(frozen=True)
class Archives:
  """Members of uncompressed tar archives, each read at its offset."""

  root: Path
  members: Mapping[str, Member] = field(repr=False)

  @property
  def seeks(self) -> bool:
    return True

  def read(self, key: str) -> bytes:
    return self.head(key, self.members[key].size)

  def head(self, key: str, length: int) -> bytes:
    archive, offset, size = self.members[key]
    with opened(self.root / archive) as file:
      file.seek(offset)
      found = file.read(min(length, size))
    if len(found) < min(length, size):
      raise OSError(f'{self.root / archive} is cut short')
    return found

  def size(self, key: str) -> int:
    return self.members[key].size

  def place(self, key: str) -> Member:
    return self.members[key]

  def where(self, key: str) -> str:
    return f'{shown(key)} in {shown(self.root)}'

  def stamps(self, keys: Sequence[str], times: bool) -> bytes:
    total = hashlib.sha256()
    archives = sorted({self.members[key].archive for key in keys})
    total.update(identity.stamps(self.root, archives, times))
    for key in keys:
      total.update(os.fsencode(f'{key}\0{self.members[key].size}\0'))
    return total.digest()


def _archive(path: Path) -> IO[bytes]:
  try:
    return opened(path)
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}); put an archive there') from None


def tar_members(path: Path, start: int = 0) -> Iterable[tuple[str, int, int]]:
  """(name, offset in the file, size) of every file in the tar that begins at `start` of `path`.

  Raises:
    UserError: it is compressed, so it has no random access, or it is damaged.
  """
  with _archive(path) as file:
    if file.read(2) == b'\x1f\x8b':
      raise UserError(f'{path} is compressed, which allows no random access; unpack it by gunzip')
    file.seek(start)
    try:
      with tarfile.open(fileobj=file, mode='r:') as archive:
        for member in archive:
          if member.isfile():
            yield member.name, member.offset_data, member.size
    except tarfile.TarError as error:
      raise UserError(f'{path} is damaged or no tar archive: {error}') from None
