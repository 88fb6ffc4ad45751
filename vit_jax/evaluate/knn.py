"""k nearest neighbors of features, in DINO's form (arXiv:2104.14294, section 4.1).

Cosine similarity; each of the k most similar training examples votes for its class with weight
exp(similarity / 0.07).
"""

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.evaluate.features import in_batches

NEIGHBORS = (10, 20, 100, 200)
TEMPERATURE = 0.07
CHUNK = 256  # test examples at a time on each device, which bounds the memory

Array = jax.Array


def predict(
  train_ND: np.ndarray, train_labels_N: np.ndarray, test_ND: np.ndarray, num_classes: int
) -> dict[int, np.ndarray]:
  """The class of each test example, by each number of neighbors that the training examples allow.

  Float32 on this process's devices, the test examples spread over them.
  """
  wanted = [k for k in NEIGHBORS if k <= len(train_ND)]
  if not wanted:
    return {}

  def elect(train: tuple[Array, Array, Array], queries_BD: Array) -> Array:
    train_ND, length_N, labels_N = train
    similarity_BN = jnp.matmul(queries_BD, train_ND.T, precision=jax.lax.Precision.HIGHEST)
    similarity_BN /= length_N[None]
    # Behind a barrier: a slice of it, put together with top_k, makes XLA's CPU compiler sort all N.
    nearest_BK, place_BK = jax.lax.optimization_barrier(jax.lax.top_k(similarity_BN, wanted[-1]))
    # Relative to the nearest, which changes no election and cannot overflow.
    weight_BK = jnp.exp((nearest_BK - nearest_BK[:, :1]) / TEMPERATURE)
    label_BK = labels_N[place_BK]
    classes = jnp.arange(num_classes, dtype=labels_N.dtype)
    choices = []
    for k in wanted:
      votes_BKC = jnp.where(
        label_BK[:, :k, None] == classes[None, None], weight_BK[:, :k, None], 0.0
      )
      choices.append(jnp.argmax(votes_BKC.sum(axis=1), axis=1))
    return jnp.stack(choices, axis=1)

  train = train_ND, _lengths(train_ND), train_labels_N.astype(np.int32)
  test_ND = test_ND / _lengths(test_ND)[:, None]
  classes_NC = in_batches(elect, train, min(CHUNK, len(test_ND)))(test_ND)
  return dict(zip(wanted, classes_NC.T, strict=True))


def _lengths(features_ND: np.ndarray) -> np.ndarray:
  """Of the rows, float32; that of a row of zeros is not quite zero."""
  square_N = np.einsum('nd,nd->n', features_ND, features_ND)  # no second array of their size
  return np.maximum(np.sqrt(square_N), np.finfo(np.float32).tiny)
