"""Multi-head attention pooling (MAP): from tokens to one vector by a learned query.

Scaling Vision Transformers, arXiv:2106.04560 section 3.2, after Set Transformer, arXiv:1810.00825.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models.attention import OutProjection, Projections, attend, attention_weights
from vit_jax.models.blocks import Mlp
from vit_jax.models.layers import LayerNorm
from vit_jax.models.options import TransformerOptions

Array = jax.Array


class ProbeAttention(nn.Module):
  """Attention of the tokens `probe_BND` over the tokens `x_BTD`.

  When the collection 'intermediates' is mutable, the weights are sown as `weights_BANT`.
  """

  options: TransformerOptions

  @nn.compact
  def __call__(self, probe_BND: Array, x_BTD: Array) -> Array:
    o, width = self.options, x_BTD.shape[-1]
    (q_BNAE,) = Projections(1, o.heads, o.dtype, name='query')(probe_BND)
    k_BTAE, v_BTAE = Projections(2, o.heads, o.dtype, name='kv')(x_BTD)
    if self.is_mutable_collection('intermediates'):
      weights_BANT, sums_BAN1 = attention_weights(q_BNAE, k_BTAE)
      self.sow('intermediates', 'weights_BANT', weights_BANT / sums_BAN1)
    return OutProjection(width, dtype=o.dtype)(attend(q_BNAE, k_BTAE, v_BTAE, o.attention))


class MapHead(nn.Module):
  """The probe attends to all tokens; an MLP with a skip connection follows."""

  options: TransformerOptions

  @nn.compact
  def __call__(self, x_BND: Array, train: bool) -> Array:
    """(B, N, D) -> (B, D)."""
    batch, _, width = x_BND.shape
    probe_11D = self.param('probe', nn.initializers.xavier_uniform(), (1, 1, width), jnp.float32)
    probe_B1D = jnp.broadcast_to(probe_11D.astype(x_BND.dtype), (batch, 1, width))
    pooled_B1D = ProbeAttention(self.options, name='attention')(probe_B1D, x_BND)
    y_B1D = LayerNorm(name='norm')(pooled_B1D)
    y_B1D = Mlp(self.options, name='mlp')(y_B1D, train)
    return (pooled_B1D + y_B1D).squeeze(1)
