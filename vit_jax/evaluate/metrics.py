"""Metrics from rows, one row per example: counts over examples, never means of means."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax import losses
from vit_jax.tables import as_text

Rows = Mapping[str, np.ndarray]
ECE_BINS = 15
MATRIX_CLASSES, WORST_PAIRS = 24, 20  # of a confusion matrix in text


def class_rows(logits_BK: jax.Array, label_B: jax.Array, loss: str) -> dict[str, jax.Array]:
  """What a classification keeps of each example, as arrays over B.

  `rank` counts the other classes that do not score less than the true one: top-k is rank < k, so
  ties count against the model, and so do scores that are not numbers. `confidence` is the
  probability of the predicted class, by `loss` ('softmax' or 'sigmoid').
  """
  logits_BK = logits_BK.astype(jnp.float32)
  label_B = jnp.maximum(label_B, 0)
  true_B1 = jnp.take_along_axis(logits_BK, label_B[:, None], axis=1)
  target_BK = jax.nn.one_hot(label_B, logits_BK.shape[-1])
  return {
    'loss': losses.LOSSES[loss](logits_BK, target_BK),
    'prediction': jnp.argmax(logits_BK, axis=-1).astype(jnp.int32),
    'rank': jnp.sum(~(logits_BK < true_B1), axis=-1).astype(jnp.int32) - 1,
    'confidence': jnp.max(losses.PROBABILITIES[loss](logits_BK), axis=-1),
  }


def concatenate(batches: Sequence[Rows]) -> dict[str, np.ndarray]:
  """Joins batches of rows, drops masked ones, and sorts by example."""
  rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
  keep = np.flatnonzero(rows.pop('mask'))
  keep = keep[np.argsort(rows['index'][keep], kind='stable')]
  return {name: values[keep] for name, values in rows.items()}


def summarize(rows: Rows) -> dict[str, float]:
  """top1, top5, loss (mean, nats) and ece, as fractions in [0, 1]; sums in float64.

  Examples of none of the classes (label -1) count nowhere; where no other is left, all is NaN.
  `ece` is the expected calibration error over 15 bins of equal width (Guo et al. 2017, eq. 3); a
  confidence that is not a number counts as 0.
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


def top1(prediction_N: np.ndarray, label_N: np.ndarray, right_NK: np.ndarray | None) -> float:
  """The share of examples whose class is right: `right_NK` says which are, else the label."""
  if right_NK is None:
    return float(np.mean(prediction_N == label_N))
  return float(np.mean(right_NK[np.arange(len(prediction_N)), prediction_N]))


def confused(label_N: np.ndarray, prediction_N: np.ndarray) -> list[tuple[int, int, int]]:
  """(true class, predicted class, count) of every pair of different classes that occurs.

  The most frequent come first. Examples of none of the classes are left out.
  """
  wrong_N = (label_N >= 0) & (label_N != prediction_N)
  pairs = zip(label_N[wrong_N].tolist(), prediction_N[wrong_N].tolist(), strict=True)
  counts = sorted(Counter(pairs).items(), key=lambda counted: (-counted[1], counted[0]))
  return [(*pair, count) for pair, count in counts]


def confusion_text(label_N: np.ndarray, prediction_N: np.ndarray, names: Sequence[str]) -> str:
  """The confusion matrix (rows true, columns predicted); of many classes the worst pairs."""
  if len(names) > MATRIX_CLASSES:
    pairs = confused(label_N, prediction_N)[:WORST_PAIRS]
    return as_text(
      ('true', 'predicted', 'count'), [(names[k], names[j], count) for k, j, count in pairs]
    )
  counts_KK = np.zeros((len(names), len(names)), int)
  np.add.at(counts_KK, (label_N[label_N >= 0], prediction_N[label_N >= 0]), 1)
  return as_text(
    ('true', *names), [(name, *map(int, row)) for name, row in zip(names, counts_KK, strict=True)]
  )
