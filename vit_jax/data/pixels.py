"""What stored pixels mean: their range, which way is up, and how large an image may be."""

import io
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
from numpy.lib import format as npy
from PIL import Image, TiffImagePlugin

from vit_jax.errors import first_line

MAX_PIXELS = 178_956_970  # as Pillow; more is taken for a bomb
DEPTHS = (8, 10, 12, 14, 16)  # bits of a sensor, of which 16-bit files are made
TIFF = b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'  # little and big endian; BigTIFF
EXIF_BYTES = 2**17  # of a JPEG, at whose start its EXIF data are
ORIENTATION = 0x0112
BACK = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # what undoes each orientation


class BadImage(ValueError):
  """Not a complete image in a known format, or one that is too large."""


class Pixels(NamedTuple):
  """How stored pixels are read.

  Attributes:
    upright: the image is turned and mirrored as its EXIF data say.
    white: of images of more than 8 bits, the value that becomes 255; 0: by each image's own range
      (`to_uint8`).
  """

  upright: bool = True
  white: float = 0.0

  @classmethod
  def of(cls, x: Any) -> Self:
    """As images are read by `ImageData`, `Inputs` or a `View`, which have the same two fields."""
    return cls(x.upright, x.white)


AS_SEEN = Pixels()


def to_uint8(image: np.ndarray, white: float) -> np.ndarray:
  """Pixels scaled to 0 to 255.

  Without `white`, whole numbers without a sign go up to the largest value of the fewest bits that
  hold them (8, 10, 12, 14 or 16); other numbers from 0 to 1 or to 255 if they are in that range,
  else from their smallest to their largest.

  Raises:
    BadImage: a number that is not finite, or no number.
  """
  if image.dtype == np.uint8:
    return image
  if image.dtype == bool:
    return image.astype(np.uint8) * np.uint8(255)
  if image.dtype.kind not in 'uif' or not image.size:
    raise BadImage(f'it is {image.dtype} {list(image.shape)}, not numbers')
  numbers = image.astype(np.float32)
  if not np.isfinite(numbers).all():
    raise BadImage('it holds a number that is not finite')
  low, high = 0.0, white
  if not white:
    low, high = _range(image.dtype.kind, float(numbers.min()), float(numbers.max()))
  scaled = (numbers - low) * (255 / max(high - low, 1e-12))
  return np.round(scaled.clip(0, 255)).astype(np.uint8)


def _range(kind: str, least: float, most: float) -> tuple[float, float]:
  if kind == 'u':
    return 0.0, next((2.0**bits - 1 for bits in DEPTHS if most < 2**bits), most)
  if least >= 0 and most <= 255:
    return 0.0, 1.0 if most <= 1 and kind == 'f' else 255.0
  return least, most


def remarks(record: bytes, how: Pixels) -> list[str]:
  """What is decided about the pixels of an encoded image: its range, and which way is up."""
  turn = 'turned upright' if how.upright else 'left as stored, though their EXIF data turn them,'
  found = [f'{turn} (data.upright)'] * (orientation(record) > 1)
  if record[:2] == b'\xff\xd8':
    return found
  image = None
  if record[:6] == b'\x93NUMPY':
    image = read_array(record)
  else:
    check_header(record)
    image = imdecode(record, cv2.IMREAD_UNCHANGED)
  if image is not None and image.dtype != np.uint8:
    scale = f'with {how.white:g} as white' if how.white else 'by its own range'
    found.append(f'of {image.dtype}, scaled {scale} (data.white)')
  return found


def orientation(record: bytes) -> int:
  """The EXIF orientation, 1 to 8; 1 is upright."""
  start = record[:12]
  jpeg = start[:2] == b'\xff\xd8' and record.find(b'Exif\0\0', 0, EXIF_BYTES) >= 0
  png = start[:4] == b'\x89PNG' and b'eXIf' in record
  webp = start[8:12] == b'WEBP' and b'EXIF' in record
  try:
    if start.startswith(TIFF):
      value = _tiff_tags(record).get(ORIENTATION, 1)
    elif jpeg or png or webp:
      value = Image.open(io.BytesIO(record)).getexif().get(ORIENTATION, 1)
    else:
      return 1
  except Exception:  # whatever damaged metadata raise; the pixels may be good
    return 1
  return value if value in range(1, 9) else 1


def _tiff_tags(record: bytes) -> Any:
  """The tags of the first image of a TIFF, by number."""
  file = io.BytesIO(record)
  big = b'+' in record[2:4]
  tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(16 if big else 8))
  file.seek(tags.next)
  tags.load(file)
  return tags


def turned(image_HWC: np.ndarray, orientation: int) -> np.ndarray:
  """The image upright, given its EXIF orientation."""
  if orientation == 1:
    return image_HWC
  if orientation > 4:  # rows were columns
    image_HWC = image_HWC.swapaxes(0, 1)
  down = -1 if orientation in (3, 4, 7, 8) else 1
  across = -1 if orientation in (2, 3, 6, 7) else 1
  return np.ascontiguousarray(image_HWC[::down, ::across])


def check_size(height: int, width: int) -> None:
  """Raises BadImage for an image of more than MAX_PIXELS."""
  if height * width > MAX_PIXELS:
    raise BadImage(
      f'it has {height} x {width} pixels, and more than {MAX_PIXELS:,} are taken for a '
      'decompression bomb; cut it into smaller images'
    )


def imdecode(record: bytes, flags: int) -> np.ndarray | None:
  """As OpenCV decodes it; None of a format that it lacks. Raises BadImage if it is damaged."""
  try:
    return cv2.imdecode(np.frombuffer(record, np.uint8), flags)
  except cv2.error:
    raise BadImage('it is empty or damaged') from None


def check_header(record: bytes) -> None:
  """Likewise, from what the file says before it is decoded; what Pillow does not know passes."""
  try:
    if record.startswith(TIFF):  # Pillow complains aloud about many channels
      tags = _tiff_tags(record)
      width, height = tags[256], tags[257]
    else:
      with Image.open(io.BytesIO(record)) as image:
        width, height = image.size
  except Image.DecompressionBombError:
    raise BadImage(
      f'it has more than {MAX_PIXELS:,} pixels, which is taken for a decompression bomb; cut it '
      'into smaller images'
    ) from None
  except Exception:  # whatever damaged files raise; who decodes it says what is wrong
    return
  check_size(height, width)


def read_array(record: bytes) -> np.ndarray:
  """An image [H, W] or [H, W, C] that numpy has written; raises BadImage if it is none."""
  file = io.BytesIO(record)
  try:
    major, _ = npy.read_magic(file)
    read = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject or len(shape) not in (2, 3):
      raise BadImage(f'it is an array of {dtype} {list(shape)}, not [height, width, channels]')
    check_size(*shape[:2])
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)
  except ValueError as error:
    if isinstance(error, BadImage):
      raise
    raise BadImage(f'it is damaged: {first_line(error)}') from None


def read_tiff(record: bytes, white: float) -> np.ndarray:
  """uint8 of a TIFF of any number of channels.

  Raises:
    BadImage: it is damaged, or tifffile is not installed.
  """
  try:
    import tifffile  # here: it is in the extra `data`
  except ImportError:
    raise BadImage(
      "a TIFF of this many channels needs tifffile: pip install 'vit-jax[data]'"
    ) from None
  try:
    with tifffile.TiffFile(io.BytesIO(record)) as file:
      series = file.series[0]
      image, planes = np.squeeze(series.asarray()), series.axes.endswith('YX')
  except Exception as error:  # of many kinds
    raise BadImage(f'it is damaged: {first_line(error)}') from None
  return to_uint8(np.moveaxis(image, 0, -1) if planes and image.ndim == 3 else image, white)


def read_with_pillow(record: bytes, channels: int) -> np.ndarray:
  """What OpenCV does not know, as luminance, RGB or numbers; raises BadImage."""
  try:
    with Image.open(io.BytesIO(record)) as image:
      numbers = image.mode.startswith(('I', 'F'))  # Pillow would clip them
      return np.asarray(image if numbers else image.convert('L' if channels == 1 else 'RGB'))
  except Exception:  # of many kinds
    raise BadImage('it is damaged or not in a known image format') from None
