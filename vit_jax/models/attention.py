"""Multi-head attention: projections stored as one kernel, around `dot_product`.

Queries are N tokens and keys T.
"""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from vit_jax.models import constraints, dot_product, initializers
from vit_jax.models.dense import Dense, affine
from vit_jax.models.layers import LayerNorm
from vit_jax.models.options import TransformerOptions

Array = jax.Array


class Projections(nn.Module):
  """`count` projections to heads, stored as one kernel (D, count, A, E) and bias (count, A E).

  The bias has its heads side by side so that many devices can share it. With `fused_qkv` the
  projections are one matrix product, else `count` of them: the same numbers. 'auto' is one except
  on a TPU, where their gradients would be copied together. Without `bias` there is none.
  """

  count: int
  options: TransformerOptions
  bias: bool = True

  @nn.compact
  def __call__(self, x_BND: Array, queries: int | None = None) -> tuple[Array, ...]:
    """(B, N, A, E) each; with `queries`, the first is of so many tokens at the front only."""
    o, width = self.options, x_BND.shape[-1]
    shape = (self.count, o.heads, width // o.heads)
    # Each projection on its own fan, as in the ViT code base.
    xavier = nn.initializers.variance_scaling(
      1.0, 'fan_avg', 'uniform', in_axis=0, out_axis=(2, 3), batch_axis=1
    )
    init = initializers.kernel(o, xavier)
    kernel_DSAE = self.param('kernel', init, (width, *shape), jnp.float32)
    if self.bias:
      bias_SD = self.param('bias', nn.initializers.zeros, (self.count, width), jnp.float32)
    else:
      bias_SD = jnp.zeros((self.count, width), jnp.float32)  # which the compiler takes away
    bias_SAE = bias_SD.reshape(shape)
    x_BND = x_BND.astype(o.dtype)
    fused = constraints.platform() != 'tpu' if o.fused_qkv == 'auto' else o.fused_qkv
    # Where the products begin that come after the first one.
    later = [*range(1, self.count)]
    if fused:
      later = [1] if queries else []
    kernels, biases = jnp.split(kernel_DSAE, later, axis=1), jnp.split(bias_SAE, later)
    inputs = [x_BND[:, :queries]] + len(later) * [x_BND]
    parts = [
      part
      for x, kernel, bias in zip(inputs, kernels, biases, strict=True)
      for part in jnp.split(affine(x, kernel, bias), kernel.shape[1], axis=2)
    ]
    return tuple(checkpoint_name(part.squeeze(2), 'qkv') for part in parts)


def out_projection(options: TransformerOptions, width: int) -> Dense:
  """From heads to tokens of `width`: kernel (A, E, D)."""
  xavier = nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform', in_axis=(0, 1), out_axis=2)
  init = initializers.kernel(options, xavier)
  return Dense(width, init, rank=2, dtype=options.dtype, name='out')


class Keys(NamedTuple):
  """Keys and values of T tokens, which queries attend to."""

  k_BTAE: Array
  v_BTAE: Array

  def put(self, new: Self, position: Array | int) -> Self:
    """With those of other tokens in place of the ones from `position` on."""
    return jax.tree.map(
      lambda old, new: jax.lax.dynamic_update_slice_in_dim(
        old, new.astype(old.dtype), position, axis=1
      ),
      self,
      new,
    )


class Attention(nn.Module):
  """Multi-head attention (arXiv:1706.03762 section 3.2; arXiv:2010.11929 appendix A).

  Tokens attend to themselves or, with `cross`, to a memory of other tokens. When the collection
  'intermediates' is mutable, the weights are sown as `weights_BANT`.
  """

  options: TransformerOptions
  cross: bool = False
  padding: int = 0  # the last so many tokens are attended to by none (`dot_product.padding_of`)
  queries: int | None = None  # only so many tokens at the front attend; all if None

  def __call__(
    self, x_BND: Array, mask_BANT: Array | None = None, memory_BTD: Array | None = None
  ) -> Array:
    """(B, N, D) -> (B, N, D).

    Args:
      mask_BANT: bool, of a shape that broadcasts; where it is False, nothing is attended to.
      memory_BTD: what is attended to, with `cross`.
    """
    return self.with_keys(x_BND, mask_BANT, memory_BTD)[0]

  @nn.compact
  def with_keys(
    self,
    x_BND: Array,
    mask_BANT: Array | None = None,
    memory_BTD: Array | None = None,
    keys: Keys | None = None,
    position: Array | int = 0,
  ) -> tuple[Array, Keys]:
    """(the result, the keys that were attended to), to decode token by token.

    Args:
      keys: of an earlier call: of the memory with `cross`, else of earlier tokens, among which
        those of `x_BND` are put at `position`.
    """
    o = self.options
    if self.cross:
      (q_BNAE,) = Projections(1, o, name='query')(x_BND)
      if keys is None:
        assert memory_BTD is not None
        keys = Keys(*Projections(2, o, name='kv')(memory_BTD))
    else:
      project = Projections(3, o, o.qkv_bias, name='qkv')
      q_BNAE, k_BNAE, v_BNAE = project(x_BND, self.queries)
      if o.qk_norm:  # arXiv:2302.05442 section 2
        q_BNAE, k_BNAE = LayerNorm(name='q_norm')(q_BNAE), LayerNorm(name='k_norm')(k_BNAE)
      keys = Keys(k_BNAE, v_BNAE) if keys is None else keys.put(Keys(k_BNAE, v_BNAE), position)
    if self.is_mutable_collection('intermediates'):
      weights_BANT, sums_BAN1 = dot_product.attention_weights(q_BNAE, keys.k_BTAE, mask_BANT)
      self.sow('intermediates', 'weights_BANT', weights_BANT / sums_BAN1)
    k_BTAE, v_BTAE = keys if self.cross else map(constraints.gathered, keys)
    if self.queries:  # so few that a fused kernel would save nothing
      k_BTAE, v_BTAE = (x_BTAE[:, : x_BND.shape[1] - self.padding] for x_BTAE in (k_BTAE, v_BTAE))
      out_BNAE = dot_product.xla_attention(q_BNAE, k_BTAE, v_BTAE, mask_BANT)
    elif self.padding:
      out_BNAE = dot_product.cudnn_attention(q_BNAE, k_BTAE, v_BTAE, mask_BANT, self.padding)
    else:
      out_BNAE = dot_product.attend(q_BNAE, k_BTAE, v_BTAE, o.attention, mask_BANT)
    out_BNAE = checkpoint_name(out_BNAE, 'attention_out')
    return out_projection(o, x_BND.shape[-1])(out_BNAE), keys
