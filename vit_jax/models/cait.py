"""CaiT: deep image transformers with LayerScale and class attention (arXiv:2103.17239)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from vit_jax.models import constraints, initializers
from vit_jax.models.attention import Attention, Projections, out_projection
from vit_jax.models.blocks import Block, Encoder, Mlp, stacked
from vit_jax.models.classifier import Classifier
from vit_jax.models.dense import dot
from vit_jax.models.embedding import PatchEmbedding
from vit_jax.models.layers import LayerNorm
from vit_jax.models.options import CaiTOptions, TransformerOptions
from vit_jax.models.output import Output

Array = jax.Array

# What is summed over, and the batch axes, of heads: arrays (B, N, A, E) and weights (A, B, N, T).
_QUERY_KEY = ((3,), (3,)), ((2, 0), (2, 0))
_OVER_KEYS = ((3,), (1,)), ((0, 1), (2, 0))
_OVER_QUERIES = ((2,), (1,)), ((0, 1), (2, 0))


@jax.custom_vjp
def attention_logits(q_BNAE: Array, k_BTAE: Array) -> Array:
  """q k as (A, B, N, T) in float32. The products of its gradient are in the dtype of q too."""
  return dot(q_BNAE, k_BTAE, _QUERY_KEY, jnp.float32)


def _logits_backward(saved, dlogits_ABNT):
  q_BNAE, k_BTAE = saved
  dlogits_ABNT = dlogits_ABNT.astype(q_BNAE.dtype)
  dq_ABNE = dot(dlogits_ABNT, k_BTAE, _OVER_KEYS, q_BNAE.dtype)
  dk_ABTE = dot(dlogits_ABNT, q_BNAE, _OVER_QUERIES, q_BNAE.dtype)
  return jnp.moveaxis(dq_ABNE, 0, 2), jnp.moveaxis(dk_ABTE, 0, 2)


attention_logits.defvjp(lambda q, k: (attention_logits(q, k), (q, k)), _logits_backward)


@jax.custom_vjp
def mix_heads(x_AM: Array, kernel_AC: Array, bias_C: Array) -> Array:
  """A linear map from heads A to heads C, (C, M), in the dtype of x; M is all other axes.

  With heads first it is one matrix product without a transpose. The gradients of kernel and bias,
  which are sums over M, have their dtype.
  """
  y_CM = dot(kernel_AC.T.astype(x_AM.dtype), x_AM, (((1,), (0,)), ((), ())), x_AM.dtype)
  return y_CM + bias_C.astype(x_AM.dtype).reshape(-1, *(1 for _ in x_AM.shape[1:]))


def _mix_backward(saved, dy_CM):
  x_AM, kernel_AC = saved
  dx_AM = dot(kernel_AC.astype(x_AM.dtype), dy_CM, (((1,), (0,)), ((), ())), x_AM.dtype)
  rest = range(1, x_AM.ndim)
  dkernel_AC = dot(x_AM, dy_CM, ((rest, rest), ((), ())), kernel_AC.dtype)
  return dx_AM, dkernel_AC, jnp.sum(dy_CM.astype(jnp.float32), axis=rest)


mix_heads.defvjp(lambda x, kernel, bias: (mix_heads(x, kernel, bias), (x, kernel)), _mix_backward)


class MixHeads(nn.Module):
  """`mix_heads` with its parameters, after a multiplication by `scale`."""

  scale: float = 1.0

  @nn.compact
  def __call__(self, x_ABNT: Array) -> Array:
    heads = x_ABNT.shape[0]
    kernel_AA = self.param('kernel', initializers.NORMAL, (heads, heads), jnp.float32)
    bias_A = self.param('bias', nn.initializers.zeros, (heads,), jnp.float32)
    # As in `dense`: batch and tokens of one axis could not both be split.
    rest = (-1,) if constraints.sequence_ways() == 1 else x_ABNT.shape[1:]
    y_AM = mix_heads(x_ABNT.reshape(heads, *rest), kernel_AA * self.scale, bias_A)
    return y_AM.reshape(x_ABNT.shape)


class TalkingHeads(nn.Module):
  """Self-attention whose heads are mixed before and after the softmax (arXiv:2003.02436).

  When the collection 'intermediates' is mutable, the softmax is sown as `weights_BANT`; after
  mixing, weights may be negative and need not sum to one.
  """

  options: TransformerOptions

  @nn.compact
  def __call__(self, x_BND: Array, mask_BANT: None = None) -> Array:
    o = self.options
    q_BNAE, k_BTAE, v_BTAE = Projections(3, o, name='qkv')(x_BND)
    k_BTAE, v_BTAE = constraints.gathered(k_BTAE), constraints.gathered(v_BTAE)
    logits_ABNT = attention_logits(q_BNAE, k_BTAE)
    logits_ABNT = MixHeads(q_BNAE.shape[-1] ** -0.5, name='proj_logits')(logits_ABNT)
    weights_ABNT = jax.nn.softmax(logits_ABNT, axis=-1)
    if self.is_mutable_collection('intermediates'):
      self.sow('intermediates', 'weights_BANT', weights_ABNT.swapaxes(0, 1))
    weights_ABNT = MixHeads(name='proj_weights')(weights_ABNT.astype(o.dtype))
    out_ABNE = dot(weights_ABNT, v_BTAE, _OVER_KEYS, jnp.dtype(o.dtype))
    out_BNAE = checkpoint_name(jnp.moveaxis(out_ABNE, 0, 2), 'attention_out')
    return out_projection(o, x_BND.shape[-1])(out_BNAE)


class TalkingHeadsBlock(Block):
  """A pre-norm block with talking heads."""

  @nn.nowrap
  def make_attention(self) -> nn.Module:
    return TalkingHeads(self.options, name='attention')


class ClassBlock(Block):
  """Class attention (section 3): only the class token queries and is updated."""

  @nn.compact
  def __call__(self, cls_B1D: Array, patches_BND: Array) -> tuple[Array, None]:
    if not self.is_initializing():
      cls_B1D = constraints.over_batch(cls_B1D)
    with constraints.in_loop(self.rolled):
      tokens_BND = LayerNorm(name='norm1')(jnp.concatenate([cls_B1D, patches_BND], axis=1))
      attention = Attention(self.options, cross=True, name='attention')
      y_B1D = attention(tokens_BND[:, :1], memory_BTD=tokens_BND)
      cls_B1D = cls_B1D + self.branch(y_B1D, 'scale1')
      y_B1D = Mlp(self.options, name='mlp')(LayerNorm(name='norm2')(cls_B1D), self.train)
    return cls_B1D + self.branch(y_B1D, 'scale2'), None


class CaiT(Classifier):
  """Patches through blocks with talking heads, then a class token that reads them.

  Parameters are float32. The tree: cls (1, 1, D), pos_embedding (1, N, D) of the patches,
  embedding/{kernel, bias}, with a leading axis over layers encoder/blocks/{norm1, attention/{qkv,
  proj_logits, proj_weights, out}, norm2, mlp/{up, down}, scale1, scale2} and
  class_blocks/{the same with attention/{query, kv, out}}, then norm and head.
  """

  options: CaiTOptions

  @nn.nowrap
  def _make_stem(self, **keys: Any) -> PatchEmbedding:
    o = self.options
    return PatchEmbedding(o.patch, o.width, jnp.dtype(o.dtype), o.init, **keys)

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Patches down and across an image of (height, width) pixels."""
    return self._make_stem(parent=None).grid(image_size)

  @nn.nowrap
  def check_sequence(self, image_size: tuple[int, int], ways: int) -> None:
    """Raises a UserError unless the tokens of an image divide over `ways` devices."""
    rows, columns = self.grid(image_size)
    constraints.check_tokens(rows * columns, 0, ways, 'choose another image size or patch')

  @nn.compact
  def __call__(self, images_BHWC: Array, *, train: bool) -> Output:
    """One forward pass; arguments and errors are those of `vit.ViT`."""
    o = self.options
    x_BHWD = self._make_stem(name='embedding')(images_BHWC, train)
    x_BND = x_BHWD.reshape(x_BHWD.shape[0], -1, o.width)
    normal = initializers.NORMAL
    table_1ND = self.param('pos_embedding', normal, (1, *x_BND.shape[1:]), jnp.float32)
    cls_11D = self.param('cls', normal, (1, 1, o.width), jnp.float32)
    x_BND = nn.Dropout(o.dropout, deterministic=not train)(x_BND + table_1ND.astype(x_BND.dtype))
    encoder = Encoder(o, 'constant', TalkingHeadsBlock, final_norm=False, name='encoder')
    x_BND = encoder(x_BND, train)
    class_blocks = stacked(
      ClassBlock, o.class_depth, o, initializing=self.is_initializing(), in_axes=nn.broadcast
    )
    cls_B1D = jnp.broadcast_to(cls_11D, (x_BND.shape[0], 1, o.width)).astype(x_BND.dtype)
    cls_B1D, _ = class_blocks(o, train, stochastic_depth=False, name='class_blocks')(cls_B1D, x_BND)
    tokens_BND = LayerNorm(name='norm')(jnp.concatenate([cls_B1D, x_BND], axis=1))
    features_BD = tokens_BND[:, 0].astype(jnp.float32)
    return self.output(
      tokens_BND, features_BD, initializers.head(o), nn.initializers.constant(o.head_bias)
    )
