"""A source in memory and loaders of it, and a plain picture."""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from vit_jax.config import ImageData
from vit_jax.data.loader import Loader

N, BATCH = 1003, 64
SIZE = 6


@dataclass
class Memory:
  """Examples whose first pixels spell their index; `broken` ones are no images."""

  n: int = N
  broken: frozenset[int] = frozenset()
  reads: list[int] = field(default_factory=list)
  name: str = 'memory'
  split: str = 'train'
  class_names: tuple[str, ...] = tuple('abcdefg')
  metadata: dict[str, Any] = field(default_factory=dict)

  def __len__(self):
    return self.n

  def read(self, indices):
    self.reads += indices
    return [(b'junk' if i in self.broken else self.pixels(i), i % 7) for i in indices]

  def pixels(self, i):
    image_HWC = np.random.default_rng(i).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    image_HWC[0, 0] = i % 256, i // 256, 0
    return image_HWC

  def label_sets(self):
    return None

  def column(self, name):
    return None

  def where(self, index):
    return f'place {index}'


def make(
  source=None, train=True, rows=None, seed=0, batch_size=BATCH, view=None, augment=None, **data
):
  plain = dict(image_size=(SIZE, SIZE), eval_crop=1.0, crop='none', flip=False, threads=2)
  data = ImageData(**{**plain, **data})
  keys = dict(seed=seed, batch_size=batch_size, train=train, rows=rows, view=view, augment=augment)
  return Loader(source or Memory(), data, **keys)


def assert_same(left, right):
  assert left.keys() == right.keys()
  for key in left:
    np.testing.assert_array_equal(left[key], right[key], err_msg=key)


def picture(value, size=8):
  image_HWC = np.full((size, size, 3), value, np.uint8)
  return cv2.imencode('.png', image_HWC)[1].tobytes()
