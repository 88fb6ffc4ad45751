"""Metrics from rows, one row per example: counts over examples, never means of means."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax import losses
from vit_jax.tables import as_text

Rows = Mapping[str, np.ndarray]
ECE_BINS = 15
MATRIX_CLASSES, WORST_PAIRS = 24, 20  # of a confusion matrix in text
WORST_CLASSES = 20  # that are listed


def class_rows(
  logits_BK: jax.Array, label_B: jax.Array, loss: str, every: bool = False
) -> dict[str, jax.Array]:
  """What a classification keeps of each example, as arrays over B.

  `rank` counts the other classes that do not score less than the true one: top-k is rank < k, so
  ties count against the model, and so do scores that are not numbers. `confidence` is the
  probability of the predicted class, by `loss` ('softmax' or 'sigmoid'); with `every`,
  `probability` has that of every class, over BK.
  """
  logits_BK = logits_BK.astype(jnp.float32)
  label_B = jnp.maximum(label_B, 0)
  true_B1 = jnp.take_along_axis(logits_BK, label_B[:, None], axis=1)
  target_BK = jax.nn.one_hot(label_B, logits_BK.shape[-1])
  probability_BK = losses.PROBABILITIES[loss](logits_BK)
  return {
    'loss': losses.LOSSES[loss](logits_BK, target_BK),
    'prediction': jnp.argmax(logits_BK, axis=-1).astype(jnp.int32),
    'rank': jnp.sum(~(logits_BK < true_B1), axis=-1).astype(jnp.int32) - 1,
    'confidence': jnp.max(probability_BK, axis=-1),
    **({'probability': probability_BK} if every else {}),
  }


def concatenate(batches: Sequence[Rows]) -> dict[str, np.ndarray]:
  """Joins batches of rows, drops masked ones, and sorts by example."""
  rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
  keep = np.flatnonzero(rows.pop('mask'))
  keep = keep[np.argsort(rows['index'][keep], kind='stable')]
  return {name: values[keep] for name, values in rows.items()}


def summarize(rows: Rows) -> dict[str, float]:
  """top1, top5, loss (mean, nats), ece and class_top1, as fractions in [0, 1]; sums in float64.

  `class_top1` is the mean over classes of the accuracy on their examples: in imbalanced data the
  rare classes count as much as the frequent ones. Examples of none of the classes (label -1) count
  nowhere; where no other is left, all is NaN. `ece` is the expected calibration error over 15 bins
  of equal width (Guo et al. 2017, eq. 3); a confidence that is not a number counts as 0.
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
    'class_top1': _mean(by_class(rows['label'], correct_N)[1]),
  }


def by_class(label_N: np.ndarray, correct_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(how many examples each class has, which share of them is right, or NaN), up to the last one.

  Examples of none of the classes are left out.
  """
  known_N = label_N >= 0
  images_K = np.bincount(label_N[known_N])
  right_K = np.bincount(label_N[known_N], correct_N[known_N], len(images_K))
  share_K = np.full(len(images_K), math.nan)
  np.divide(right_K, images_K, out=share_K, where=images_K > 0)
  return images_K, share_K


class SetScores(NamedTuple):
  """How well each class is found where an example may have several, or none.

  Attributes:
    images_K: how many examples have the class; those without one say nothing about it.
    ap_K: average precision, the mean precision at each example of the class, or NaN.
    f1_K: of the examples whose probability is at least 1/2, or NaN.
    micro_f1: of all decisions about all classes together.
  """

  images_K: np.ndarray
  ap_K: np.ndarray
  f1_K: np.ndarray
  micro_f1: float

  @property
  def metrics(self) -> dict[str, float]:
    """map and f1 (means over classes that have examples) and micro_f1."""
    return {'map': _mean(self.ap_K), 'f1': _mean(self.f1_K), 'micro_f1': self.micro_f1}


def set_scores(probability_NK: np.ndarray, right_NK: np.ndarray) -> SetScores:
  """What is made of the probability of each class of each example; one that is no number is 0."""
  from sklearn.metrics import average_precision_score  # here: it takes a second to import

  probability_NK = np.nan_to_num(probability_NK)
  said_NK = probability_NK >= 0.5
  hits_K = (said_NK & right_NK).sum(0)
  images_K, said_K = right_NK.sum(0), said_NK.sum(0)
  ap_K, f1_K = np.full((2, right_NK.shape[1]), math.nan)
  for k in np.flatnonzero(images_K):
    ap_K[k] = average_precision_score(right_NK[:, k], probability_NK[:, k])
    f1_K[k] = 2 * hits_K[k] / (images_K[k] + said_K[k])
  micro_f1 = 2 * hits_K.sum() / max(images_K.sum() + said_K.sum(), 1)
  return SetScores(images_K, ap_K, f1_K, float(micro_f1))


def _mean(values_K: np.ndarray) -> float:
  """Of those that are numbers; NaN if none is."""
  known_K = values_K[~np.isnan(values_K)]
  return float(known_K.mean()) if len(known_K) else math.nan


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


def classes_text(columns: Mapping[str, np.ndarray], names: Sequence[str]) -> str:
  """What is known of each class, the lowest in the last column first; of many the worst."""
  last_K = list(columns.values())[-1]
  order = [k for k in np.argsort(last_K, kind='stable') if not np.isnan(last_K[k])]
  rows = [
    (
      names[k],
      *(int(c[k]) if c.dtype.kind == 'i' else round(float(c[k]), 4) for c in columns.values()),
    )
    for k in order[:WORST_CLASSES]
  ]
  return as_text(('class', *columns), rows)


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
