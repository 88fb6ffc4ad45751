"""What identifies a data set: digests of few of its examples, and the names of its classes."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.data.decode import READ_ERRORS
from vit_jax.errors import UserError

SAMPLED = 64  # examples whose bytes count


def digest(*parts: Any) -> str:
  """A hexadecimal SHA-256 of bytes, arrays, and what has a stable repr."""
  total = hashlib.sha256()
  for part in parts:
    if isinstance(part, np.ndarray):
      part = f'{part.dtype} {part.shape} '.encode() + part.tobytes()
    part = part if isinstance(part, bytes) else repr(part).encode()
    total.update(f'{len(part)} '.encode() + part)
  return total.hexdigest()


def stamps(root: Path, files: Iterable[str], times: bool) -> bytes:
  """A digest of the names and sizes, and with `times` the times of change, of files in `root`."""
  total = hashlib.sha256()
  for file in files:
    try:
      found = os.stat(root / file)
      stamp = f'{found.st_size} {found.st_mtime_ns if times else ""}'
    except OSError:
      stamp = 'gone'  # whoever reads it reports it
    total.update(os.fsencode(f'{file}\0{stamp}\0'))
  return total.digest()


def sample(source: Any) -> bytes:
  """A digest of some images and labels of a `Source`, evenly spaced.

  File sizes do not show a change of images whose sizes are all equal, such as bitmaps.
  """
  count = min(SAMPLED, len(source))
  total = hashlib.sha256()
  for i in range(count):
    try:
      ((record, label),) = source.read([i * len(source) // count])
      total.update(record + str(label).encode())
    except READ_ERRORS:
      total.update(b'unreadable')  # whoever reads it reports it
  return total.digest()


def label_map(names: Sequence[str], known: Sequence[str], where: str) -> np.ndarray:
  """The position in `known` of each of `names`, int [len(names)], or -1; `where` is for messages.

  Raises:
    UserError: two classes have one name, so a name does not say which is meant.
  """
  if tuple(names) == tuple(known):
    return np.arange(len(known))
  label = {name: k for k, name in enumerate(known)}
  if len(label) < len(known) or len(set(names)) < len(names):
    raise UserError(
      f'{where} or the model has two classes with one name, and labels are matched by class name; '
      'give each class its own'
    )
  return np.array([label.get(name, -1) for name in names], int)
