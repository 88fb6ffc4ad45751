"""VTAB-1k: 19 tasks of 1,000 training examples (arXiv:1910.04867).

Splits and labels are those of google-research/task_adaptation, task_adaptation/data: 800 examples
of a task's training part and 200 of its validation part to learn from, the whole test part to be
judged on, images resized whole. TFDS stores examples in an order of its own for each version of a
data set, so "the first 800" are those of the version that is prepared.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vit_jax.transfer.tasks import Task

NATURAL, SPECIALIZED, STRUCTURED = 'natural', 'specialized', 'structured'


def clevr_count(source: Any) -> np.ndarray:
  """How many objects: 3 to 10, as 0 to 7."""
  return np.array([len(sizes) for sizes in source.values('objects/size')]) - 3


def clevr_distance(source: Any) -> np.ndarray:
  """How far the nearest object is, in 6 bins."""
  nearest_N = [
    positions.reshape(-1, 3)[:, 2].min() for positions in source.values('objects/pixel_coords')
  ]
  return binned(nearest_N, (0, 8, 8.5, 9, 9.5, 10, 100))


def kitti_distance(source: Any) -> np.ndarray:
  """How far the nearest car, van or truck is, in 3 bins, and a fourth where there is none."""
  nearest_N = [
    min([1000.0, *places.reshape(-1, 3)[kinds < 3, 2]])
    for kinds, places in zip(
      source.values('objects/type'), source.values('objects/location'), strict=True
    )
  ]
  return binned(nearest_N, (-100, 8, 20, 999))


def dsprites_x(source: Any) -> np.ndarray:
  """32 positions, two to a class."""
  return source.column('label_x_position') * 16 // 32


def dsprites_orientation(source: Any) -> np.ndarray:
  """40 angles, two or three to a class."""
  return source.column('label_orientation') * 16 // 40


def binned(value_N: Sequence[float], edges: Sequence[float]) -> np.ndarray:
  """Bin i holds edges[i] < value <= edges[i + 1]; the last has no upper edge."""
  return np.searchsorted(np.array(edges), np.array(value_N), side='left') - 1


def _task(
  group: str,
  name: str,
  data: str,
  validation: str | int = 'validation',
  test: str = 'test',
  **keys: Any,
) -> Task:
  """A task; the validation part is of a split, or of the training split from some example on."""
  if isinstance(validation, int):
    train = f'train[:800]+train[{validation}:{validation + 200}]'
  else:
    train = f'train[:800]+{validation}[:200]'
  return Task(name, data, train, test, 'vtab', 200, group=group, whole=True, **keys)


CLEVR = 'clevr', 63000, 'validation'
DSPRITES = 'dsprites', 589824, 'train[663552:]'

TASKS = (
  _task(NATURAL, 'Caltech101', 'caltech101', 2754),
  _task(NATURAL, 'CIFAR-100', 'cifar100', 45000),
  _task(NATURAL, 'DTD', 'dtd'),
  _task(NATURAL, 'Flowers102', 'oxford_flowers102'),
  _task(NATURAL, 'Pets', 'oxford_iiit_pet', 2944),
  _task(NATURAL, 'Sun397', 'sun397/tfds'),
  _task(NATURAL, 'SVHN', 'svhn_cropped', 65931),
  _task(SPECIALIZED, 'Camelyon', 'patch_camelyon'),
  _task(SPECIALIZED, 'EuroSAT', 'eurosat/rgb', 16200, 'train[21600:]'),
  _task(SPECIALIZED, 'Resisc45', 'resisc45', 18900, 'train[25200:]'),
  _task(SPECIALIZED, 'Retinopathy', 'diabetic_retinopathy_detection/btgraham-300'),
  _task(STRUCTURED, 'Clevr-Count', *CLEVR, rule=clevr_count),
  _task(STRUCTURED, 'Clevr-Dist', *CLEVR, rule=clevr_distance),
  _task(STRUCTURED, 'DMLab', 'dmlab'),
  _task(STRUCTURED, 'dSpr-Loc', *DSPRITES, rule=dsprites_x, gain=255),
  _task(STRUCTURED, 'dSpr-Ori', *DSPRITES, rule=dsprites_orientation, gain=255),
  _task(STRUCTURED, 'KITTI-Dist', 'kitti', rule=kitti_distance),
  _task(STRUCTURED, 'sNORB-Azim', 'smallnorb', 'test', 'test[50%:]', label='label_azimuth'),
  _task(STRUCTURED, 'sNORB-Elev', 'smallnorb', 'test', 'test[50%:]', label='label_elevation'),
)
