"""k nearest neighbors of features, in DINO's form (arXiv:2104.14294, section 4.1).

Cosine similarity; each of the k most similar training examples votes for its class with weight
exp(similarity / 0.07).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.evaluate.features import in_batches

NEIGHBORS = (10, 20, 100, 200)
TEMPERATURE = 0.07
CHUNK = 256  # test examples at once on each device, which bounds the memory

Array = jax.Array


def predict(
  train_ND: np.ndarray,
  train_labels_N: np.ndarray,
  test_ND: np.ndarray,
  num_classes: int,
  neighbors: Sequence[int] = NEIGHBORS,
  temperature: float = TEMPERATURE,
) -> dict[int, np.ndarray]:
  """The class of each test example, by each number of neighbors that the training examples allow.

  Float32 on this process's devices, the test examples spread over them.
  """
  wanted = tuple(sorted(k for k in set(neighbors) if k <= len(train_ND)))
  if not wanted:
    return {}

  def elect(train: tuple[Array, Array, Array], queries_BD: Array) -> Array:
    return elected(queries_BD, *train, num_classes, wanted, temperature)

  train = train_ND, _lengths(train_ND), train_labels_N.astype(np.int32)
  test_ND = test_ND / _lengths(test_ND)[:, None]
  classes_NC = in_batches(elect, train, min(CHUNK, len(test_ND)))(test_ND)
  return dict(zip(wanted, classes_NC.T, strict=True))


def _lengths(features_ND: np.ndarray) -> np.ndarray:
  """Of the rows, float32; that of a row of zeros is not quite zero."""
  square_N = np.einsum('nd,nd->n', features_ND, features_ND)  # no second array of their size
  return np.maximum(np.sqrt(square_N), np.finfo(np.float32).tiny)


def elected(
  queries_BD: Array,
  train_ND: Array,
  length_N: Array,
  labels_N: Array,
  num_classes: int,
  neighbors: Sequence[int],
  temperature: float,
) -> Array:
  """The class elected for each query by each number of neighbors: (B, len(neighbors)).

  Args:
    queries_BD: rows of length 1.
    length_N: of the rows of `train_ND`.
  """
  similarity_BN = jnp.matmul(queries_BD, train_ND.T, precision=jax.lax.Precision.HIGHEST)
  similarity_BN /= length_N[None]
  # Behind a barrier: a slice of it, put together with top_k, makes XLA's CPU compiler sort all N.
  nearest_BK, place_BK = jax.lax.optimization_barrier(jax.lax.top_k(similarity_BN, neighbors[-1]))
  # Relative to the nearest, which changes no election and cannot overflow.
  weight_BK = jnp.exp((nearest_BK - nearest_BK[:, :1]) / temperature)
  label_BK = labels_N[place_BK]
  classes = jnp.arange(num_classes, dtype=labels_N.dtype)
  choices = []
  for k in neighbors:
    votes_BC = jnp.sum(
      jnp.where(label_BK[:, :k, None] == classes[None, None], weight_BK[:, :k, None], 0.0), axis=1
    )
    choices.append(jnp.argmax(votes_BC, axis=1))
  return jnp.stack(choices, axis=1)
