"""Multi-head attention pooling (MAP): from tokens to one vector by a learned query.

Scaling Vision Transformers, arXiv:2106.04560 section 3.2, after Set Transformer, arXiv:1810.00825.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models.attention import OutProjection, Projections, attend, attention_weights
from vit_jax.models.blocks import BlockConfig
from vit_jax.models.layers import LayerNorm, Mlp

Array = jax.Array


class ProbeAttention(nn.Module):
  """Attention of the tokens `probe_BND` over the tokens `x_BTD`.

  When the collection 'intermediates' is mutable, the weights are sown as `weights_BANT`.
  """

  config: BlockConfig

  @nn.compact
  def __call__(self, probe_BND: Array, x_BTD: Array) -> Array:
    c, width = self.config, x_BTD.shape[-1]
    (q_BNAE,) = Projections(1, c.heads, c.dtype, name='query')(probe_BND)
    k_BTAE, v_BTAE = Projections(2, c.heads, c.dtype, name='kv')(x_BTD)
    if self.is_mutable_collection('intermediates'):
      weights_BANT, sums_BAN1 = attention_weights(q_BNAE, k_BTAE)
      self.sow('intermediates', 'weights_BANT', weights_BANT / sums_BAN1)
    return OutProjection(width, dtype=c.dtype)(attend(q_BNAE, k_BTAE, v_BTAE, c.attention))


class MapHead(nn.Module):
  """The probe attends to all tokens; an MLP with a skip connection follows."""

  config: BlockConfig

  @nn.compact
  def __call__(self, x_BND: Array, train: bool) -> Array:
    """(B, N, D) -> (B, D)."""
    c, (batch, _, width) = self.config, x_BND.shape
    probe_11D = self.param('probe', nn.initializers.xavier_uniform(), (1, 1, width), jnp.float32)
    probe_B1D = jnp.broadcast_to(probe_11D.astype(x_BND.dtype), (batch, 1, width))
    pooled_B1D = ProbeAttention(c, name='attention')(probe_B1D, x_BND)
    y_B1D = LayerNorm(name='norm')(pooled_B1D)
    y_B1D = Mlp(c.mlp, c.exact_gelu, c.dropout, c.dtype, c.mlp_kind, name='mlp')(y_B1D, train)
    return (pooled_B1D + y_B1D).squeeze(1)
