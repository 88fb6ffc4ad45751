"""Few-shot linear regression: the few-shot numbers of the ViT and Scaling-ViT papers.

google-research/big_vision, evaluators/fewshot_lsr.py: a ridge regression to targets of -1 and 1 on
k examples of each class, in closed form: only the choice of the examples is random. In float64 on
the host, as the systems are small and no sum then depends on the device.
"""

import numpy as np
import scipy.linalg

from vit_jax.errors import UserError

SHOTS, SEEDS = (1, 5, 10, 25), (0, 1, 2)
L2 = 2.0**10
BIAS = 100.0  # the constant feature: so large that the penalty hardly touches its weight
EPSILON = 1e-5  # of the deviations
CHUNK = 1024  # test examples at a time, which bounds the memory


def pick(labels_N: np.ndarray, num_classes: int, shots: int, seed: int) -> np.ndarray:
  """Positions of `shots` random examples of each class, class by class.

  Raises:
    UserError: a class has too few examples.
  """
  rng = np.random.default_rng(seed)
  chosen = []
  for k in range(num_classes):
    members = np.flatnonzero(labels_N == k)
    if len(members) < shots:
      raise UserError(
        f'{shots} shots want as many training examples of each class, but class {k} '
        f'has {len(members)}; ask for fewer shots'
      )
    chosen.append(rng.permutation(members)[:shots])
  return np.concatenate(chosen)


def predict(
  train_ND: np.ndarray,
  train_labels_N: np.ndarray,
  test_ND: np.ndarray,
  num_classes: int,
  shots: int,
  seed: int,
) -> np.ndarray:
  """The class of each test example, after learning from `shots` examples of each class."""
  chosen = pick(train_labels_N, num_classes, shots, seed)
  few_ND = train_ND[chosen].astype(np.float64)
  mean_D, std_D = few_ND.mean(axis=0), few_ND.std(axis=0) + EPSILON
  weights_DK = _weights(_whiten(few_ND, mean_D, std_D), train_labels_N[chosen], num_classes)
  chunks = [test_ND[start : start + CHUNK] for start in range(0, len(test_ND), CHUNK)]
  return np.concatenate(
    [np.argmax(_whiten(chunk_ND, mean_D, std_D) @ weights_DK, axis=1) for chunk_ND in chunks]
  )


def _whiten(features_ND: np.ndarray, mean_D: np.ndarray, std_D: np.ndarray) -> np.ndarray:
  """float64, with a constant feature at the end."""
  return np.pad((features_ND - mean_D) / std_D, ((0, 0), (0, 1)), constant_values=BIAS)


def _weights(x_ND: np.ndarray, labels_N: np.ndarray, num_classes: int) -> np.ndarray:
  """The regression's weights (D, K), float64.

  Solved for D unknowns or, where there are fewer examples, in the dual form for N.
  """
  targets_NK = np.where(labels_N[:, None] == np.arange(num_classes), 1.0, -1.0)
  count, width = x_ND.shape
  if count >= width:
    gram_DD = x_ND.T @ x_ND + L2 * np.eye(width)
    return scipy.linalg.solve(gram_DD, x_ND.T @ targets_NK, assume_a='pos')
  gram_NN = x_ND @ x_ND.T + L2 * np.eye(count)
  return x_ND.T @ scipy.linalg.solve(gram_NN, targets_NK, assume_a='pos')


def possible_shots(labels_N: np.ndarray, num_classes: int) -> list[int]:
  """The numbers of `SHOTS` for which every class has enough examples."""
  fewest = np.bincount(labels_N, minlength=num_classes).min()
  return [count for count in SHOTS if count <= fewest]
