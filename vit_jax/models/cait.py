"""CaiT: deep image transformers with LayerScale and class attention (arXiv:2103.17239)."""

from __future__ import annotations

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from vit_jax.errors import UserError
from vit_jax.fields import bounded
from vit_jax.models import constraints
from vit_jax.models.attention import Implementation, OutProjection, Projections
from vit_jax.models.blocks import Block, BlockConfig, Encoder, Remat, Unroll, stacked
from vit_jax.models.dense import Dense, dot
from vit_jax.models.embedding import PatchEmbedding
from vit_jax.models.layers import LayerNorm
from vit_jax.models.names import IMAGENET_MEAN, IMAGENET_STD, Entry, Inputs
from vit_jax.models.options import check_options
from vit_jax.models.output import Output
from vit_jax.models.pooling import ProbeAttention

Array = jax.Array


# What is summed over, and the batch axes, of heads: arrays (B, N, A, E) and weights (A, B, N, T).
_QUERY_KEY = ((3,), (3,)), ((2, 0), (2, 0))
_OVER_KEYS = ((3,), (1,)), ((0, 1), (2, 0))
_OVER_QUERIES = ((2,), (1,)), ((0, 1), (2, 0))


@jax.custom_vjp
def attention_logits(q_BNAE: Array, k_BTAE: Array) -> Array:
  """q k as (A, B, N, T) in float32. Its gradient is multiplied in the dtype of q, as q k is."""
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
  """A linear map from heads A to heads C, (C, M), in the dtype of x; M stands for all other axes.

  Heads come first, so that it is one matrix product and nothing is transposed. The gradients of
  kernel and bias, sums over all of M, are float32.
  """
  y_CM = dot(kernel_AC.T.astype(x_AM.dtype), x_AM, (((1,), (0,)), ((), ())), x_AM.dtype)
  return y_CM + bias_C.astype(x_AM.dtype).reshape(-1, *(1 for _ in x_AM.shape[1:]))


def _mix_backward(saved, dy_CM):
  x_AM, kernel_AC = saved
  dx_AM = dot(kernel_AC.astype(x_AM.dtype), dy_CM, (((1,), (0,)), ((), ())), x_AM.dtype)
  rest = range(1, x_AM.ndim)
  dkernel_AC = dot(x_AM, dy_CM, ((rest, rest), ((), ())), jnp.float32)
  return dx_AM, dkernel_AC, jnp.sum(dy_CM.astype(jnp.float32), axis=rest)


mix_heads.defvjp(lambda x, kernel, bias: (mix_heads(x, kernel, bias), (x, kernel)), _mix_backward)


class MixHeads(nn.Module):
  """`mix_heads` with its parameters, after a multiplication by `scale`."""

  scale: float = 1.0

  @nn.compact
  def __call__(self, x_ABNT: Array) -> Array:
    heads = x_ABNT.shape[0]
    kernel_AA = self.param('kernel', nn.initializers.normal(0.02), (heads, heads), jnp.float32)
    bias_A = self.param('bias', nn.initializers.zeros, (heads,), jnp.float32)
    # As in `dense`: batch and tokens of one axis could not both be split.
    rest = (-1,) if constraints.sequence_ways() == 1 else x_ABNT.shape[1:]
    y_AM = mix_heads(x_ABNT.reshape(heads, *rest), kernel_AA * self.scale, bias_A)
    return y_AM.reshape(x_ABNT.shape)


class TalkingHeads(nn.Module):
  """Self-attention whose heads are mixed before and after the softmax (arXiv:2003.02436).

  When the collection 'intermediates' is mutable, what the softmax gives is sown as `weights_BANT`;
  mixed weights may be negative and sum to anything.
  """

  heads: int
  dtype: Any
  fused_qkv: bool

  @nn.compact
  def __call__(self, x_BND: Array) -> Array:
    q_BNAE, k_BTAE, v_BTAE = Projections(3, self.heads, self.dtype, self.fused_qkv, name='qkv')(
      x_BND
    )
    k_BTAE, v_BTAE = constraints.gathered(k_BTAE), constraints.gathered(v_BTAE)
    logits_ABNT = attention_logits(q_BNAE, k_BTAE)
    logits_ABNT = MixHeads(q_BNAE.shape[-1] ** -0.5, name='proj_logits')(logits_ABNT)
    weights_ABNT = jax.nn.softmax(logits_ABNT, axis=-1)
    if self.is_mutable_collection('intermediates'):
      self.sow('intermediates', 'weights_BANT', weights_ABNT.swapaxes(0, 1))
    weights_ABNT = MixHeads(name='proj_weights')(weights_ABNT.astype(self.dtype))
    out_ABNE = dot(weights_ABNT, v_BTAE, _OVER_KEYS, jnp.dtype(self.dtype))
    return OutProjection(x_BND.shape[-1], dtype=self.dtype)(
      checkpoint_name(jnp.moveaxis(out_ABNE, 0, 2), 'attention_out')
    )


class TalkingHeadsBlock(Block):
  """A pre-norm block with talking heads."""

  @nn.nowrap
  def make_attention(self) -> nn.Module:
    c = self.config
    return TalkingHeads(c.heads, c.dtype, c.fused_qkv, name='attention')


class ClassBlock(Block):
  """Class attention (section 3): the class token alone asks and changes; the patches stay."""

  @nn.compact
  def __call__(self, cls_B1D: Array, patches_BND: Array) -> tuple[Array, None]:
    if not self.is_initializing():
      cls_B1D = constraints.over_batch(cls_B1D)
    with constraints.in_loop(self.rolled):
      tokens_BND = LayerNorm(name='norm1')(jnp.concatenate([cls_B1D, patches_BND], axis=1))
      y_B1D = ProbeAttention(self.config, name='attention')(tokens_BND[:, :1], tokens_BND)
      cls_B1D = cls_B1D + self.branch(y_B1D, 'scale1')
      y_B1D = self.make_mlp()(LayerNorm(name='norm2')(cls_B1D), self.train)
    return cls_B1D + self.branch(y_B1D, 'scale2'), None


class CaiT(nn.Module):
  """Patches through blocks with talking heads, then a class token that reads them.

  Parameters are float32. The tree: cls (1, 1, D), pos_embedding (1, N, D) of the patches,
  embedding/{kernel, bias}, with a leading axis over layers encoder/blocks/{norm1, attention/{qkv,
  proj_logits, proj_weights, out}, norm2, mlp/{up, down}, scale1, scale2} and
  class_blocks/{the same with attention/{query, kv, out}}, then norm and head.

  Attributes:
    num_classes: 0 leaves the head away.
    width, depth, mlp, heads, patch: D, L, F, A, P of the legend; `depth` counts the blocks with
      talking heads, `class_depth` those with class attention.
    layerscale: initial scale of the residual branches.
    stochastic_depth: probability of dropping a residual branch of the patches for an example, the
      same at every depth (facebookresearch/deit cait_models.py).

  The other attributes are those of `vit.ViT`; 'cudnn' and 'auto' concern the class attention, for
  talking heads need the weights themselves.
  """

  num_classes: int
  width: int = bounded(low=1)
  depth: int = bounded(low=1)
  mlp: int = bounded(low=1)
  heads: int = bounded(low=1)
  layerscale: float = bounded(low=1e-9)
  class_depth: int = bounded(2, low=1)
  patch: int = bounded(16, low=1)
  stochastic_depth: float = bounded(0.0, low=0, high=0.99)
  dropout: float = bounded(0.0, low=0, high=0.99)
  head_bias: float = 0.0
  exact_gelu: bool = True
  fused_qkv: bool = True
  attention: Implementation = 'auto'
  unroll: Unroll = 'auto'
  remat: Remat = 'none'
  dtype: Literal['float32', 'bfloat16', 'float16'] = 'float32'

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Patches down and across an image of (height, width) pixels."""
    return PatchEmbedding(self.patch, self.width, self.dtype, parent=None).grid(image_size)

  @nn.nowrap
  def check_sequence(self, image_size: tuple[int, int], ways: int) -> None:
    """Raises a UserError unless the tokens of an image divide over `ways` devices."""
    rows, columns = self.grid(image_size)
    constraints.check_tokens(rows * columns, 0, ways, 'choose another image size or patch')

  @nn.compact
  def __call__(self, images_BHWC: Array, *, train: bool) -> Output:
    """One forward pass; arguments and errors are those of `vit.ViT`."""
    block = BlockConfig(
      mlp=self.mlp,
      heads=self.heads,
      layerscale=self.layerscale,
      dropout=self.dropout,
      qk_norm=False,
      mlp_kind='gelu',
      exact_gelu=self.exact_gelu,
      fused_qkv=self.fused_qkv,
      attention=self.attention,
      dtype=self.dtype,
    )
    x_BHWD = PatchEmbedding(self.patch, self.width, jnp.dtype(self.dtype), name='embedding')(
      images_BHWC, train
    )
    x_BND = x_BHWD.reshape(x_BHWD.shape[0], -1, self.width)
    normal = nn.initializers.normal(0.02)
    table_1ND = self.param('pos_embedding', normal, (1, *x_BND.shape[1:]), jnp.float32)
    cls_11D = self.param('cls', normal, (1, 1, self.width), jnp.float32)
    x_BND = nn.Dropout(self.dropout, deterministic=not train)(x_BND + table_1ND.astype(x_BND.dtype))
    x_BND = Encoder(
      self.depth,
      block,
      self.stochastic_depth,
      'constant',
      self.unroll,
      self.remat,
      TalkingHeadsBlock,
      final_norm=False,
      name='encoder',
    )(x_BND, train)
    class_blocks = stacked(
      ClassBlock,
      self.class_depth,
      self.unroll,
      self.remat,
      initialising=self.is_initializing(),
      in_axes=nn.broadcast,
    )
    cls_B1D = jnp.broadcast_to(cls_11D, (x_BND.shape[0], 1, self.width)).astype(x_BND.dtype)
    cls_B1D, _ = class_blocks(block, train, stochastic_depth=False, name='class_blocks')(
      cls_B1D, x_BND
    )
    tokens_BND = LayerNorm(name='norm')(jnp.concatenate([cls_B1D, x_BND], axis=1))
    features_BD = tokens_BND[:, 0].astype(jnp.float32)
    logits_BK = None
    if self.num_classes:
      logits_BK = Dense(
        self.num_classes,
        kernel_init=nn.initializers.zeros,
        dtype=self.dtype,
        out_dtype=jnp.float32,
        name='head',
        bias_init=nn.initializers.constant(self.head_bias),
      )(features_BD)
    return Output(logits_BK, features_BD, tokens_BND)


def build(
  width: int,
  depth: int,
  layerscale: float,
  patch: int,
  variant: str,
  num_classes: int,
  options: dict[str, Any],
) -> CaiT:
  """A CaiT with heads of 48 units; `options` are fields of `CaiT`."""
  size = dict(
    width=width, depth=depth, mlp=4 * width, heads=max(1, width // 48), layerscale=layerscale
  )
  options = size | options
  check_options(CaiT, options, fixed=('num_classes',))
  if options['width'] % options['heads']:
    raise UserError(
      f'model option heads is {options["heads"]}, which does not divide width {options["width"]}'
    )
  return CaiT(num_classes, **options)


# Width, depth and initial LayerScale: arXiv:2103.17239 Table 3 (heads of 48 units) and section 5;
# LayerScale where the paper and its code differ (XXS36): facebookresearch/deit cait_models.py.
_SIZES = {
  'XXS24': (192, 24, 1e-5), 'XXS36': (192, 36, 1e-5), 'XS24': (288, 24, 1e-5),
  'S24': (384, 24, 1e-5), 'S36': (384, 36, 1e-6), 'S48': (384, 48, 1e-6),
  'M36': (768, 36, 1e-6), 'M48': (768, 48, 1e-6),
}  # fmt: skip
_PIXELS = {'XXS24': 224, 'XXS36': 224, 'M48': 448}  # others 384

MODELS: dict[str, Entry] = {
  f'CaiT-{name}': Entry(
    functools.partial(build, *size),
    patches=(),
    inputs=Inputs(_PIXELS.get(name, 384), IMAGENET_MEAN, IMAGENET_STD, 1.0),
  )
  for name, size in _SIZES.items()
}
