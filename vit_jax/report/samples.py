"""A grid of images with what the model said about each, as HTML."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from vit_jax.report.run import Predictions

SMALL = 64  # pixels a side: up to here images are kept exactly, and shown with visible pixels


def image_grid(predictions: Predictions) -> str:
  """The sample of images; the mark and the words say which are right, the colour only repeats."""
  figures = []
  for image_HWC, n in zip(predictions.images_SHWC, predictions.sample_S, strict=True):
    names, label = predictions.class_names, int(predictions.label_N[n])
    predicted = names[predictions.prediction_N[n]]
    said = f'{predicted}, {predictions.confidence_N[n]:.0%} sure'
    if label < 0:
      kind, mark, truth = 'unknown', '', 'no label'
    elif predictions.correct_N[n]:
      kind, mark, truth = 'right', '✓ ', 'right'
    else:
      kind, mark, truth = 'wrong', '✗ ', f'is {names[label]}'
    size = 'small' if max(image_HWC.shape[:2]) <= SMALL else 'large'
    figures.append(
      f'<figure class="{kind}"><img class="{size}" src="{data_uri(image_HWC)}" '
      f'alt="{escape(f"predicted {said}: {truth}")}"><figcaption>'
      f'<b>{mark}{escape(predicted)}</b> <small>{predictions.confidence_N[n]:.0%}'
      f'{" · " + escape(truth) if kind != "right" else ""}</small></figcaption></figure>'
    )
  return f'<div class="images">\n{chr(10).join(figures)}\n</div>'


def data_uri(image_HWC: np.ndarray) -> str:
  """A uint8 image of one or three channels inside its own address: PNG, or JPEG if it is large."""
  image = Image.fromarray(image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC)
  kind = 'png' if max(image.size) <= SMALL else 'jpeg'
  stream = io.BytesIO()
  image.save(stream, kind, optimize=True, quality=85)
  return f'data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}'
