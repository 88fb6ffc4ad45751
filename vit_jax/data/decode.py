"""Encoded bytes to uint8 pixels at the target size.

JPEG goes through libjpeg-turbo (simplejpeg), everything else through OpenCV, and what that does not
know through Pillow; the first two release the GIL. Images are turned upright as their EXIF data
say, and what has more than 8 bits is scaled to 8 (`pixels.py`). Alpha is dropped, as the published
pipelines do.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from vit_jax.data import pixels, region
from vit_jax.data.pixels import AS_SEEN, BadImage, Pixels

READ_ERRORS = (OSError, ValueError, RuntimeError)  # of a missing or damaged example
DCT_FACTORS = (8, 4, 2)  # libjpeg-turbo has fast inverse transforms for these scales only
COLOR = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_ANYDEPTH
GRAY = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_ANYDEPTH
STORED = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
LARGEST = 2**23  # pixels of a resized image; of one that would be larger a part is resized
SUFFIXES = (
  '.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif', '.jp2',
  '.avif', '.ppm', '.pgm', '.npy',
)  # fmt: skip
SNIFFED = 32  # bytes that `is_image` looks at
_MAGIC = (
  b'\xff\xd8\xff', b'\x89PNG\r\n', b'GIF8', b'\0\0\0\x0cjP  ', b'\x93NUMPY', *pixels.TIFF,
)  # fmt: skip


class Box(NamedTuple):
  """A rectangle in pixels of the upright image."""

  top: int
  left: int
  height: int
  width: int


def is_image(head: bytes) -> bool:
  """Whether a file that begins with these bytes is an image that `decode` knows."""
  if head.startswith(_MAGIC) or (head[:4] == b'RIFF' and head[8:12] == b'WEBP'):
    return True
  avif = head[4:8] == b'ftyp' and b'avif' in head[8:]
  return avif or (head[:2] == b'BM' and head[6:10] == bytes(4))


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


def decode(
  record: bytes | np.ndarray, channels: int, factor: int = 1, how: Pixels = AS_SEEN
) -> np.ndarray:
  """Decodes a whole image to uint8 [H, W, channels].

  Args:
    record: encoded bytes, or pixels [H, W] or [H, W, C].
    channels: 1 (luminance), 3 (RGB), or as many as the image has.
    factor: 1, 2, 4 or 8: a JPEG is decoded smaller by this factor (rounded up), at less cost.

  Raises:
    BadImage: truncated, damaged, too large, or not an image.
  """
  if isinstance(record, np.ndarray):
    return _with_channels(pixels.to_uint8(record, how.white), channels)
  if record[:6] == b'\x93NUMPY':
    return _with_channels(pixels.to_uint8(pixels.read_array(record), how.white), channels)
  turn = pixels.orientation(record) if how.upright else 1
  if (jpeg := _jpeg_header(record)) is not None:
    pixels.check_size(-(-jpeg[0] // factor), -(-jpeg[1] // factor))
    try:
      image_HWC = simplejpeg.decode_jpeg(
        record,
        colorspace='GRAY' if channels == 1 else 'RGB',
        min_height=-(-jpeg[0] // factor),
        min_width=-(-jpeg[1] // factor),
      )
      return _with_channels(pixels.turned(image_HWC, turn), channels)
    except ValueError as error:
      if 'Premature end' in str(error):
        raise BadImage('the file is cut short') from error
      if isinstance(error, BadImage):
        raise
      # OpenCV reads what is merely odd (stray bytes before a marker, rare color spaces).
  else:
    pixels.check_header(record)
  tiff = record.startswith(pixels.TIFF)
  if channels not in (1, 3) and tiff:
    return pixels.turned(_with_channels(pixels.read_tiff(record, how.white), channels), turn)
  image = _with_opencv(record, channels)
  if image is None:
    image = pixels.read_with_pillow(record, channels)
  if tiff:  # which OpenCV and Pillow turn by themselves
    turn = 1 if how.upright else pixels.BACK[pixels.orientation(record)]
  image_HWC = _with_channels(pixels.to_uint8(image, how.white), channels)
  return pixels.turned(image_HWC, turn)


def _with_opencv(record: bytes, channels: int) -> np.ndarray | None:
  """Pixels of any range, gray, RGB or of all channels; None of a format that OpenCV lacks."""
  if channels in (1, 3):
    image = pixels.imdecode(record, GRAY if channels == 1 else COLOR)
    if image is not None:
      return image
  image = pixels.imdecode(record, STORED)  # OpenCV converts no gray TIFF of floats
  if image is None or image.ndim == 2:
    return image
  return image[..., [2, 1, 0, *range(3, image.shape[-1])]]  # OpenCV has blue first


def decode_box(
  record: bytes | np.ndarray,
  box: Callable[[int, int], Box],
  out_HWC: np.ndarray,
  interpolation: str = 'bilinear',
  how: Pixels = AS_SEEN,
) -> None:
  """Decodes `record`, cuts out `box(height, width)`, and resizes it into `out_HWC`."""
  H, W, C = out_HWC.shape
  image_HWC = _cut(record, C, lambda h, w: (box(h, w), (H, W)), interpolation, how)
  resize(image_HWC, out_HWC, interpolation)


def decode_whole(
  record: bytes | np.ndarray,
  size: Callable[[int, int], tuple[int, int]],
  channels: int,
  interpolation: str = 'bilinear',
  how: Pixels = AS_SEEN,
) -> np.ndarray:
  """Decodes `record` and resizes it to `size(height, width)`, whatever its aspect.

  Of an image so thin that this would be more than LARGEST pixels, the middle of its longer side.
  """
  target = 0, 0

  def place(height: int, width: int) -> tuple[Box, tuple[int, int]]:
    nonlocal target
    target = size(height, width)
    return Box(0, 0, height, width), target

  image_HWC = _cut(record, channels, place, interpolation, how)
  if target[0] * target[1] > LARGEST:
    axis = 0 if target[0] > target[1] else 1
    share = LARGEST / (target[0] * target[1])
    keep = max(int(image_HWC.shape[axis] * share), 1)
    start = (image_HWC.shape[axis] - keep) // 2
    image_HWC = np.take(image_HWC, np.arange(start, start + keep), axis)
    shorter = min(target)
    longer = max(int(max(target) * share), shorter)
    target = (longer, shorter) if axis == 0 else (shorter, longer)
  out_HWC = np.empty((*target, channels), np.uint8)
  resize(image_HWC, out_HWC, interpolation)
  return out_HWC


def _cut(
  record: bytes | np.ndarray,
  channels: int,
  place: Callable[[int, int], tuple[Box, tuple[int, int]]],
  interpolation: str,
  how: Pixels,
) -> np.ndarray:
  """The box that `place(height, width)` gives, beside the size that it will be resized to.

  A JPEG is decoded at the smallest DCT scale that still has a pixel per pixel of the target; before
  a bicubic filter, which is sharper, two. At full size only the box is, where that is faster.
  """
  jpeg = _jpeg_header(record) if isinstance(record, bytes) else None
  if jpeg is None:
    image = decode(record, channels, how=how)
    (top, left, h, w), _ = place(*image.shape[:2])
    return image[top : top + h, left : left + w]
  assert isinstance(record, bytes)
  *size, space = jpeg
  turn = pixels.orientation(record) if how.upright else 1
  if turn > 4:
    size = size[::-1]
  (top, left, h, w), (H, W) = place(*size)
  gap = 2 if interpolation == 'bicubic' else 1
  factor = next((f for f in DCT_FACTORS if h >= gap * f * H and w >= gap * f * W), 1)
  few = h * w <= region.LARGEST_SHARE * size[0] * size[1]
  plain = channels == 3 and space == 'YCbCr' and turn == 1
  if factor == 1 and plain and few and region.available():
    part = region.decode(record, top, left, h, w)
    if part is not None:
      return part
  image = decode(record, channels, factor, how)
  if list(image.shape[:2]) == size:  # OpenCV decoded it, at full size
    factor = 1
  edges = (top, top + h, left, left + w)
  top, bottom, left, right = ((edge + factor // 2) // factor for edge in edges)
  return image[top:bottom, left:right]


def cacheable(
  record: bytes | np.ndarray, channels: int, how: Pixels = AS_SEEN
) -> bytes | np.ndarray:
  """The form of a record to cache, from which `decode_box` makes the same pixels.

  A JPEG stays encoded, because `decode_box` decodes it at a scale that depends on the box. Anything
  else is decoded, which may raise BadImage.
  """
  if isinstance(record, bytes) and _jpeg_header(record) is not None:
    return record
  return decode(record, channels, how=how)


def resize(image_HWC: np.ndarray, out_HWC: np.ndarray, interpolation: str = 'bilinear') -> None:
  """Resizes into `out_HWC`.

  Bilinear after 2 x 2 means (antialiasing) while twice too large, which is fast; or bicubic and
  antialiased as in Pillow, which takes about as long as decoding.
  """
  H, W, C = out_HWC.shape
  h, w, _ = image_HWC.shape
  if interpolation == 'bicubic' and (h, w) != (H, W):
    out_HWC[...] = pillow_resize(image_HWC, (H, W), Image.Resampling.BICUBIC)
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


def pillow_resize(
  image_HWC: np.ndarray,
  size: tuple[int, int],
  filter: Image.Resampling,
  box: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
  """As Pillow resizes to (height, width); of `box` (left, top, right, bottom), if given."""

  def resized(image: np.ndarray) -> np.ndarray:
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), filter, box))

  if image_HWC.shape[-1] == 3:
    return resized(np.ascontiguousarray(image_HWC))
  planes = np.ascontiguousarray(np.moveaxis(image_HWC, -1, 0))  # Pillow knows no other channels
  return np.stack([resized(plane_HW) for plane_HW in planes], -1)


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
  if image.ndim not in (2, 3):
    raise BadImage(f'it has the shape {list(image.shape)}, not [height, width, channels]')
  image_HWC = image.reshape(*image.shape[:2], -1)
  stored = image_HWC.shape[-1]
  if stored == channels:
    return image_HWC
  if stored == 1 and channels == 3:
    return np.repeat(image_HWC, 3, -1)
  if stored in (3, 4) and channels in (1, 3):
    rgb_HW3 = np.ascontiguousarray(image_HWC[..., :3])
    return rgb_HW3 if channels == 3 else cv2.cvtColor(rgb_HW3, cv2.COLOR_RGB2GRAY)[..., None]
  wanted = '1, 3 or 4' if channels in (1, 3) else f'the {channels} of data.channels'
  raise BadImage(f'it has {stored} channels, not {wanted}')
