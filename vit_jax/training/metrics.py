"""Metrics from rows, one row an example: counts over examples, never means of means."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

Rows = Mapping[str, np.ndarray]
ECE_BINS = 15


def concatenate(batches: list[Rows]) -> dict[str, np.ndarray]:
  """Joins batches of rows, drops masked ones, and sorts by example."""
  rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
  keep = np.flatnonzero(rows.pop('mask'))
  keep = keep[np.argsort(rows['index'][keep], kind='stable')]
  return {name: values[keep] for name, values in rows.items()}


def summarise(rows: Rows) -> dict[str, float]:
  """top1, top5, loss (mean, nats) and ece, as fractions in [0, 1]; sums in float64.

  Examples of none of the classes (label -1) count nowhere; where no other is left, all is NaN.
  `ece` is the expected calibration error over 15 bins of equal width (Guo et al. 2017, eq. 3); a
  confidence that is no number is none.
  """
  rows = {name: values[rows['label'] >= 0] for name, values in rows.items()}
  correct_N = rows['rank'] < 1
  confidence_N = np.nan_to_num(rows['confidence'].astype(np.float64))
  bin_N = np.minimum((confidence_N * ECE_BINS).astype(int), ECE_BINS - 1)
  gap_M = np.bincount(bin_N, correct_N, ECE_BINS) - np.bincount(bin_N, confidence_N, ECE_BINS)
  count = len(correct_N) or math.nan
  return {
    'top1': float(correct_N.sum() / count),
    'top5': float((rows['rank'] < 5).sum() / count),
    'loss': float(rows['loss'].astype(np.float64).sum() / count),
    'ece': float(np.abs(gap_M).sum() / count),
  }


def confusion(rows: Rows, num_classes: int) -> np.ndarray:
  """confusion_KK counts: rows are true classes, columns predicted ones.

  What is of none of the classes, or was predicted to be, is left out.
  """
  known_N = (rows['label'] >= 0) & (rows['prediction'] < num_classes)
  cells = rows['label'][known_N].astype(np.int64) * num_classes + rows['prediction'][known_N]
  return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
