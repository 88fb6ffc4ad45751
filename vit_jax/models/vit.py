"""The Vision Transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), equations 1 to 4."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models import constraints, initializers
from vit_jax.models.blocks import Encoder
from vit_jax.models.dense import Dense
from vit_jax.models.embedding import (
  ConvEmbedding,
  PatchEmbedding,
  drop_patches,
  kept_patches,
  sincos2d,
)
from vit_jax.models.inputs import Inputs
from vit_jax.models.options import ViTOptions
from vit_jax.models.output import Output
from vit_jax.models.pooling import MapHead

Array = jax.Array


class ViT(nn.Module):
  """A Vision Transformer.

  Parameters are float32. The tree: cls, dist (1, 1, D), registers (1, R, D), pos_embedding
  (1, N, D), embedding/{kernel, bias}, encoder/blocks/{norm1, attention/{qkv, out}, norm2,
  mlp/{gate, up, down}, scale1, scale2} with a leading axis L, encoder/norm, map_head, pre_logits,
  head, head_dist.

  Attributes:
    num_classes: 0 is without a head.
    inputs: the images that the weights expect.
  """

  num_classes: int
  options: ViTOptions
  inputs: Inputs = Inputs()

  @nn.nowrap
  def make_stem(self, **keys: Any) -> Any:
    """From images to vectors: a module with the call and the `grid` of `PatchEmbedding`."""
    o = self.options
    if o.conv_stem:
      return ConvEmbedding(o.patch, o.width, jnp.dtype(o.dtype), o.init, o.conv_stem, **keys)
    return PatchEmbedding(o.patch, o.width, jnp.dtype(o.dtype), o.init, **keys)

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Tokens down and across an image of (height, width) pixels, extra tokens apart."""
    return self.make_stem(parent=None).grid(image_size)

  @nn.nowrap
  def check_sequence(self, image_size: tuple[int, int], ways: int) -> None:
    """Raises a UserError unless the tokens of an image divide over `ways` devices."""
    o, (rows, columns) = self.options, self.grid(image_size)
    patches, extra = rows * columns, self._extra_tokens
    change = f'config.model.registers={o.registers + -(patches + extra) % ways} would'
    if patches % ways == 0 and not o.distilled:
      change = f"config.model.pool='mean' or 'map' without registers would, and {change}"
    constraints.check_tokens(patches, extra, ways, change)
    if o.patch_dropout:
      constraints.check_tokens(
        kept_patches(patches, o.patch_dropout),
        extra,
        ways,
        'config.model.patch_dropout=0 would in training too',
      )

  @nn.compact
  def __call__(self, images_BHWC: Array, *, train: bool) -> Output:
    """One forward pass.

    Args:
      images_BHWC: normalized floats.
      train: turns on dropout and stochastic depth, which take `rngs={'dropout': key}`.

    Raises:
      UserError: the stem does not fit the image size.
    """
    o = self.options
    x_BND = self._tokens(self.make_stem(name='embedding')(images_BHWC, train), train)
    x_BND = nn.Dropout(o.dropout, deterministic=not train)(x_BND)
    first = 1 + o.distilled if train and o.pool == 'cls' else None  # of the tokens that are read
    tokens_BND = Encoder(o, o.stochastic_depth_rule, name='encoder')(x_BND, train, first=first)
    features_BD = self._pool(tokens_BND, train)
    if o.representation:
      features_BD = jnp.tanh(
        self._dense(
          o.width, initializers.kernel(o, nn.initializers.lecun_normal()), name='pre_logits'
        )(features_BD)
      )
    seen = {'head': features_BD}
    if o.distilled:
      seen['head_dist'] = tokens_BND[:, 1].astype(jnp.float32)
    features_BD = _mean(list(seen.values()))
    if not self.num_classes:
      return Output(features_BD=features_BD, tokens_BND=tokens_BND)
    logits = [
      self._dense(
        self.num_classes,
        initializers.head(o),
        name=name,
        bias_init=nn.initializers.constant(o.head_bias),
      )(x_BD)
      for name, x_BD in seen.items()
    ]
    if train:
      return Output(logits[0], features_BD, tokens_BND, *logits[1:])
    return Output(_mean(logits), features_BD, tokens_BND)

  @property
  def _extra_tokens(self) -> int:
    """Tokens before the patches."""
    return (self.options.pool == 'cls') + self.options.distilled + self.options.registers

  @nn.nowrap
  def _dense(self, features: int, kernel_init: Any, **options: Any) -> Dense:
    return Dense(
      features, kernel_init=kernel_init, dtype=self.options.dtype, out_dtype=jnp.float32, **options
    )

  @nn.nowrap
  def _tokens(self, x_BHWD: Array, train: bool) -> Array:
    """Equation 1: class token, registers and patches with their positions, (B, N, D)."""
    o, (batch, rows, columns, width) = self.options, x_BHWD.shape
    x_BND = x_BHWD.reshape(batch, rows * columns, width)

    def extra(name: str, init: Any, count: int) -> Array:
      token_1ND = self.param(name, init, (1, count, width), jnp.float32)
      return jnp.broadcast_to(token_1ND, (batch, count, width)).astype(x_BND.dtype)

    def placed(x_BND: Array) -> Array:
      init = initializers.normal(o.posemb_std or width**-0.5)
      table_1ND = self.param('pos_embedding', init, (1, *x_BND.shape[1:]), jnp.float32)
      return x_BND + table_1ND.astype(x_BND.dtype)

    if o.posemb == 'sincos2d':
      x_BND += jnp.asarray(sincos2d(rows, columns, width), x_BND.dtype)
    if o.posemb == 'learned' and not o.posemb_class:
      x_BND = placed(x_BND)
    front = [extra('cls', initializers.normal(o.token_std), 1)] if o.pool == 'cls' else []
    if o.distilled:
      front.append(extra('dist', initializers.NORMAL, 1))
    x_BND = jnp.concatenate([*front, x_BND], axis=1)
    if o.posemb == 'learned' and o.posemb_class:
      x_BND = placed(x_BND)
    first = x_BND.shape[1] - rows * columns
    if train and o.patch_dropout:
      x_BND = drop_patches(self.make_rng('dropout'), x_BND, first, o.patch_dropout)
    if o.registers:
      init = initializers.normal(o.token_std or initializers.STD)
      registers_BND = extra('registers', init, o.registers)
      x_BND = jnp.concatenate([x_BND[:, :first], registers_BND, x_BND[:, first:]], axis=1)
    return x_BND

  @nn.nowrap
  def _pool(self, tokens_BND: Array, train: bool) -> Array:
    """Equation 4, or its alternatives: (B, D) float32."""
    patches_BND = tokens_BND[:, self._extra_tokens :]
    if self.options.pool == 'cls':
      features_BD = tokens_BND[:, 0]
    elif self.options.pool == 'mean':
      features_BD = jnp.mean(patches_BND.astype(jnp.float32), axis=1)
    else:
      features_BD = MapHead(self.options, name='map_head')(patches_BND, train)
    return features_BD.astype(jnp.float32)


def _mean(arrays: list[Array]) -> Array:
  return functools.reduce(jnp.add, arrays) / len(arrays)
