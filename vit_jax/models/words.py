"""Words of a sentence: from token ids to vectors, where they are, and back to logits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vit_jax.errors import UserError
from vit_jax.models.dense import Dense, dot
from vit_jax.models.texts import Tied

Array = jax.Array


class Embedding(nn.Module):
  """A vector for each token: `table` (V, D) float32, from N(0, 1 / D)."""

  vocabulary: int
  width: int
  dtype: Any

  def setup(self):
    init = nn.initializers.normal(self.width**-0.5)
    self.table_VD = self.param('table', init, (self.vocabulary, self.width), jnp.float32)

  def __call__(self, ids: Array) -> Array:
    """ids (...) -> vectors (..., D) in the compute dtype."""
    return jnp.take(self.table_VD, ids, axis=0).astype(self.dtype)

  def logits(self, x: Array) -> Array:
    """(..., D) -> products with every vector, (..., V) float32."""
    x_MD = x.astype(self.dtype).reshape(-1, self.width)
    y_MV = dot(x_MD, self.table_VD, (((1,), (1,)), ((), ())), jnp.float32)
    return y_MV.reshape(*x.shape[:-1], self.vocabulary)


class Lexicon(nn.Module):
  """The embeddings of both languages, and the output layer.

  Parameters: `source`, `target` and `head`, as far as they are not tied (arXiv:1706.03762 section
  3.4): with 'all' there is `target` alone, with 'target' no `head`.

  Attributes:
    sources, targets: sizes of the vocabularies.
  """

  sources: int
  targets: int
  width: int
  tied: Tied
  dtype: Any

  def setup(self):
    if self.tied == 'all' and self.sources != self.targets:
      raise UserError(
        f"config.model.tied is 'all', but the vocabularies have {self.sources} and {self.targets} "
        "tokens; set config.data.shared=True, or config.model.tied='target'"
      )
    self.target = Embedding(self.targets, self.width, self.dtype)
    if self.tied != 'all':
      self.source = Embedding(self.sources, self.width, self.dtype)
    if self.tied == 'none':
      self.head = Dense(
        self.targets,
        kernel_init=nn.initializers.xavier_uniform(),
        dtype=self.dtype,
        out_dtype=jnp.float32,
      )

  def of_source(self, ids: Array) -> Array:
    return (self.target if self.tied == 'all' else self.source)(ids)

  def of_target(self, ids: Array) -> Array:
    return self.target(ids)

  def logits(self, x: Array) -> Array:
    """(..., D) -> (..., V) float32."""
    return self.head(x) if self.tied == 'none' else self.target.logits(x)


def sincos(length: int, width: int) -> np.ndarray:
  """Fixed positions (T, D): arXiv:1706.03762 section 3.5, sines first, then cosines.

  The paper interleaves them; which channel is which makes no difference to what can be learned.
  """
  frequencies = 10_000.0 ** (-2 * np.arange(width // 2) / width)
  angles_TF = np.outer(np.arange(length), frequencies)
  return np.concatenate([np.sin(angles_TF), np.cos(angles_TF)], axis=1).astype(np.float32)
