"""What is kept of the predictions on a split, for reports: rows, and a sample of the images."""

import numpy as np

from vit_jax.data.view import View
from vit_jax.evaluate.judge import Judged
from vit_jax.run import Predictions, Raster

SHOWN_IMAGES = 48


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

  raster, row_N, col_N, declared = None, column('row'), column('col'), source.metadata
  if row_N is not None and col_N is not None and 'raster_size' in declared:
    height, width = declared['raster_size']
    patch, extent = declared['patch_size'], declared.get('extent')
    held_out_N = column('held_out')
    raster = Raster(row_N, col_N, height, width, patch, held_out_N, extent and tuple(extent))
  return Predictions(
    index_N=index_N,
    label_N=rows['label'],
    prediction_N=rows['prediction'],
    confidence_N=rows['confidence'],
    class_names=source.class_names,
    images_SHWC=images_SHWC,
    sample_S=sample_S,
    raster=raster,
    palette=declared.get('palette', {}),
  )
