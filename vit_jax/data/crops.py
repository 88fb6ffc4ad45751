"""Where a random crop is cut, from numbers that are uniform in [0, 1)."""

import math

import cv2
import numpy as np

from vit_jax.data.decode import Box

# To draw a box that fits into the image; each takes four numbers.
ATTEMPTS = 10  # of torchvision
INCEPTION_ATTEMPTS = 100  # of TensorFlow


def random_box(
  height: int,
  width: int,
  target: tuple[int, int],
  area: tuple[float, float],
  aspect: tuple[float, float],
  uniform_T4: np.ndarray,
) -> Box:
  """Random area and aspect ratio, as torchvision's RandomResizedCrop.

  Args:
    target: (height, width) that the box will be resized to.
    area: range of the fraction of the image, in which it is uniform.
    aspect: range of width / height, relative to that of the target; uniform in its logarithm.
    uniform_T4: random numbers in [0, 1) per attempt: area, aspect, top, left. If no box fits, the
      result is the largest central one with an aspect in the range.
  """
  shape = target[1] / target[0]
  low, high = math.log(aspect[0] * shape), math.log(aspect[1] * shape)
  for u_area, u_aspect, u_top, u_left in uniform_T4.tolist():
    size = height * width * (area[0] + u_area * (area[1] - area[0]))
    root = math.exp(0.5 * (low + u_aspect * (high - low)))
    h, w = round(math.sqrt(size) / root), round(math.sqrt(size) * root)
    if 0 < h <= height and 0 < w <= width:
      return Box(int(u_top * (height - h + 1)), int(u_left * (width - w + 1)), h, w)
  ratio = min(max(width / height, math.exp(low)), math.exp(high))
  h, w = min(height, round(width / ratio)), min(width, round(height * ratio))
  h, w = max(h, 1), max(w, 1)
  return Box((height - h) // 2, (width - w) // 2, h, w)


def inception_box(
  height: int,
  width: int,
  target: tuple[int, int],
  area: tuple[float, float],
  aspect: tuple[float, float],
  uniform_T4: np.ndarray,
) -> Box:
  """Likewise, as TensorFlow's sample_distorted_bounding_box without boxes, in Google's recipes.

  The aspect is uniform, and so is the height between those of the smallest and the largest area
  that fit. Small crops are more frequent: the mean area of a picture of 4:3 and (0.05, 1) is 0.34,
  where `random_box` has 0.42. Sizes that rounding puts out of range are put right by a row; the
  last row and column of places are never taken. If no box fits, the result is the whole image
  (tensorflow/core/kernels/image/sample_distorted_bounding_box_op.cc).
  """
  shape = target[1] / target[0]
  low, high = aspect[0] * shape, aspect[1] * shape
  least, most = (share * height * width for share in area)
  for u_aspect, u_height, u_top, u_left in uniform_T4.tolist():
    ratio = low + u_aspect * (high - low)
    tallest = round(math.sqrt(most / ratio))
    if round(tallest * ratio) > width:
      tallest = int((width + 0.5 - 1e-7) / ratio)
      tallest -= round(tallest * ratio) > width
    tallest = min(tallest, height)
    shortest = min(round(math.sqrt(least / ratio)), tallest)
    h = shortest + int(u_height * (tallest - shortest + 1))
    if h * round(h * ratio) < least:
      h += 1
    if h * round(h * ratio) > most:
      h -= 1
    w = round(h * ratio)
    if least <= h * w <= most and 0 < h <= height and 0 < w <= width:
      return Box(int(u_top * (height - h)), int(u_left * (width - w)), h, w)
  return Box(0, 0, height, width)


def window(image_HWC: np.ndarray, pad: int, uniform_2: np.ndarray, out_HWC: np.ndarray) -> None:
  """Reflects `pad` pixels at each side and cuts a random window of the size of `out_HWC`."""
  H, W, C = out_HWC.shape
  if pad:
    image_HWC = cv2.copyMakeBorder(image_HWC, pad, pad, pad, pad, cv2.BORDER_REFLECT_101)
  h, w = image_HWC.shape[:2]
  u_top, u_left = uniform_2.tolist()
  top, left = int(u_top * (h - H + 1)), int(u_left * (w - W + 1))
  out_HWC[...] = image_HWC.reshape(h, w, C)[top : top + H, left : left + W]


def covering(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
  """The size (height, width) at which the image just covers `target`, as torchvision's Resize."""
  scale = max(target[0] / height, target[1] / width)
  h, w = (int(side * scale + 1e-6) for side in (height, width))
  return max(h, target[0]), max(w, target[1])
