"""Encoded bytes to uint8 pixels at the target size.

JPEG goes through libjpeg-turbo (simplejpeg), everything else through OpenCV; both release the
GIL. Pixels are taken as stored: an EXIF orientation is not applied and alpha is dropped, as the
published pipelines do. 16-bit images keep their high byte.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from vit_jax.data import region

READ_ERRORS = (OSError, ValueError, RuntimeError)  # of an example that is missing or damaged
DCT_FACTORS = (8, 4, 2)  # libjpeg-turbo has fast inverse transforms for these scales only
COLOR = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
GRAY = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION


class BadImage(ValueError):
  """Not a complete image in a known format."""


class Box(NamedTuple):
  """A rectangle in pixels of the stored image."""

  top: int
  left: int
  height: int
  width: int


def cores() -> int:
  if hasattr(os, 'sched_getaffinity'):  # respects the limits of a container or scheduler
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def thread_pool(threads: int = 0) -> ThreadPoolExecutor:
  """A pool of threads (0: one per core) for work that calls OpenCV.

  Switches off OpenCV's own threads, which would compete with these, and its messages about damaged
  images, which the caller reports with their place.
  """
  cv2.setNumThreads(0)
  cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
  region.available()
  return ThreadPoolExecutor(threads or cores(), thread_name_prefix='decode')


def decode(record: bytes | np.ndarray, channels: int, factor: int = 1) -> np.ndarray:
  """Decodes a whole image to uint8 [H, W, channels].

  Args:
    record: encoded bytes, or pixels uint8 [H, W] or [H, W, C] with 1, 3 or 4 channels.
    channels: 1 (luminance) or 3 (RGB).
    factor: 1, 2, 4 or 8: a JPEG is decoded smaller by this factor (rounded up), at less cost.

  Raises:
    BadImage: truncated, damaged, or not an image.
  """
  if isinstance(record, np.ndarray):
    return _with_channels(record, channels)
  if (jpeg := _jpeg_header(record)) is not None:
    try:
      return simplejpeg.decode_jpeg(
        record,
        colorspace='RGB' if channels == 3 else 'GRAY',
        min_height=-(-jpeg[0] // factor),
        min_width=-(-jpeg[1] // factor),
      )
    except ValueError as error:
      if 'Premature end' in str(error):
        raise BadImage('the file is cut short') from error
      # OpenCV reads what is merely odd (stray bytes before a marker, rare color spaces).
  try:
    flags = COLOR if channels == 3 else GRAY
    image = cv2.imdecode(np.frombuffer(record, np.uint8), flags)
  except cv2.error as error:
    raise BadImage('it is empty or damaged') from error
  if image is None:
    raise BadImage('it is damaged or not in a known image format')
  return image if channels == 3 else image[..., None]


def decode_box(
  record: bytes | np.ndarray,
  box: Callable[[int, int], Box],
  out_HWC: np.ndarray,
  interpolation: str = 'bilinear',
) -> None:
  """Decodes `record`, cuts out `box(height, width)`, and resizes it into `out_HWC`."""
  H, W, C = out_HWC.shape
  resize(_cut(record, C, lambda h, w: (box(h, w), (H, W)), interpolation), out_HWC, interpolation)


def decode_whole(
  record: bytes | np.ndarray,
  size: Callable[[int, int], tuple[int, int]],
  channels: int,
  interpolation: str = 'bilinear',
) -> np.ndarray:
  """Decodes `record` and resizes it to `size(height, width)`, whatever its aspect."""
  target = 0, 0

  def place(height: int, width: int) -> tuple[Box, tuple[int, int]]:
    nonlocal target
    target = size(height, width)
    return Box(0, 0, height, width), target

  image_HWC = _cut(record, channels, place, interpolation)
  out_HWC = np.empty((*target, channels), np.uint8)
  resize(image_HWC, out_HWC, interpolation)
  return out_HWC


def _cut(
  record: bytes | np.ndarray,
  channels: int,
  place: Callable[[int, int], tuple[Box, tuple[int, int]]],
  interpolation: str,
) -> np.ndarray:
  """The box that `place(height, width)` gives, beside the size that it will be resized to.

  A JPEG is decoded at the smallest DCT scale that still has a pixel per pixel of the target; before
  a bicubic filter, which is sharper, two. At full size only the box is, where that is faster.
  """
  if not isinstance(record, bytes) or (jpeg := _jpeg_header(record)) is None:
    image = decode(record, channels)
    (top, left, h, w), _ = place(*image.shape[:2])
    return image[top : top + h, left : left + w]
  *size, space = jpeg
  (top, left, h, w), (H, W) = place(*size)
  gap = 2 if interpolation == 'bicubic' else 1
  factor = next((f for f in DCT_FACTORS if h >= gap * f * H and w >= gap * f * W), 1)
  few = h * w <= region.LARGEST_SHARE * size[0] * size[1]
  if factor == 1 and channels == 3 and space == 'YCbCr' and few and region.available():
    part = region.decode(record, top, left, h, w)
    if part is not None:
      return part
  image = decode(record, channels, factor)
  if list(image.shape[:2]) == size:  # OpenCV decoded it, at full size
    factor = 1
  edges = (top, top + h, left, left + w)
  top, bottom, left, right = ((edge + factor // 2) // factor for edge in edges)
  return image[top:bottom, left:right]


def cacheable(record: bytes | np.ndarray, channels: int) -> bytes | np.ndarray:
  """The form of a record to cache, from which `decode_box` makes the same pixels.

  A JPEG stays encoded, because `decode_box` decodes it at a scale that depends on the box. Anything
  else is decoded, which may raise BadImage.
  """
  if isinstance(record, bytes) and _jpeg_header(record) is not None:
    return record
  return decode(record, channels)


def resize(image_HWC: np.ndarray, out_HWC: np.ndarray, interpolation: str = 'bilinear') -> None:
  """Resizes into `out_HWC`.

  Bilinear after 2 x 2 means (antialiasing) while twice too large, which is fast; or bicubic and
  antialiased as in Pillow, which takes about as long as decoding.
  """
  H, W, C = out_HWC.shape
  h, w, _ = image_HWC.shape
  if interpolation == 'bicubic' and (h, w) != (H, W):
    image = Image.fromarray(image_HWC if C == 3 else image_HWC[..., 0])
    image = image.resize((W, H), Image.Resampling.BICUBIC)
    out_HWC[...] = np.asarray(image).reshape(H, W, C)
    return
  while h >= 2 * H and w >= 2 * W:
    h, w = h // 2, w // 2
    # Without an odd last row or column: OpenCV is fast for exact halves only.
    even = image_HWC[: 2 * h, : 2 * w]
    image_HWC = cv2.resize(even, (w, h), interpolation=cv2.INTER_AREA).reshape(h, w, -1)
  if (h, w) == (H, W):
    out_HWC[...] = image_HWC
  else:
    cv2.resize(image_HWC, (W, H), dst=out_HWC, interpolation=cv2.INTER_LINEAR)


def mirror(image_HWC: np.ndarray) -> None:
  """In place: left becomes right."""
  cv2.flip(image_HWC, 1, dst=image_HWC)


def _jpeg_header(record: bytes) -> tuple[int, int, str] | None:
  """Height, width and color space of a JPEG that libjpeg-turbo can decode."""
  if record[:2] != b'\xff\xd8':
    return None
  try:
    height, width, space, _ = simplejpeg.decode_jpeg_header(record)
  except ValueError:
    return None
  return int(height), int(width), space


def _with_channels(image: np.ndarray, channels: int) -> np.ndarray:
  if image.dtype != np.uint8 or image.ndim not in (2, 3):
    raise BadImage(f'it is {image.dtype} {list(image.shape)}, not uint8 [height, width, channels]')
  image_HWC = image.reshape(*image.shape[:2], -1)
  stored = image_HWC.shape[-1]
  if stored == channels:
    return image_HWC
  if stored == 1:
    return np.repeat(image_HWC, 3, -1)
  if stored in (3, 4):
    rgb_HW3 = np.ascontiguousarray(image_HWC[..., :3])
    return rgb_HW3 if channels == 3 else cv2.cvtColor(rgb_HW3, cv2.COLOR_RGB2GRAY)[..., None]
  raise BadImage(f'it has {stored} channels, not 1, 3 or 4')
