"""predictions/NAME.npz: the model's prediction for each example of a split, and some images."""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.errors import first_line
from vit_jax.reads import opened
from vit_jax.writes import replacing


@dataclass(frozen=True)
class Raster:
  """Where each example was cut out of a large picture."""

  row_N: np.ndarray  # of the patch's top left pixel
  col_N: np.ndarray
  height: int  # of the large picture, in pixels
  width: int
  patch: int  # side of a patch, in pixels
  held_out_N: np.ndarray | None  # bool: no training image overlaps; None: not recorded
  extent: tuple[float, ...] | None = None  # left, right, bottom, top in degrees, if declared


@dataclass(frozen=True)
class Predictions:
  """Arrays with one entry per example of a split, and a sample of the images."""

  index_N: np.ndarray  # of the example in its split
  label_N: np.ndarray  # -1: no label
  prediction_N: np.ndarray
  confidence_N: np.ndarray
  class_names: tuple[str, ...]
  images_SHWC: np.ndarray  # uint8
  sample_S: np.ndarray  # which example each of these images is
  raster: Raster | None = None  # if the data set declares one
  # The examples that are wrong, the surest first, and where each is found; of very many the first.
  mistake_M: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
  mistakes: tuple[str, ...] = ()
  # Class name -> ('#rrggbb', what it is in words), if the data set declares it.
  palette: Mapping[str, Sequence[str]] = field(default_factory=dict)

  @property
  def labeled_N(self) -> np.ndarray:
    return self.label_N >= 0

  @property
  def confusion_KK(self) -> np.ndarray:
    """Counts: rows are true classes, columns predicted ones. For few classes: it is K by K."""
    K = len(self.class_names)
    counts_KK = np.zeros((K, K), int)
    known_N = self.labeled_N & (self.prediction_N < K)
    np.add.at(counts_KK, (self.label_N[known_N], self.prediction_N[known_N]), 1)
    return counts_KK

  @property
  def correct_N(self) -> np.ndarray:
    return self.labeled_N & (self.label_N == self.prediction_N)


ARRAYS = ('index_N', 'label_N', 'prediction_N', 'confidence_N', 'images_SHWC', 'sample_S')


def write_predictions(path: Path, predictions: Predictions) -> None:
  arrays: dict[str, Any] = {name: getattr(predictions, name) for name in ARRAYS}
  arrays |= {'class_names': predictions.class_names, 'mistake_M': predictions.mistake_M}
  arrays['mistakes'] = np.array(predictions.mistakes, str)
  if predictions.palette:
    arrays['palette'] = json.dumps(predictions.palette)
  if raster := predictions.raster:
    arrays |= {'row_N': raster.row_N, 'col_N': raster.col_N, 'patch_size': raster.patch}
    arrays['raster_size'] = raster.height, raster.width
    if raster.held_out_N is not None:
      arrays['held_out_N'] = raster.held_out_N
    if raster.extent:
      arrays['extent'] = raster.extent
  path.parent.mkdir(exist_ok=True)
  with replacing(path) as file:
    np.savez_compressed(file, **arrays)


def read_predictions(path: Path, faults: list[str]) -> Predictions | None:
  """None, and a fault that says why, if the file is damaged."""
  try:
    with opened(path) as file, np.load(file, allow_pickle=False) as stored:
      arrays = {name: stored[name] for name in stored.files}
    if len({len(arrays[name]) for name in ARRAYS[:4]}) > 1:
      raise ValueError('its arrays differ in length')
    return Predictions(
      **{name: arrays[name] for name in ARRAYS},
      class_names=tuple(map(str, arrays['class_names'])),
      raster=_raster(arrays),
      mistake_M=arrays.get('mistake_M', np.zeros(0, int)),
      mistakes=tuple(map(str, arrays.get('mistakes', ()))),
      palette=json.loads(str(arrays['palette'])) if 'palette' in arrays else {},
    )
  except KeyError as error:
    why = f'it has no {error}'
  except (OSError, EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
    why = first_line(error) or 'it is empty'
  faults.append(f'{path} is damaged and left out: {why}')
  return None


def _raster(arrays: Mapping[str, Any]) -> Raster | None:
  if not {'row_N', 'col_N', 'raster_size', 'patch_size'} <= arrays.keys():
    return None
  height, width = (int(side) for side in arrays['raster_size'])
  held_out_N = arrays['held_out_N'].astype(bool) if 'held_out_N' in arrays else None
  return Raster(
    arrays['row_N'],
    arrays['col_N'],
    height,
    width,
    int(arrays['patch_size']),
    held_out_N,
    tuple(arrays['extent'].tolist()) if 'extent' in arrays else None,
  )
