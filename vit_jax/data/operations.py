"""What a policy does to a picture: uint8 [H, W, C] in, new uint8 pixels out.

In Pillow's semantics, within one grey level, but through lookup tables and OpenCV where these are
several times as fast; what turns, shears or blurs a picture is Pillow's own. All release the GIL.
Pictures are contiguous; a gray one has no color, so what changes color leaves it as it is.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageFilter

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
LEVELS = np.arange(256, dtype=np.float32)  # Pillow blends in this precision
RESAMPLING = {
  'nearest': Image.Resampling.NEAREST,
  'bilinear': Image.Resampling.BILINEAR,
  'bicubic': Image.Resampling.BICUBIC,
}
# Pillow's ImageFilter.SMOOTH, of which ImageEnhance.Sharpness is an extrapolation.
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
TRUNCATED = -0.499  # added before OpenCV rounds: Pillow cuts fractions off


def invert(x_HWC: np.ndarray) -> np.ndarray:
  return 255 - x_HWC


def solarize(x_HWC: np.ndarray, threshold: int) -> np.ndarray:
  """Inverts what is not below `threshold`."""
  return _look_up(x_HWC, np.where(LEVELS < threshold, LEVELS, 255 - LEVELS))


def solarize_add(x_HWC: np.ndarray, amount: int) -> np.ndarray:
  """Brightens what is below 128."""
  return _look_up(x_HWC, np.where(LEVELS < 128, LEVELS + amount, LEVELS))


def posterize(x_HWC: np.ndarray, bits: int) -> np.ndarray:
  """Keeps the `bits` highest of the 8 bits."""
  return x_HWC & np.uint8(0xFF << (8 - bits) & 0xFF)


def brightness(x_HWC: np.ndarray, factor: float) -> np.ndarray:
  return _look_up(x_HWC, factor * LEVELS)


def contrast(x_HWC: np.ndarray, factor: float, base: int | None = None) -> np.ndarray:
  """Moves pixels away from `base`, by default the mean luminance of the picture."""
  if base is None:
    gray_HW = cv2.cvtColor(x_HWC, cv2.COLOR_RGB2GRAY) if x_HWC.shape[-1] == 3 else x_HWC
    base = int(cv2.mean(gray_HW)[0] + 0.5)
  return _look_up(x_HWC, base + factor * (LEVELS - base))


def saturation(x_HWC: np.ndarray, factor: float) -> np.ndarray:
  """Moves colors away from the luminance of each pixel (Pillow's Color)."""
  if x_HWC.shape[-1] != 3:
    return x_HWC
  matrix_34 = np.empty((3, 4), np.float32)
  matrix_34[:, :3] = factor * np.eye(3) + (1 - factor) * np.array(LUMA)
  matrix_34[:, 3] = TRUNCATED
  return cv2.transform(x_HWC, matrix_34)


def grayscale(x_HWC: np.ndarray) -> np.ndarray:
  if x_HWC.shape[-1] != 3:
    return x_HWC
  gray_HW = cv2.cvtColor(x_HWC, cv2.COLOR_RGB2GRAY)
  return cv2.cvtColor(gray_HW, cv2.COLOR_GRAY2RGB)


def sharpness(x_HWC: np.ndarray, factor: float) -> np.ndarray:
  """Moves pixels away from a smoothed picture; those of the border stay."""
  smooth_HWC = cv2.filter2D(x_HWC, -1, SMOOTH)
  out_HWC = cv2.addWeighted(x_HWC, factor, smooth_HWC, 1 - factor, TRUNCATED)
  out_HWC = out_HWC.reshape(x_HWC.shape)
  for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
    out_HWC[edge] = x_HWC[edge]
  return out_HWC


def auto_contrast(x_HWC: np.ndarray) -> np.ndarray:
  """Stretches each channel to [0, 255]."""
  tables = []
  for counts_256 in _histograms(x_HWC):
    (present,) = np.nonzero(counts_256)
    low, high = present[0], present[-1]
    tables.append((np.arange(256) - low) * (255 / (high - low)) if high > low else LEVELS)
  return _look_up(x_HWC, *tables)


def equalize(x_HWC: np.ndarray) -> np.ndarray:
  """Makes each channel's levels equally frequent (Pillow's ImageOps.equalize)."""
  tables = []
  for counts_256 in _histograms(x_HWC):
    (present,) = np.nonzero(counts_256)
    step = (counts_256.sum() - counts_256[present[-1]]) // 255
    before_256 = np.cumsum(counts_256) - counts_256
    tables.append((before_256 + step // 2) // step if step else LEVELS)
  return _look_up(x_HWC, *tables)


def blur(x_HWC: np.ndarray, radius: float) -> np.ndarray:
  """Pillow's GaussianBlur, whose radius is a standard deviation in pixels."""
  return _pixels(_image(x_HWC).filter(ImageFilter.GaussianBlur(radius)), x_HWC)


def rotate(
  x_HWC: np.ndarray, degrees: float, resampling: str, fill_C: tuple[int, ...]
) -> np.ndarray:
  """Counterclockwise around the center."""
  image = _image(x_HWC)
  return _pixels(image.rotate(degrees, RESAMPLING[resampling], fillcolor=_color(fill_C)), x_HWC)


def affine(
  x_HWC: np.ndarray, matrix_6: Sequence[float], resampling: str, fill_C: tuple[int, ...]
) -> np.ndarray:
  """(x, y) of the result shows (a x + b y + c, d x + e y + f), as Pillow's Image.transform."""
  image, kind = _image(x_HWC), Image.Transform.AFFINE
  moved = image.transform(
    image.size, kind, tuple(matrix_6), RESAMPLING[resampling], fillcolor=_color(fill_C)
  )
  return _pixels(moved, x_HWC)


def shear_x(
  x_HWC: np.ndarray, slope: float, resampling: str, fill_C: tuple[int, ...]
) -> np.ndarray:
  return affine(x_HWC, (1, slope, 0, 0, 1, 0), resampling, fill_C)


def shear_y(
  x_HWC: np.ndarray, slope: float, resampling: str, fill_C: tuple[int, ...]
) -> np.ndarray:
  return affine(x_HWC, (1, 0, 0, slope, 1, 0), resampling, fill_C)


def translate_x(
  x_HWC: np.ndarray, pixels: float, resampling: str, fill_C: tuple[int, ...]
) -> np.ndarray:
  return _translate(x_HWC, pixels, 1, resampling, fill_C)


def translate_y(
  x_HWC: np.ndarray, pixels: float, resampling: str, fill_C: tuple[int, ...]
) -> np.ndarray:
  return _translate(x_HWC, pixels, 0, resampling, fill_C)


def cut_out(
  x_HWC: np.ndarray, row: int, column: int, radius: int, fill_C: tuple[int, ...]
) -> np.ndarray:
  """Fills a square of side 2 `radius` around a pixel, as far as it is inside."""
  out_HWC = x_HWC.copy()
  rows = slice(max(row - radius, 0), row + radius)
  out_HWC[rows, max(column - radius, 0) : column + radius] = fill_C
  return out_HWC


def _translate(
  x_HWC: np.ndarray, pixels: float, axis: int, resampling: str, fill_C: tuple[int, ...]
) -> np.ndarray:
  """`affine` along one axis: all pixels have the same four weights, so that a filter does it."""
  side = x_HWC.shape[axis]
  whole = math.floor(pixels) if resampling != 'nearest' else math.floor(pixels + 0.5)
  d = pixels - whole
  first, last = math.ceil(-pixels - 0.5), math.ceil(side - pixels - 0.5)  # what has a source
  first, last = max(first, 0), min(last, side)
  out_HWC = np.empty_like(x_HWC)
  out_HWC[...] = fill_C
  if first >= last:
    return out_HWC
  padded = cv2.copyMakeBorder(x_HWC, 2, 2, 2, 2, cv2.BORDER_REPLICATE)
  if resampling != 'nearest':
    # Pillow's cubic is that of Keys (1981) with a = -1.
    cubic = [-d + 2 * d**2 - d**3, 1 - 2 * d**2 + d**3, d + d**2 - d**3, d**3 - d**2]
    weights_4 = np.array(cubic if resampling == 'bicubic' else [0, 1 - d, d, 0], np.float32)
    kernel, anchor = (weights_4[None], (1, 0)) if axis else (weights_4[:, None], (0, 1))
    padded = cv2.filter2D(padded, -1, kernel, anchor=anchor, delta=TRUNCATED)
  height, width, C = x_HWC.shape
  padded = padded.reshape(height + 4, width + 4, C)
  there, here = slice(first + whole + 2, last + whole + 2), slice(first, last)
  if axis:
    out_HWC[:, here] = padded[2:-2, there]
  else:
    out_HWC[here] = padded[there, 2:-2]
  return out_HWC


def _look_up(x_HWC: np.ndarray, *tables: np.ndarray) -> np.ndarray:
  """Each level through one table, or one for each channel; clipped, fractions cut off."""
  tables_T256 = np.clip(np.stack(tables), 0, 255).astype(np.uint8)
  table = tables_T256[0] if len(tables) == 1 else np.ascontiguousarray(tables_T256.T)[None]
  return cv2.LUT(x_HWC, table).reshape(x_HWC.shape)


def _histograms(x_HWC: np.ndarray) -> list[np.ndarray]:
  """Counts of each level, int [256], for each channel."""
  return [
    cv2.calcHist([x_HWC], [c], None, [256], [0, 256]).reshape(-1).astype(np.int64)
    for c in range(x_HWC.shape[-1])
  ]


def _image(x_HWC: np.ndarray) -> Image.Image:
  return Image.fromarray(x_HWC if x_HWC.shape[-1] == 3 else x_HWC[..., 0])


def _pixels(image: Image.Image, like_HWC: np.ndarray) -> np.ndarray:
  return np.asarray(image).reshape(like_HWC.shape)


def _color(fill_C: tuple[int, ...]) -> int | tuple[int, ...]:
  return fill_C[0] if len(fill_C) == 1 else fill_C
