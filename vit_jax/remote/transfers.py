"""Several files to or from a store at once, and what is compared of each."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vit_jax.errors import UserError

AT_ONCE = 8  # transfers

Entry = list[Any]  # size in bytes, sha256


def entry(path: Path) -> Entry:
  """What is compared of a file."""
  with path.open('rb') as file:
    return [path.stat().st_size, hashlib.file_digest(file, 'sha256').hexdigest()]


def at_once(call: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
  """Makes calls with these arguments on several threads; raises what the first to fail raised."""
  with ThreadPoolExecutor(AT_ONCE) as threads:
    made = [threads.submit(call, *arguments) for arguments in calls]
    try:
      for each in made:
        each.result()
    except BaseException:
      threads.shutdown(cancel_futures=True)
      raise


def check_room(folder: Path, size: int, what: str) -> None:
  """Raises a UserError if the disk of a cache has no room for so many bytes more."""
  free = shutil.disk_usage(folder).free
  if size > free:
    raise UserError(
      f'{what} needs {size / 1e9:,.1f} GB on the disk of {folder}, which has {free / 1e9:,.1f} GB '
      'left; set VIT_JAX_CACHE_DIR to a folder on a larger one'
    )
