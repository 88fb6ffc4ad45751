"""What is kept of the predictions on a split, for reports: rows, and a sample of the images."""

from typing import Any

import numpy as np

from vit_jax.data.view import View
from vit_jax.evaluate.judge import Judged
from vit_jax.evaluate.metrics import Rows
from vit_jax.run import Predictions, Raster

SHOWN_IMAGES = 48
MISTAKES = 10_000  # of which the file is kept


def predictions_of(judged: Judged, view: View) -> Predictions:
  """The predictions on every example, SHOWN_IMAGES images drawn at random, and what the data set
  declares of a map: where each example is in a raster, and a palette."""
  assert judged.rows is not None
  rows, source = judged.rows, judged.test.source
  index_N = rows['index']
  sample_S = np.sort(np.random.default_rng(0).permutation(len(index_N))[:SHOWN_IMAGES])
  images_SHWC = np.zeros((len(sample_S), *view.image_shape), np.uint8)
  records = source.read([int(i) for i in index_N[sample_S]])
  for image_HWC, (record, _) in zip(images_SHWC, records, strict=True):
    view(record, image_HWC)

  def column(name: str) -> np.ndarray | None:
    column_N = source.column(name)
    return None if column_N is None else column_N[index_N]

  label_N = _labels(judged)
  mistake_M = _mistakes(label_N, rows)
  raster, row_N, col_N, declared = None, column('row'), column('col'), source.metadata
  if row_N is not None and col_N is not None and 'raster_size' in declared:
    height, width = declared['raster_size']
    patch, extent = declared['patch_size'], declared.get('extent')
    held_out_N = column('held_out')
    raster = Raster(row_N, col_N, height, width, patch, held_out_N, extent and tuple(extent))
  return Predictions(
    index_N=index_N,
    label_N=label_N,
    prediction_N=rows['prediction'],
    confidence_N=rows['confidence'],
    class_names=source.class_names,
    images_SHWC=images_SHWC,
    sample_S=sample_S,
    raster=raster,
    mistake_M=mistake_M,
    mistakes=tuple(source.where(i) for i in index_N[mistake_M].tolist()),
    palette=declared.get('palette', {}),
  )


def _labels(judged: Judged) -> np.ndarray:
  """Of each example its class; where several are right, the predicted one if it is among them."""
  rows, test = judged.rows, judged.test
  assert rows is not None
  if test.right_NK is None or test.keep_N is None:
    return rows['label']
  place_N = np.searchsorted(test.keep_N, rows['index']).clip(max=len(test.keep_N) - 1)
  right_N = test.right_NK[place_N, rows['prediction']] & np.isin(rows['index'], test.keep_N)
  return np.where(right_N, rows['prediction'], rows['label'])


def _mistakes(label_N: np.ndarray, rows: Rows) -> np.ndarray:
  """Positions of the examples whose class is not right, the surest first."""
  wrong_M = np.flatnonzero((label_N >= 0) & (label_N != rows['prediction']))
  surest = np.argsort(-np.nan_to_num(rows['confidence'][wrong_M]), kind='stable')
  return wrong_M[surest[:MISTAKES]]


def class_rows_of(judged: Judged) -> list[dict[str, Any]]:
  """A row for each class, for a CSV file."""
  columns = {name: column_K.tolist() for name, column_K in judged.by_class.items()}
  return [
    {'class': name, **{key: column[k] for key, column in columns.items() if k < len(column)}}
    for k, name in enumerate(judged.source.class_names if columns else ())
  ]


def mistake_rows_of(found: Predictions) -> list[dict[str, Any]]:
  """A row for each mistake, the surest first, for a CSV file."""
  names = found.class_names
  return [
    {
      'file': file,
      'class': names[found.label_N[n]],
      'predicted': names[found.prediction_N[n]],
      'confidence': round(float(found.confidence_N[n]), 6),
    }
    for n, file in zip(found.mistake_M.tolist(), found.mistakes, strict=True)
  ]
