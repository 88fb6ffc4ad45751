"""Files from elsewhere, through fsspec: copied once into a cache, with size and checksum shown."""

import hashlib
import logging
import os
import re
import shutil
from pathlib import Path

import fsspec

from vit_jax.errors import UserError
from vit_jax.paths import is_address, local

_CHUNK = 1 << 22
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
  path = cache / f'{mark}-{re.sub(r"[^A-Za-z0-9_.+-]", "_", address.rpartition("/")[2])}'
  new = not path.exists()
  if new:
    _download(address, path)
  digest = _check(path, wanted)
  size, when = path.stat().st_size, 'now' if new else 'already'
  _log.info('%s: %s bytes, sha256 %s, %s in %s', address, f'{size:,}', digest, when, path)
  return path


def _check(path: Path, wanted: str) -> str:
  if not path.is_file():
    raise NotThere(f'there is no file {path}')
  with path.open('rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  if not digest.startswith(wanted.lower()):
    raise UserError(f'{path} has sha256 {digest}, not {wanted}; it is damaged or another file')
  return digest


def _download(address: str, path: Path) -> None:
  """Copies a whole file or none."""
  part = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    filesystem, name = fsspec.core.url_to_fs(address)
    size = filesystem.size(name)
    _log.info('fetching %s%s', address, f', {size:,} bytes' if size else '')
    with filesystem.open(name, 'rb') as remote, part.open('wb') as copy:
      shutil.copyfileobj(remote, copy, _CHUNK)
    if size is not None and part.stat().st_size != size:
      raise UserError(
        f'{address} broke off after {part.stat().st_size:,} of {size:,} bytes; '
        'run the same command again'
      )
    os.replace(part, path)
  except UserError:
    raise
  except ImportError:
    raise UserError(
      f"{address} needs a package for that kind of address; install 'vit-jax[remote]'"
    ) from None
  except Exception as error:  # noqa: BLE001 (each kind of storage has its own)
    # Over http, any other failure is a FileNotFoundError too, but has a cause.
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else error
    if cause is None or getattr(cause, 'status', 0) == 404:
      raise NotThere(f'{address} cannot be fetched: there is no such file') from None
    reason = str(cause).split('\n')[0] or type(cause).__name__
    raise UserError(f'{address} cannot be fetched: {reason}') from None
  finally:
    part.unlink(missing_ok=True)
