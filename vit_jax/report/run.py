"""A run folder, read. Any part but config.json may be missing: the run may not have ended."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.errors import UserError


@dataclass(frozen=True)
class Raster:
  """Where in a large picture each example was cut out."""

  row_N: np.ndarray  # of the patch's top left pixel
  col_N: np.ndarray
  height: int  # of the large picture, in pixels
  width: int
  patch: int  # side of a patch, in pixels
  held_out_N: np.ndarray | None  # bool: no training image overlaps; None: not recorded


@dataclass(frozen=True)
class Predictions:
  """What the model said about each example of a split, and a sample of the images."""

  label_N: np.ndarray  # -1: no label
  prediction_N: np.ndarray
  confidence_N: np.ndarray
  confusion_KK: np.ndarray  # rows are true classes
  class_names: tuple[str, ...]
  images_SHWC: np.ndarray  # uint8
  sample_S: np.ndarray  # the example that each shown image is
  raster: Raster | None

  @property
  def labelled_N(self) -> np.ndarray:
    return self.label_N >= 0

  @property
  def correct_N(self) -> np.ndarray:
    return self.labelled_N & (self.label_N == self.prediction_N)


@dataclass(frozen=True)
class Run:
  """One run folder."""

  path: Path
  config: Mapping[str, Any]
  metrics: Sequence[Mapping[str, float]]  # rows of metrics.jsonl, in the order of the file
  summary: Mapping[str, Any]  # empty until the run has ended
  predictions: Mapping[str, Predictions]  # by name: the evals of the recipe, then other splits

  @property
  def name(self) -> str:
    return self.config['name']

  @property
  def evals(self) -> list[str]:
    """The eval splits of the recipe; the first is the one that headlines tell."""
    return _evals(self.config, self.summary)

  @property
  def features(self) -> dict[str, list[str]]:
    """Other data sets that the features were judged on -> metrics, such as '10-shot'."""
    found: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for row in self.metrics for key in row if '/' in key):
      name, metric = key.split('/', 1)
      if name not in ('train', *self.evals):
        found.setdefault(name, []).append(metric)
    return found

  @property
  def last_step(self) -> int:
    return max((int(row['step']) for row in self.metrics), default=0)

  def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a metric. Where a step is there twice, the later row counts."""
    values = {row['step']: row[name] for row in self.metrics if name in row}
    steps = sorted(values)
    return np.array(steps, float), np.array([values[step] for step in steps], float)

  def result(self, eval_name: str) -> Mapping[str, float]:
    """The final metrics of an eval split; of an unfinished run the latest ones, or none."""
    if eval_name in self.summary:
      return self.summary[eval_name]
    prefix = f'{eval_name}/'
    latest: dict[str, float] = {}
    for row in self.metrics:
      latest |= {key.removeprefix(prefix): row[key] for key in row if key.startswith(prefix)}
    return latest


def read_run(path: Path | str) -> Run:
  """Reads a run folder.

  Raises:
    UserError: it is not a run folder, or a file in it is damaged.
  """
  path = Path(path)
  if not path.is_dir():
    raise UserError(f'{path} is not a folder; name the run folder that training wrote')
  if not (path / 'config.json').is_file():
    raise UserError(
      f'{path} is not a run folder: it holds no config.json; name the folder that '
      '`vit_jax train` wrote, such as runs/earth_climate'
    )
  config = _read_object(path / 'config.json')
  if not {'name', 'data', 'checkpoint'} <= config.keys():
    raise UserError(
      f'{path} is not a run folder: its config.json is not one that `vit_jax train` '
      'wrote (it lacks name, data or checkpoint)'
    )
  summary_path = path / 'summary.json'
  summary = _read_object(summary_path) if summary_path.is_file() else {}
  evals = _evals(config, summary)
  files = {file.stem: file for file in sorted((path / 'predictions').glob('*.npz'))}
  names = [name for name in evals if name in files] + [n for n in files if n not in evals]
  return Run(
    path=path,
    config=config,
    metrics=_read_rows(path / 'metrics.jsonl'),
    summary=summary,
    predictions={name: _read_predictions(files[name]) for name in names},
  )


def _evals(config: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
  """In the order of the recipe. config.json sorts its keys, but summary.json does not; until that
  is written the split that picks the best checkpoint, by default the first one, comes first."""
  names = list(config['data']['evals'])
  judge = config['checkpoint']['best'].split('/')[0]
  unfinished = sorted(names, key=lambda name: name != judge)
  return [name for name in summary if name in names] or unfinished


def _read_object(path: Path) -> dict[str, Any]:
  try:
    value = json.loads(path.read_text())
  except (json.JSONDecodeError, UnicodeDecodeError):
    value = None
  if not isinstance(value, dict):
    raise UserError(
      f'{path} is damaged: it does not hold a JSON object; run the training command '
      'again, which writes it anew'
    )
  return value


def _read_rows(path: Path) -> list[dict[str, float]]:
  """The rows of metrics.jsonl. A line that a crash cut short is passed over."""
  if not path.is_file():
    return []
  rows = []
  for line in path.read_text(errors='replace').splitlines():
    try:
      row = json.loads(line)
    except json.JSONDecodeError:
      continue
    if isinstance(row, dict) and 'step' in row:
      rows.append(row)
  return rows


def _read_predictions(path: Path) -> Predictions:
  try:
    with np.load(path, allow_pickle=False) as stored:
      arrays = {name: stored[name] for name in stored.files}
    return Predictions(
      label_N=arrays['label_N'],
      prediction_N=arrays['prediction_N'],
      confidence_N=arrays['confidence_N'],
      confusion_KK=arrays['confusion_KK'],
      class_names=tuple(str(name) for name in arrays['class_names']),
      images_SHWC=arrays['images_SHWC'],
      sample_S=arrays['sample_S'],
      raster=_raster(arrays),
    )
  except (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
  ) as error:
    raise UserError(
      f'{path} is damaged ({error}); delete it, or run the training command again, '
      'which writes it anew'
    ) from None


def _raster(arrays: Mapping[str, np.ndarray]) -> Raster | None:
  if not {'row_N', 'col_N', 'raster_size', 'patch_size'} <= arrays.keys():
    return None
  height, width = (int(side) for side in arrays['raster_size'])
  held_out_N = arrays['held_out_N'].astype(bool) if 'held_out_N' in arrays else None
  return Raster(
    arrays['row_N'], arrays['col_N'], height, width, int(arrays['patch_size']), held_out_N
  )
