"""Multi-head attention pooling (MAP): from tokens to one vector by a learned query.

Scaling Vision Transformers, arXiv:2106.04560 section 3.2, after Set Transformer, arXiv:1810.00825.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models.attention import Attention
from vit_jax.models.blocks import Mlp
from vit_jax.models.layers import LayerNorm
from vit_jax.models.options import TransformerOptions

Array = jax.Array


class MapHead(nn.Module):
  """The probe attends to all tokens; an MLP with a skip connection follows."""

  options: TransformerOptions

  @nn.compact
  def __call__(self, x_BND: Array, train: bool) -> Array:
    """(B, N, D) -> (B, D)."""
    batch, _, width = x_BND.shape
    probe_11D = self.param('probe', nn.initializers.xavier_uniform(), (1, 1, width), jnp.float32)
    probe_B1D = jnp.broadcast_to(probe_11D.astype(x_BND.dtype), (batch, 1, width))
    pooled_B1D = Attention(self.options, cross=True, name='attention')(probe_B1D, memory_BTD=x_BND)
    y_B1D = LayerNorm(name='norm')(pooled_B1D)
    y_B1D = Mlp(self.options, name='mlp')(y_B1D, train)
    return (pooled_B1D + y_B1D).squeeze(1)
