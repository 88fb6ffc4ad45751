"""The Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), equations 1 to 4."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.errors import UserError
from vit_jax.fields import bounded
from vit_jax.models import constraints
from vit_jax.models.attention import Implementation
from vit_jax.models.blocks import BlockConfig, Encoder, Remat, Unroll
from vit_jax.models.dense import Dense
from vit_jax.models.embedding import (
  ConvEmbedding,
  HistogramEmbedding,
  PatchEmbedding,
  drop_patches,
  kept_patches,
  sincos2d,
)
from vit_jax.models.layers import MlpKind
from vit_jax.models.names import Entry
from vit_jax.models.options import check_options, take
from vit_jax.models.output import Output
from vit_jax.models.pooling import MapHead
from vit_jax.models.sizes import SIZES, Size

Array = jax.Array


class ViT(nn.Module):
  """A Vision Transformer.

  Parameters are float32. The tree: cls, dist (1, 1, D), registers (1, R, D), pos_embedding
  (1, N, D), embedding/{kernel, bias}, encoder/blocks/{norm1, attention/{qkv, out}, norm2,
  mlp/{gate, up, down}, scale1, scale2} with a leading axis L, encoder/norm, map_head, pre_logits,
  head, head_dist.

  Attributes:
    num_classes: 0 leaves the head away.
    embedding: the stem, (images_BHWC, train) -> x_BHWD; see `embedding.PatchEmbedding`.
    width, depth, mlp, heads: D, L, F, A of the legend.
    pool: what the head sees: the class token, the mean of the patches, or a MAP head.
    distilled: a second token after the class token, with a head of its own, that learns from a
      teacher (arXiv:2012.12877 section 4); evaluation takes the mean of both heads.
    posemb: learned, one for the class token and each patch; sines and cosines of the row and
      column of each patch; or none.
    posemb_class: whether the class and distillation tokens have learned positions too.
    registers: extra tokens that the head does not see (arXiv:2309.16588).
    qk_norm: LayerNorm of queries and keys (arXiv:2302.05442).
    layerscale: initial scale of the residual branches; 0 is without.
    stochastic_depth: probability of dropping a residual branch for an example; with the rule
      'linear' it grows to that from 0 in the first layer.
    patch_dropout: share of the patches of each image that a training step leaves away
      (arXiv:2208.07220): cheaper steps, and a regulariser.
    dropout: after the positions and after every dense layer but qkv.
    mlp_kind: two dense layers with a GELU, or three with a SiLU gate (arXiv:2002.05202).
    representation: a tanh layer `pre_logits` before the head, as in the paper's pretraining.
    head_bias: initial value of the head's bias; log(1 / num_classes) suits a sigmoid loss.
    exact_gelu: the normal distribution function in GELU, else its tanh form.
    fused_qkv: queries, keys and values in one matrix product, else in three.
    attention: 'xla', 'cudnn', or 'auto' for the better one that works here.
    unroll: layers as straight code rather than a loop: faster, but slower to compile; 'auto'
      unrolls up to `blocks.UNROLL_UP_TO` layers.
    remat: what the backward pass computes again: nothing, all ('full'), all but the results of
      dense layers ('dots'), all but qkv, attention and hidden units ('names').
    dtype: of matrix products and of the tokens.
  """

  num_classes: int
  embedding: nn.Module
  width: int = bounded(low=1)
  depth: int = bounded(low=1)
  mlp: int = bounded(low=1)
  heads: int = bounded(low=1)
  pool: Literal['cls', 'mean', 'map'] = 'cls'
  distilled: bool = False
  posemb: Literal['learned', 'sincos2d', 'none'] = 'learned'
  posemb_class: bool = True
  registers: int = bounded(0, low=0)
  qk_norm: bool = False
  layerscale: float = bounded(0.0, low=0)
  stochastic_depth: float = bounded(0.0, low=0, high=0.99)
  stochastic_depth_rule: Literal['linear', 'constant'] = 'linear'
  patch_dropout: float = bounded(0.0, low=0, high=0.99)
  dropout: float = bounded(0.0, low=0, high=0.99)
  mlp_kind: MlpKind = 'gelu'
  representation: bool = False
  head_bias: float = 0.0
  exact_gelu: bool = False
  fused_qkv: bool = True
  attention: Implementation = 'auto'
  unroll: Unroll = 'auto'
  remat: Remat = 'none'
  dtype: Literal['float32', 'bfloat16', 'float16'] = 'float32'

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Tokens down and across an image of (height, width) pixels, extra tokens apart."""
    return self.embedding.grid(image_size)  # type: ignore[operator]

  @nn.nowrap
  def check_sequence(self, image_size: tuple[int, int], ways: int) -> None:
    """Raises a UserError unless the tokens of an image divide over `ways` devices."""
    rows, columns = self.grid(image_size)
    patches, extra = rows * columns, (self.pool == 'cls') + self.distilled + self.registers
    change = f'config.model.registers={self.registers + -(patches + extra) % ways} would'
    if patches % ways == 0 and not self.distilled:
      change = f"config.model.pool='mean' or 'map' without registers would, and {change}"
    constraints.check_tokens(patches, extra, ways, change)
    if self.patch_dropout:
      constraints.check_tokens(
        kept_patches(patches, self.patch_dropout),
        extra,
        ways,
        'config.model.patch_dropout=0 would in training too',
      )

  @nn.compact
  def __call__(self, images_BHWC: Array, *, train: bool) -> Output:
    """One forward pass.

    Args:
      images_BHWC: normalised floats.
      train: turns on dropout and stochastic depth, which take `rngs={'dropout': key}`.

    Raises:
      UserError: the stem does not fit the image size.
    """
    block = BlockConfig(
      **{field.name: getattr(self, field.name) for field in dataclasses.fields(BlockConfig)}
    )
    x_BND = self._tokens(self.embedding(images_BHWC, train), train)
    x_BND = nn.Dropout(self.dropout, deterministic=not train)(x_BND)
    tokens_BND = Encoder(
      self.depth,
      block,
      self.stochastic_depth,
      self.stochastic_depth_rule,
      self.unroll,
      self.remat,
      name='encoder',
    )(x_BND, train)
    features_BD = self._pool(tokens_BND, block, train)
    if self.representation:
      features_BD = jnp.tanh(
        self._dense(self.width, nn.initializers.lecun_normal(), name='pre_logits')(features_BD)
      )
    seen = {'head': features_BD}
    if self.distilled:
      seen['head_dist'] = tokens_BND[:, 1].astype(jnp.float32)
    features_BD = _mean(list(seen.values()))
    if not self.num_classes:
      return Output(features_BD=features_BD, tokens_BND=tokens_BND)
    logits = [
      self._dense(
        self.num_classes,
        nn.initializers.zeros,
        name=name,
        bias_init=nn.initializers.constant(self.head_bias),
      )(x_BD)
      for name, x_BD in seen.items()
    ]
    if train:
      return Output(logits[0], features_BD, tokens_BND, *logits[1:])
    return Output(_mean(logits), features_BD, tokens_BND)

  @nn.nowrap
  def _dense(self, features: int, kernel_init: Any, **options: Any) -> Dense:
    return Dense(
      features, kernel_init=kernel_init, dtype=self.dtype, out_dtype=jnp.float32, **options
    )

  @nn.nowrap
  def _tokens(self, x_BHWD: Array, train: bool) -> Array:
    """Equation 1: class token, registers and patches with their positions, (B, N, D)."""
    batch, rows, columns, width = x_BHWD.shape
    x_BND = x_BHWD.reshape(batch, rows * columns, width)

    def extra(name: str, init: Any, count: int) -> Array:
      token_1ND = self.param(name, init, (1, count, width), jnp.float32)
      return jnp.broadcast_to(token_1ND, (batch, count, width)).astype(x_BND.dtype)

    def placed(x_BND: Array) -> Array:
      table_1ND = self.param(
        'pos_embedding', nn.initializers.normal(0.02), (1, *x_BND.shape[1:]), jnp.float32
      )
      return x_BND + table_1ND.astype(x_BND.dtype)

    if self.posemb == 'sincos2d':
      x_BND += jnp.asarray(sincos2d(rows, columns, width), x_BND.dtype)
    if self.posemb == 'learned' and not self.posemb_class:
      x_BND = placed(x_BND)
    front = [extra('cls', nn.initializers.zeros, 1)] if self.pool == 'cls' else []
    if self.distilled:
      front.append(extra('dist', nn.initializers.normal(0.02), 1))
    x_BND = jnp.concatenate([*front, x_BND], axis=1)
    if self.posemb == 'learned' and self.posemb_class:
      x_BND = placed(x_BND)
    first = x_BND.shape[1] - rows * columns
    if train and self.patch_dropout:
      x_BND = drop_patches(self.make_rng('dropout'), x_BND, first, self.patch_dropout)
    if self.registers:
      registers_BND = extra('registers', nn.initializers.normal(0.02), self.registers)
      x_BND = jnp.concatenate([x_BND[:, :first], registers_BND, x_BND[:, first:]], axis=1)
    return x_BND

  @nn.nowrap
  def _pool(self, tokens_BND: Array, block: BlockConfig, train: bool) -> Array:
    """Equation 4, or its alternatives: (B, D) float32."""
    patches_BND = tokens_BND[:, (self.pool == 'cls') + self.distilled + self.registers :]
    if self.pool == 'cls':
      features_BD = tokens_BND[:, 0]
    elif self.pool == 'mean':
      features_BD = jnp.mean(patches_BND.astype(jnp.float32), axis=1)
    else:
      features_BD = MapHead(block, name='map_head')(patches_BND, train)
    return features_BD.astype(jnp.float32)


def _mean(arrays: list[Array]) -> Array:
  return functools.reduce(jnp.add, arrays) / len(arrays)


def check_vit(options: dict[str, Any]) -> None:
  """Raises a UserError where options of a ViT, its size among them, are wrong or do not fit."""
  check_options(ViT, options, fixed=('num_classes', 'embedding'))
  width, heads = options['width'], options['heads']
  if width % heads:
    raise UserError(f'model option heads is {heads}, which does not divide width {width}')
  if options.get('posemb') == 'sincos2d' and width % 4:
    raise UserError(
      f"model option posemb is 'sincos2d', which needs a width divisible by 4, not {width}"
    )
  if options.get('distilled'):
    for name, only in (('pool', 'cls'), ('representation', False)):
      if options.get(name, only) != only:
        raise UserError(
          f'model option {name} is {options[name]!r}, but a distilled model has {only!r}'
        )


@dataclasses.dataclass
class Stem:
  """What options a plain ViT has besides those of `ViT`.

  Attributes:
    conv_stem: channels of each convolution before the patches, see `embedding.ConvEmbedding`;
      none leaves the patches to the pixels, as in the paper.
    histogram_bins: of each channel of each patch, beside its pixels, see
      `embedding.HistogramEmbedding`; 0 is without.
  """

  conv_stem: tuple[int, ...] = bounded((), low=1)
  histogram_bins: int = bounded(0, low=0)


def build_vit(
  size: Size, patch: int, variant: str, num_classes: int, options: dict[str, Any]
) -> ViT:
  """A plain ViT; `options` are fields of `ViT`, which override `size`, and of `Stem`."""
  stem, of_vit = take(Stem, options)
  of_vit = size._asdict() | of_vit
  check_vit(of_vit)
  rest = of_vit['width'], jnp.dtype(of_vit.get('dtype', ViT.dtype))
  channels = tuple(stem.conv_stem)
  if patch % 2 ** len(channels):
    raise UserError(
      f'model option conv_stem has {len(channels)} convolutions, each of which '
      f'halves the image; the patch of the name must be a multiple of '
      f'{2 ** len(channels)}, not {patch}'
    )
  if channels and stem.histogram_bins:
    raise UserError('model options conv_stem and histogram_bins are two stems; set one of them')
  if channels:
    embedding = ConvEmbedding(channels, patch, *rest)
  elif stem.histogram_bins:
    embedding = HistogramEmbedding(patch, *rest, stem.histogram_bins)
  else:
    embedding = PatchEmbedding(patch, *rest)
  return ViT(num_classes, embedding, **of_vit)


# Published with; any other patch works too.
_PATCHES = {
  'S': (16, 32),
  'B': (16, 32, 8),
  'L': (16, 32),
  **dict.fromkeys(
    ('So150m', 'So400m', 'H', 'H52', 'g', 'g4', 'G', 'G4', 'g-opt', 'G-opt', 'e'), (14,)
  ),
}
MODELS = {
  name: Entry(functools.partial(build_vit, size), _PATCHES.get(name, (16,)))
  for name, size in SIZES.items()
}
