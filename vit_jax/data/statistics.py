"""What `vit_jax stats` measures of a data set: mean and deviation of pixels, sizes and classes."""

import logging
from dataclasses import dataclass

import numpy as np

from vit_jax.config import ImageData
from vit_jax.data import decode
from vit_jax.data.pixels import Pixels
from vit_jax.data.sources import Source, unreadable
from vit_jax.errors import UserError

CHUNK = 64  # images that are read at a time

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Statistics:
  """Of `images` images; mean and std are of pixels in [0, 1], one for each channel."""

  images: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  heights: tuple[int, int, int]  # smallest, median, largest
  widths: tuple[int, int, int]
  unreadable: int

  @property
  def keys(self) -> dict[str, tuple[float, ...]]:
    """The keys of the recipe that are measured."""
    return {'data.mean': self.mean, 'data.std': self.std}


def measure(source: Source, data: ImageData, count: int) -> Statistics:
  """Reads `count` images drawn at random, or all if there are fewer, each pixel counting alike.

  Raises:
    UserError: none of them can be read.
  """
  chosen = np.random.default_rng(0).permutation(len(source))[:count]
  sizes, faults = [], []
  total_2C, pixels = np.zeros((2, data.channels)), 0
  how = Pixels.of(data)

  def sums(index: int) -> tuple[tuple[int, int], np.ndarray] | str:
    try:
      ((record, _),) = source.read([index])
      image_HWC = decode.decode(record, data.channels, how=how)
    except decode.READ_ERRORS as error:
      return unreadable(source, index, error)
    # In whole numbers, which are exact: a float32 sum of squares is not.
    count_256C = np.stack(
      [np.bincount(plane.ravel(), minlength=256) for plane in _planes(image_HWC)]
    )
    level_256 = np.arange(256)
    return image_HWC.shape[:2], np.stack([count_256C @ level_256, count_256C @ level_256**2])

  with decode.thread_pool(data.threads) as pool:
    for start in range(0, len(chosen), CHUNK):
      for found in pool.map(sums, chosen[start : start + CHUNK].tolist()):
        if isinstance(found, str):
          faults.append(found)
          continue
        (height, width), sums_2C = found
        sizes.append((height, width))
        total_2C += sums_2C
        pixels += height * width
  for fault in faults[:5]:
    log.warning('skipped: %s', fault)
  if not sizes:
    raise UserError(f'none of the images can be read: {faults[0]}')
  mean_C = total_2C[0] / pixels
  std_C = np.sqrt(np.maximum(total_2C[1] / pixels - mean_C**2, 0))
  heights, widths = np.sort(np.array(sizes), axis=0).T
  return Statistics(
    len(sizes),
    tuple(round(float(each) / 255, 4) for each in mean_C),
    tuple(round(float(each) / 255, 4) for each in std_C),
    _spread(heights),
    _spread(widths),
    len(faults),
  )


def _planes(image_HWC: np.ndarray) -> list[np.ndarray]:
  return [image_HWC[..., c] for c in range(image_HWC.shape[-1])]


def _spread(values: np.ndarray) -> tuple[int, int, int]:
  return int(values[0]), int(values[len(values) // 2]), int(values[-1])
