"""Colour histograms: how much the colours of an image tell, without any shape.

The baseline beside a model's accuracy: one that does not beat it has learned no more than colours.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from vit_jax.transfer import linear

BINS = (8, 16)  # a channel; what does better on held-out training images is used
CHUNK = 1024  # images counted at once, which bounds the memory


def colour_histogram(images_BHWC: np.ndarray, bins: int = 8) -> np.ndarray:
  """The joint histogram of the C channels of uint8 images, in `bins` equal bins a channel.

  Returns float32 features_BD, D = bins**C, last channel fastest: square roots of the shares of
  pixels, so a row has L2 norm 1 and a product of rows is their Bhattacharyya coefficient.
  """
  B, H, W, C = images_BHWC.shape
  D = bins**C
  features_BD = np.empty((B, D), np.float32)
  bin_of_value = np.arange(256) * bins // 256
  place_C = bins ** np.arange(C)[::-1]
  for start in range(0, B, CHUNK):
    values_bHWC = images_BHWC[start : start + CHUNK]
    b = len(values_bHWC)
    cells_bHW = bin_of_value[values_bHWC] @ place_C + D * np.arange(b)[:, None, None]
    counts_bD = np.bincount(cells_bHW.ravel(), minlength=b * D).reshape(b, D)
    features_BD[start : start + b] = np.sqrt(counts_bD / (H * W))
  return features_BD


def judge_colour_histogram(
  train_images_NHWC: np.ndarray,
  train_labels_N: np.ndarray,
  test_images_NHWC: np.ndarray,
  test_labels_N: np.ndarray,
) -> dict[str, dict[str, Any]]:
  """Test accuracy of a linear classifier on colour histograms, and of the majority class.

  Bins and strength are chosen on a random fifth of train; the test images are looked at once, by
  the classifier then fitted on all of train. Images are uint8.

  Returns {'majority': {'top1'}, 'colour_histogram': {'top1', 'feature', 'classifier', 'bins',
  'strength', 'validation_top1', 'seconds'}}, accuracies as fractions.
  """
  start = time.perf_counter()
  candidates = []
  for bins in BINS:
    train_ND = colour_histogram(train_images_NHWC, bins)
    used_D = train_ND.any(axis=0)  # most bins are colours that no image has
    train_ND = train_ND[:, used_D]
    candidates.append((linear.choose(train_ND, train_labels_N), bins, train_ND, used_D))
  choice, bins, train_ND, used_D = max(candidates, key=lambda c: c[0].validation_top1)
  classifier = linear.fit(train_ND, train_labels_N, choice.strength)
  test_ND = colour_histogram(test_images_NHWC, bins)[:, used_D]
  top1 = classifier.score(test_ND, test_labels_N)
  return {
    'majority': {'top1': linear.majority_top1(test_labels_N)},
    'colour_histogram': {
      'top1': float(top1),
      'feature': f'square roots of a joint colour histogram, {bins} bins a channel',
      'classifier': f'logistic regression, C = {choice.strength:g}',
      'bins': bins,
      'strength': choice.strength,
      'validation_top1': float(choice.validation_top1),
      'seconds': round(time.perf_counter() - start, 2),
    },
  }
