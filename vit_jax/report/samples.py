"""A sample of the images of a split, with the prediction for each."""

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from vit_jax.report.plots import rgb
from vit_jax.run.predictions import Predictions

SMALL = 64  # pixels a side: up to here images are kept exactly, and shown with visible pixels


class Sample(NamedTuple):
  """An image and its caption; `truth` says in words whether it is right."""

  kind: str  # right, wrong or unknown
  predicted: str
  confidence: str
  truth: str
  size: str  # small or large
  address: str  # that holds the image itself


def samples(predictions: Predictions) -> list[Sample]:
  names, found = predictions.class_names, []
  for image_HWC, n in zip(predictions.images_SHWC, predictions.sample_S, strict=True):
    if predictions.label_N[n] < 0:
      kind, truth = 'unknown', 'no label'
    elif predictions.correct_N[n]:
      kind, truth = 'right', 'right'
    else:
      kind, truth = 'wrong', f'is {names[predictions.label_N[n]]}'
    size = 'small' if max(image_HWC.shape[:2]) <= SMALL else 'large'
    confidence = f'{predictions.confidence_N[n]:.0%}'
    predicted = names[predictions.prediction_N[n]]
    found.append(Sample(kind, predicted, confidence, truth, size, data_uri(image_HWC)))
  return found


def data_uri(image_HWC: np.ndarray) -> str:
  """A uint8 image inside its own address: PNG, or JPEG if it is large."""
  image = Image.fromarray(image_HWC[..., 0] if image_HWC.shape[-1] == 1 else rgb(image_HWC))
  kind = 'png' if max(image.size) <= SMALL else 'jpeg'
  stream = io.BytesIO()
  image.save(stream, kind, optimize=True, quality=85)
  return f'data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}'
