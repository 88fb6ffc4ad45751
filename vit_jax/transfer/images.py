"""Images to predict: files as a model wants to see them, or an array that goes in as it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vit_jax.data import decode
from vit_jax.data.folder import SUFFIXES
from vit_jax.errors import UserError

IMAGENET_LABELS = Path(decode.__file__).with_name('imagenet_labels.txt')
View = Callable[[bytes, np.ndarray], None]  # encoded image -> out_HWC, uint8


@dataclass(frozen=True)
class Images:
  """Image files, or the rows of an array."""

  names: tuple[str, ...]
  array_NHWC: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.names)

  @property
  def array_shape(self) -> tuple[int, int, int] | None:
    """(H, W, C) of an array; None for files, which have many sizes."""
    if self.array_NHWC is None:
      return None
    _, height, width, channels = self.array_NHWC.shape
    return height, width, channels

  def read(self, start: int, stop: int, shape: tuple[int, int, int], view: View) -> np.ndarray:
    """Images `start` to `stop`: float32 rows of the array, or of `shape` in uint8 by `view`.

    Raises:
      UserError: a file is no image or cannot be read, or a number of the array is not finite.
    """
    if self.array_NHWC is not None:
      images_BHWC = np.asarray(self.array_NHWC[start:stop])
      bad_b = np.flatnonzero(~np.isfinite(images_BHWC).all((1, 2, 3)))
      if len(bad_b):
        name = self.names[start + bad_b[0]]
        raise UserError(f'--input: {name} holds a number that is not finite')
      return images_BHWC
    files = self.names[start:stop]
    images_BHWC = np.zeros((len(files), *shape), np.uint8)

    def load(i: int) -> None:
      try:
        view(Path(files[i]).read_bytes(), images_BHWC[i])
      except (OSError, decode.BadImage) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f'--input: {files[i]} cannot be read as an image: {why}') from None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
      list(pool.map(load, range(len(files))))
    return images_BHWC


def open_images(places: Sequence[str]) -> Images:
  """Images of files and folders (searched to any depth, in order of names), or of one array.

  Raises:
    UserError: something is not there, is empty, or is no float32 array (N, H, W, C).
  """
  files: list[str] = []
  for place in places:
    path = Path(place).expanduser()
    if path.is_dir():
      found = sorted(
        file
        for file in path.rglob('*')
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith('.') for part in file.relative_to(path).parts)
      )
      if not found:
        raise UserError(f'--input: folder {path} holds no image ({", ".join(SUFFIXES)})')
      files += map(str, found)
    elif not path.is_file():
      raise UserError(f'--input: there is no file or folder {path}')
    elif path.suffix != '.npy':
      files.append(str(path))
    elif len(places) > 1:
      raise UserError(f'--input: {path} is an array, which goes in alone')
    else:
      array_NHWC = _open_array(path)
      return Images(tuple(f'{path}[{i}]' for i in range(len(array_NHWC))), array_NHWC)
  return Images(tuple(files))


def _open_array(path: Path) -> np.ndarray:
  right = 'it should be float32 of shape (N, H, W, C), normalised as the model expects'
  try:
    array_NHWC = np.load(path, mmap_mode='r', allow_pickle=False)
  except (ValueError, EOFError, OSError):
    raise UserError(f'--input: {path} is damaged or no array; {right}') from None
  if array_NHWC.dtype != np.float32 or array_NHWC.ndim != 4 or not array_NHWC.size:
    raise UserError(f'--input: {path} is {array_NHWC.dtype} of shape {array_NHWC.shape}; {right}')
  return array_NHWC


def imagenet_names() -> list[str]:
  """Of ImageNet's 1000 classes, in the order of their labels."""
  return [line.partition(' ')[2] for line in IMAGENET_LABELS.read_text().splitlines()]


def whole_view(record: bytes, out_HWC: np.ndarray) -> None:
  """The whole image, whatever its aspect, bilinear and antialiased."""
  H, W, channels = out_HWC.shape
  image_HWC = decode.decode(record, channels)
  image = Image.fromarray(image_HWC if channels == 3 else image_HWC[..., 0])
  out_HWC[...] = np.asarray(image.resize((W, H), Image.Resampling.BILINEAR)).reshape(out_HWC.shape)


def published_view(record: bytes, out_HWC: np.ndarray, crop: float) -> None:
  """The centre, after resizing, bicubic and antialiased, so that it is `crop` of the shorter side.

  Pixels are those of timm's evaluation (timm/data/transforms_factory.py): torchvision's Resize
  and CenterCrop on PIL images.
  """
  H, W, channels = out_HWC.shape
  image_HWC = decode.decode(record, channels)
  height, width = image_HWC.shape[:2]
  scale = max(int(H / crop) / height, int(W / crop) / width)
  h, w = (int(side * scale + 1e-6) for side in (height, width))  # a whole number less a rounding
  image = Image.fromarray(image_HWC if channels == 3 else image_HWC[..., 0])
  resized = np.asarray(image.resize((w, h), Image.Resampling.BICUBIC)).reshape(h, w, channels)
  top, left = round((h - H) / 2), round((w - W) / 2)
  out_HWC[...] = resized[top : top + H, left : left + W]
