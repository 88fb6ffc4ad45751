"""Files of the Hugging Face hub, through huggingface_hub: resumed, and checked before use.

$HF_ENDPOINT names another hub, $HF_TOKEN lets into repositories that are not public.
"""

import hashlib
import logging
import os
import re
from pathlib import Path

from vit_jax.errors import UserError, first_line
from vit_jax.remote.fetch import NotThere

_CHECKED = re.compile(r'[0-9a-f]{40}|[0-9a-f]{64}')  # git's name of a file, or its sha256
_log = logging.getLogger(__name__)


def fetch_from_hub(repository: str, revision: str, name: str, cache: Path) -> Path:
  """The local copy of a file of ORG/NAME, in the folder `cache`.

  Raises:
    NotThere: the repository has no such file.
    UserError: huggingface_hub is missing, or the file cannot be fetched, or is not what the hub
      says; such a copy is removed.
  """
  address = f'hf://{repository}/{name}'
  try:
    import huggingface_hub as hub  # here: it is in the extra `remote`
    from huggingface_hub import errors
  except ImportError:
    raise UserError(
      f"{address} needs the package huggingface_hub: pip install 'vit-jax[remote]'"
    ) from None
  where = {'revision': revision, 'endpoint': os.environ.get('HF_ENDPOINT')}
  try:
    path = Path(hub.hf_hub_download(repository, name, cache_dir=cache / 'hub', **where))  # nosec B615
  except errors.LocalEntryNotFoundError as error:  # also an EntryNotFoundError
    reason = first_line(error.__cause__ or error)
    raise UserError(f'{address} cannot be fetched: {reason}') from None
  except (errors.EntryNotFoundError, errors.RepositoryNotFoundError) as error:
    if isinstance(error, errors.GatedRepoError):
      raise UserError(f'{address} is for those who were let in: set HF_TOKEN') from None
    raise NotThere(f'{address} cannot be fetched: there is no such file') from None
  except Exception as error:  # noqa: BLE001 (each transport has its own)
    raise UserError(f'{address} cannot be fetched: {first_line(error)}') from None
  blob = path.resolve()
  wanted = blob.name
  if not _CHECKED.fullmatch(wanted):  # where there are no links, the copy has its own name
    url = hub.hf_hub_url(repository, name, **where)
    wanted = hub.get_hf_file_metadata(url, endpoint=where['endpoint']).etag or ''
  found = _digest(blob, len(wanted))
  if found != wanted:
    path.unlink()
    blob.unlink(missing_ok=True)
    raise UserError(
      f'{address} is not what the hub says: its digest is {found}, not {wanted}; it was removed: '
      'run the same command again'
    )
  _log.info('%s: %s bytes, digest %s, in %s', address, f'{blob.stat().st_size:,}', found, path)
  return path


def _digest(path: Path, length: int) -> str:
  """sha256, or where the digest wanted is shorter, the name that git gives a file."""
  if length == 64:
    with path.open('rb') as file:
      return hashlib.file_digest(file, 'sha256').hexdigest()
  content = path.read_bytes()  # small files alone are kept in git
  return hashlib.sha1(b'blob %d\0' % len(content) + content, usedforsecurity=False).hexdigest()
