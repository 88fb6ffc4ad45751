"""Images to predict: files as a model wants to see them, or an array."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vit_jax.data import decode
from vit_jax.data.decode import SUFFIXES
from vit_jax.data.folder import scan
from vit_jax.data.view import View
from vit_jax.errors import UserError
from vit_jax.paths import local, shown
from vit_jax.reads import content


class Batch(NamedTuple):
  """Images that could be read, their names, and a sentence for each that could not."""

  images_BHWC: np.ndarray
  names: list[str]
  unreadable: list[str]


@dataclass(frozen=True)
class Images:
  """Image files, or the rows of an array: float32, normalized as a model expects, or uint8."""

  names: tuple[str, ...]
  array_NHWC: np.ndarray | None = None
  left_out: tuple[str, ...] = ()  # a sentence on each kind of file that is no image

  def __len__(self) -> int:
    return len(self.names)

  @property
  def size(self) -> tuple[int, int] | None:
    """(H, W) of the array; None for files."""
    return None if self.array_NHWC is None else self.array_NHWC.shape[1:3]

  def read(self, start: int, stop: int, view: View) -> Batch:
    """Images `start` to `stop`, those of files in uint8."""
    names = self.names[start:stop]
    faults = [''] * len(names)
    if self.array_NHWC is not None:
      images_BHWC = np.asarray(self.array_NHWC[start:stop])
      for b in np.flatnonzero(~np.isfinite(images_BHWC).all((1, 2, 3))):
        faults[b] = f'{names[b]} holds a number that is not finite'
    else:
      images_BHWC = np.zeros((len(names), *view.image_shape), np.uint8)

      def load(b: int) -> None:
        try:
          view(content(names[b]), images_BHWC[b])
        except decode.READ_ERRORS as error:
          why = error.strerror if isinstance(error, OSError) else error
          faults[b] = f'{shown(names[b])} cannot be read as an image: {why}'

      with decode.thread_pool() as pool:
        list(pool.map(load, range(len(names))))
    good = [b for b, fault in enumerate(faults) if not fault]
    return Batch(images_BHWC[good], [shown(names[b]) for b in good], [*filter(None, faults)])


def open_images(places: str | Path | np.ndarray | Sequence[str | Path]) -> Images:
  """Images of files and folders (searched to any depth, in order of names), or of one array.

  Args:
    places: files, folders, one .npy, or an array (N, H, W, C) of float32 or uint8.

  Raises:
    UserError: something is not there, is empty, or is no such array.
  """
  if isinstance(places, np.ndarray):
    return _of_array(places, 'the array')
  files: list[str] = []
  left_out: list[str] = []
  places = [places] if isinstance(places, str | Path) else places
  for place in places:
    path = local(place)
    if path.is_dir():
      found = scan(path)
      if not found.images:
        raise UserError(f'folder {shown(path)} holds no image ({", ".join(SUFFIXES)})')
      files += (str(path / file) for file in found.images)
      for reason, names in found.left_out.items():
        left_out.append(f'{shown(path)}: {len(names):,} {reason} left out')
    elif not path.is_file():
      raise UserError(f'there is no file or folder {path}')
    elif path.suffix != '.npy':
      files.append(str(path))
    elif len(places) > 1:
      raise UserError(f'{path} is an array, which goes in alone')
    else:
      try:
        array_NHWC = np.load(path, mmap_mode='r', allow_pickle=False)
      except (ValueError, EOFError, OSError):
        raise UserError(f'{path} is damaged or no array; {_RIGHT}') from None
      return _of_array(array_NHWC, str(path))
  return Images(tuple(files), left_out=tuple(left_out))


_RIGHT = 'it should be of shape (N, H, W, C), float32 and normalized as the model expects, or uint8'


def _of_array(array_NHWC: np.ndarray, name: str) -> Images:
  kinds = (np.float32, np.uint8)
  if array_NHWC.dtype not in kinds or array_NHWC.ndim != 4 or not array_NHWC.size:
    raise UserError(f'{name} is {array_NHWC.dtype} of shape {array_NHWC.shape}; {_RIGHT}')
  return Images(tuple(f'{name}[{i}]' for i in range(len(array_NHWC))), array_NHWC)
