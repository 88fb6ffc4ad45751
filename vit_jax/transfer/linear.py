"""A linear classifier on fixed features, its strength chosen on held-out training examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

STRENGTHS = (0.001, 0.01, 0.1)  # scikit-learn's C, the inverse of the L2 penalty


class Choice(NamedTuple):
  """A strength, and the accuracy it reached on the held-out part of train."""

  strength: float
  validation_top1: float


def fit(features_ND: np.ndarray, labels_N: np.ndarray, strength: float) -> Any:
  """Standardises every feature, then fits a multinomial logistic regression.

  Returns a scikit-learn estimator: `.score(features, labels)` is its accuracy.
  """
  from sklearn.linear_model import LogisticRegression
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import StandardScaler
  from threadpoolctl import threadpool_limits

  logistic = LogisticRegression(C=strength, max_iter=1000)
  classifier = make_pipeline(StandardScaler(), logistic)
  # L-BFGS makes very many small products, whose threads mostly wait for each other: with two
  # of them on two busy cores it is several times slower. One also fixes the order of every sum.
  with threadpool_limits(1):
    return classifier.fit(features_ND, labels_N)


def choose(
  features_ND: np.ndarray,
  labels_N: np.ndarray,
  strengths: Sequence[float] = STRENGTHS,
  seed: int = 0,
) -> Choice:
  """The strength that does best on a random fifth of the examples when fitted on the rest."""
  held, kept = hold_out(len(labels_N), seed)
  choices = []
  for strength in strengths:
    classifier = fit(features_ND[kept], labels_N[kept], strength)
    choices.append(Choice(strength, classifier.score(features_ND[held], labels_N[held])))
  return max(choices, key=lambda choice: choice.validation_top1)


def hold_out(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """(a random fifth of `count` positions, the others)."""
  held, kept = np.split(np.random.default_rng(seed).permutation(count), [count // 5])
  return held, kept


def majority_top1(labels_N: np.ndarray) -> float:
  """The share of the commonest class: no answer that ignores the image scores more."""
  return float(np.unique(labels_N, return_counts=True)[1].max() / len(labels_N))
