"""The parts of a page that only runs on images have."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vit_jax.evaluate.metrics import confused
from vit_jax.evaluate.predictions import mistake_rows_of
from vit_jax.report import curves, learned, maps, plots
from vit_jax.report.plots import Line
from vit_jax.report.render import Picture, picture
from vit_jax.report.results import on_other_data
from vit_jax.report.samples import samples
from vit_jax.run import Predictions, Run

TEMPLATE = 'images.html'
MAJORITY = 'Always the most frequent class'  # reached without a model
MATRIX_CLASSES = 100  # with more classes only the worst pairs are listed
WORST_PAIRS = 8
MISTAKES = 20  # files that are listed


def figures(run: Run) -> dict[str, Figure]:
  """The maps of a run, by the name of their predictions."""
  found = run.predictions.items()
  return {name: maps.map_figure(each) for name, each in found if each.raster}


def levels(runs: Sequence[Run]) -> dict[str, float]:
  """What is reached without a model: the share of the most frequent class in the first eval.

  Empty where no label of it is known.
  """
  judged = next((p for run in runs if (p := run.predictions.get(runs[0].headline))), None)
  if judged is None or not judged.labeled_N.any():
    return {}
  most = np.bincount(judged.label_N[judged.labeled_N]).max()
  return {MAJORITY: float(most / judged.labeled_N.sum())}


def trained(run: Run) -> str:
  """The label of a metric of training that an evaluation has too."""
  return 'train, as augmented'


def shared(runs: Sequence[Run], labels: Sequence[str]) -> dict[str, Any]:
  """What all runs have together."""
  return {'other_data': on_other_data(runs, labels)}


def parts(run: Run, of: str, drawn: Mapping[str, Figure], weights: bool) -> dict[str, Any]:
  """What one run has; `of` follows the names of its parts, and is empty for a run alone.

  Args:
    drawn: its `figures`.
    weights: whether to read them.
  """
  others_first = sorted(drawn, key=lambda name: name in run.evals)
  splits = [
    _split(name + of, predictions)
    for name, predictions in run.predictions.items()
    if name in run.evals or not predictions.raster
  ]
  return {
    'maps': [_map(name + of, run.predictions[name], drawn[name]) for name in others_first],
    'features': [] if of else _features(run),
    'splits': splits,
    'learned': learned.section(run, of) if weights else learned.Section(),
  }


def _features(run: Run) -> list[Picture]:
  """Accuracy of features over steps, a picture for each data set with more than one step."""
  pictures = []
  for name, metrics in run.features.items():
    lines = [
      Line(metric, *run.series(f'{name}/{metric}'), color, points=True)
      for metric, color in zip(metrics, plots.colors(len(metrics)), strict=False)
    ]
    if all(len(line.step_T) > 1 for line in lines):
      pictures.append(curves.picture_of(name, lines, percent=True))
  return pictures


def _map(name: str, predictions: Predictions, figure: Figure) -> tuple[str, Picture]:
  description = (
    f'Maps of {name}: predicted classes, true classes, and where they agree; '
    f'{maps.agreement(predictions)}. The share of each class that is found is listed beside.'
  )
  return name, picture(figure, description)


def _split(name: str, predictions: Predictions) -> dict[str, Any]:
  """Images, confusions and calibration of a split."""
  parts = {'name': name, 'sample': samples(predictions), 'calibration': None, 'confusion': None}
  if not predictions.labeled_N.any():
    return parts
  if len(predictions.class_names) <= MATRIX_CLASSES:
    words = f'Confusion matrix of {name}; its largest entries are listed beside it as text'
    matrix = plots.confusion(predictions)
    parts['confusion'] = picture(matrix, words, 'Confusion', 'percent of each true class')
  words = f'Accuracy against confidence on {name}'
  note = 'accuracy at each confidence; on the dotted line if calibrated'
  parts['calibration'] = picture(plots.reliability(predictions), words, 'Calibration', note)
  listed = mistake_rows_of(predictions)[:MISTAKES]
  return parts | {'worst_pairs': _worst_pairs(predictions), 'mistakes': listed}


def _worst_pairs(predictions: Predictions) -> list[tuple[str, str]]:
  """(the mistake, how often), the most frequent first."""
  names, label_N = predictions.class_names, predictions.label_N
  pairs = confused(label_N, predictions.prediction_N)[:WORST_PAIRS]
  images_K = np.bincount(label_N[label_N >= 0], minlength=len(names))
  return [
    (f'{names[k]} taken for {names[j]}', f'{count} of {images_K[k]}') for k, j, count in pairs
  ]
