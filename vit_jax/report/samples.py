"""A sample of the images of a split, with the prediction for each."""

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from vit_jax.run.predictions import Predictions

SMALL = 64  # pixels a side: up to here images are kept exactly, and shown with visible pixels


class Sample(NamedTuple):
  """An image and its caption. `mark` and `truth` say whether it is right; the color repeats it."""

  kind: str  # right, wrong or unknown
  mark: str
  predicted: str
  confidence: str
  truth: str
  size: str  # small or large
  address: str  # that holds the image itself

  @property
  def description(self) -> str:
    return f'predicted {self.predicted}, {self.confidence} sure: {self.truth}'


def samples(predictions: Predictions) -> list[Sample]:
  return [
    _sample(predictions, image_HWC, n)
    for image_HWC, n in zip(predictions.images_SHWC, predictions.sample_S, strict=True)
  ]


def _sample(predictions: Predictions, image_HWC: np.ndarray, n: int) -> Sample:
  names, label = predictions.class_names, int(predictions.label_N[n])
  if label < 0:
    kind, mark, truth = 'unknown', '', 'no label'
  elif predictions.correct_N[n]:
    kind, mark, truth = 'right', '✓ ', 'right'
  else:
    kind, mark, truth = 'wrong', '✗ ', f'is {names[label]}'
  size = 'small' if max(image_HWC.shape[:2]) <= SMALL else 'large'
  confidence = f'{predictions.confidence_N[n]:.0%}'
  predicted = names[predictions.prediction_N[n]]
  return Sample(kind, mark, predicted, confidence, truth, size, data_uri(image_HWC))


def data_uri(image_HWC: np.ndarray) -> str:
  """A uint8 image of one or three channels inside its own address: PNG, or JPEG if it is large."""
  image = Image.fromarray(image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC)
  kind = 'png' if max(image.size) <= SMALL else 'jpeg'
  stream = io.BytesIO()
  image.save(stream, kind, optimize=True, quality=85)
  return f'data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}'
