"""Files from elsewhere, through fsspec: copied once into a cache, with size and checksum shown."""

import base64
import hashlib
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock

from vit_jax.errors import UserError
from vit_jax.paths import is_address, local
from vit_jax.reads import content, opened
from vit_jax.redaction import redacted
from vit_jax.remote.faults import StoreFault, missing_package, retried
from vit_jax.writes import write

_CHUNK = 1 << 22
# What storages call the version of a file.
_VERSION = ('ETag', 'etag', 'md5Hash', 'generation', 'mtime', 'created', 'LastModified')
_log = logging.getLogger(__name__)


class NotThere(UserError):
  """There is no file of that name."""


def fetch(source: str, cache: Path) -> Path:
  """The local file of a path or an address, copied into the folder `cache`.

  The source may end in '#sha256=' and the checksum, or its first digits, that the file must have.

  Raises:
    NotThere: there is no such file.
    UserError: it cannot be read, or its checksum differs.
  """
  address, _, wanted = source.partition('#sha256=')
  if not is_address(address):
    path = local(address)
    if wanted:
      _check(path, wanted)
    return path
  # Two addresses may end in the same name.
  mark = hashlib.sha256(address.encode()).hexdigest()[:8]
  name = re.sub(r'[^A-Za-z0-9_.+-]', '_', redacted(address).rpartition('/')[2])[-120:]
  path = cache / f'{mark}-{name}'
  digest = ''
  if path.exists():
    digest = _sha256(path)
    if fault := _fault(path, digest, wanted):
      _log.warning('%s %s; it is fetched again', path, fault)
      path.unlink()
  new = not path.exists()
  if new:
    _download(address, path, wanted)
    digest = content(_sum_of(path)).decode().strip()  # just compared with the file
    _require(digest, wanted, path)  # another process may have fetched it, without being asked
  size, when = path.stat().st_size, 'now' if new else 'already'
  _log.info('%s: %s bytes, sha256 %s, %s in %s', address, f'{size:,}', digest, when, path)
  return path


def fetch_to(address: str, path: Path) -> None:
  """Copies the file of an address to a path, in place of what is there; says nothing of it."""
  path.unlink(missing_ok=True)
  _download(address, path, '', logging.DEBUG - 1)


def _fault(path: Path, digest: str, wanted: str) -> str:
  """What is wrong with a copy: it is not what was fetched, or not what is wanted; '' if nothing."""
  try:
    fetched = content(_sum_of(path)).decode('utf-8', 'replace').strip()
  except OSError:
    return 'has no checksum beside it'
  if digest != fetched:
    return f'is damaged: it has sha256 {digest[:12]}, not {fetched[:12]} as when it was fetched'
  if not digest.startswith(wanted.lower()):
    return f'has sha256 {digest[:12]}, not {wanted[:12]}'
  return ''


def _sum_of(path: Path) -> Path:
  """Where the checksum of a copy is kept."""
  return path.parent / '.sha256' / path.name


def _sha256(path: Path) -> str:
  with opened(path) as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _check(path: Path, wanted: str) -> None:
  if not path.is_file():
    raise NotThere(f'there is no file {path}')
  _require(_sha256(path), wanted, path)


def _require(digest: str, wanted: str, called: object) -> None:
  if not digest.startswith(wanted.lower()):
    raise UserError(f'{called} has sha256 {digest}, not {wanted}; it is damaged or another file')


def _require_md5(about: dict[str, Any], path: Path, address: str) -> None:
  """Compares a copy with the checksum that Google's store has of it; others have none for all."""
  if wanted := about.get('md5Hash'):
    with path.open('rb') as file:
      found = hashlib.file_digest(file, 'md5').digest()
    if base64.b64encode(found).decode() != wanted:
      raise UserError(f'{address} is not what the store says it holds; run the same command again')


def _download(address: str, path: Path, wanted: str, level: int = logging.INFO) -> None:
  """Copies a whole file with the checksum `wanted`, or none; goes on where it broke off."""
  try:
    filesystem, name = fsspec.core.url_to_fs(address)
    about = retried(address, 'reading', lambda: filesystem.info(name))
    locks = path.parent / '.locks'
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f'{path.name}.lock'):  # one process at a time
      if not path.exists():
        retried(address, 'reading', lambda: _copy(address, filesystem, about, path, wanted, level))
  except (UserError, StoreFault):
    raise
  except ImportError:
    raise UserError(missing_package(address)) from None
  except Exception as error:  # noqa: BLE001 (each kind of storage has its own)
    # Over http, any other failure is a FileNotFoundError too, but has a cause.
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else error
    if cause is None or getattr(cause, 'status', 0) == 404:
      raise NotThere(f'{address} cannot be fetched: there is no such file') from None
    reason = str(cause).split('\n')[0] or type(cause).__name__
    raise UserError(f'{address} cannot be fetched: {reason}') from None


def _copy(
  address: str, filesystem: Any, about: dict[str, Any], path: Path, wanted: str, level: int
) -> None:
  size = about.get('size')
  # What is there of another version of the file is not gone on with.
  marks = {key: about.get(key) for key in _VERSION if about.get(key)}
  version = hashlib.sha256(repr((size, sorted(marks.items()))).encode()).hexdigest()[:8]
  part = path.with_name(f'.{path.name}.{version}.part')
  begin = part.stat().st_size if part.exists() and size and marks else 0
  words = f', {size:,} bytes' if size else ''
  _log.log(level, 'fetching %s%s%s', address, words, f', from byte {begin:,}' if begin else '')
  with filesystem.open(about['name'], 'rb') as remote, part.open('ab' if begin else 'wb') as copy:
    if begin:
      remote.seek(begin)
    shutil.copyfileobj(remote, copy, _CHUNK)
  if size is not None and part.stat().st_size != size:
    found = part.stat().st_size
    if not found < size:
      part.unlink()
    raise UserError(
      f'{address} broke off after {found:,} of {size:,} bytes; run the same command again'
    )
  digest = _sha256(part)
  try:
    _require(digest, wanted, address)
    _require_md5(about, part, address)
  except UserError:
    part.unlink()
    raise
  _sum_of(path).parent.mkdir(exist_ok=True)
  write(_sum_of(path), f'{digest}\n')
  os.replace(part, path)
  for left in path.parent.glob(f'.{path.name}.*.part'):  # of other versions of the file
    left.unlink(missing_ok=True)
