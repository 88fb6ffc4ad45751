"""From images to tokens: patches, and where they are."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vit_jax.errors import UserError
from vit_jax.models.dense import affine
from vit_jax.models.norms import Conv

SPAN = -2.0, 2.5  # of normalised pixels, where all of most data sets lie

Array = jax.Array


class PatchEmbedding(nn.Module):
  """Patches to vectors: a convolution of stride P, as reshape and matrix product.

  The stem of a ViT is any module with this call and this `grid`.
  """

  patch: int
  width: int
  dtype: Any

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Patches down and across an image of (height, width) pixels.

    Raises:
      UserError: the patches do not tile the image.
    """
    P, (height, width) = self.patch, image_size
    if height % P or width % P:
      fits = [max(1, round(side / P)) * P for side in image_size]
      raise UserError(
        f'images of {height}x{width} pixels do not divide into patches of {P}x{P}; '
        f'{fits[0]}x{fits[1]} would'
      )
    return height // P, width // P

  @nn.compact
  def __call__(self, images_BHWC: Array, train: bool) -> Array:
    """(B, H, W, C) -> (B, H / P, W / P, D)."""
    batch, height, width, channels = images_BHWC.shape
    P, (rows, columns) = self.patch, self.grid((height, width))
    patches = images_BHWC.astype(self.dtype).reshape(batch, rows, P, columns, P, channels)
    init = nn.initializers.lecun_normal(in_axis=(0, 1, 2), out_axis=3)
    kernel_PPCD = self.param('kernel', init, (P, P, channels, self.width), jnp.float32)
    bias_D = self.param('bias', nn.initializers.zeros, (self.width,), jnp.float32)
    return affine(patches.swapaxes(2, 3), kernel_PPCD, bias_D, rank=3)


class ConvEmbedding(nn.Module):
  """Convolutions of 3x3 pixels and stride 2, with a GELU each, then patches of what they leave.

  The convolutional stem of arXiv:2106.14881, section 3, without its BatchNorms: a small ViT learns
  texture from few images with it. Parameters: conv1/{kernel, bias} and so on, and kernel and bias
  of the patches.

  Attributes:
    channels: of each convolution.
    patch: P, in pixels of the image; a multiple of 2 ** len(channels).
  """

  channels: tuple[int, ...]
  patch: int
  width: int
  dtype: Any

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """As that of `PatchEmbedding`."""
    return PatchEmbedding(self.patch, self.width, self.dtype, parent=None).grid(image_size)

  @nn.compact
  def __call__(self, images_BHWC: Array, train: bool) -> Array:
    """(B, H, W, C) -> (B, H / P, W / P, D)."""
    height, width = images_BHWC.shape[1:3]
    self.grid((height, width))
    x_BHWC = images_BHWC
    for i, channels in enumerate(self.channels, 1):
      conv = Conv(
        channels, 3, 2, 1, self.dtype, nn.initializers.he_normal(), bias=True, name=f'conv{i}'
      )
      x_BHWC = nn.gelu(conv(x_BHWC))
    patches = PatchEmbedding(self.patch >> len(self.channels), self.width, self.dtype)
    nn.share_scope(self, patches)
    return patches(x_BHWC, train)


class HistogramEmbedding(PatchEmbedding):
  """Patches to vectors by their pixels, and by how often each value occurs among them.

  A colour histogram says from few images what a linear map of pixels cannot: that a patch is
  partly dark, or of two colours. Each channel has one, the values shared between the two nearest
  of `bins` centres; its square roots (Hellinger's map, Arandjelovic and Zisserman, CVPR 2012,
  section 3) go through a matrix product of their own. Parameters: those of `PatchEmbedding`, and
  histogram (C, V, D), V bins.

  Attributes:
    bins: of each channel, centred evenly from the lowest to the highest of `SPAN`.
  """

  bins: int

  @nn.compact
  def __call__(self, images_BHWC: Array, train: bool) -> Array:
    """(B, H, W, C) -> (B, H / P, W / P, D)."""
    x_BHWD = super().__call__(images_BHWC, train)
    init = nn.initializers.lecun_normal(in_axis=(0, 1), out_axis=2)
    kernel_CVD = self.param(
      'histogram', init, (images_BHWC.shape[3], self.bins, self.width), jnp.float32
    )
    counts_BHWCV = histograms(images_BHWC, self.patch, self.bins)
    roots_BHWCV = jnp.sqrt(self.bins * counts_BHWCV)  # their mean square is 1
    zeros_D = jnp.zeros(self.width, jnp.float32)
    return x_BHWD + affine(roots_BHWCV.astype(self.dtype), kernel_CVD, zeros_D, rank=2)


def histograms(images_BHWC: Array, patch: int, bins: int) -> Array:
  """Shares of the values of each channel of each patch: float32 (B, H / P, W / P, C, V), V bins.

  A value between two centres counts for both, the more the nearer; one beyond `SPAN` for the last.
  """
  batch, height, width, channels = images_BHWC.shape
  low, high = SPAN
  at_BHWC = (images_BHWC.astype(jnp.float32).clip(low, high) - low) * (bins - 1) / (high - low)
  share_BHWCV = jnp.maximum(0, 1 - jnp.abs(at_BHWC[..., None] - jnp.arange(bins)))
  parts = share_BHWCV.reshape(batch, height // patch, patch, width // patch, patch, channels, bins)
  return parts.mean(axis=(2, 4))


def kept_patches(patches: int, rate: float) -> int:
  """How many patches patch dropout leaves: at least one."""
  return max(1, round((1 - rate) * patches))


def drop_patches(key: Array, x_BND: Array, first: int, rate: float) -> Array:
  """Keeps a random share 1 - `rate` of the patches of each image, in their order.

  Args:
    x_BND: tokens, of which the patches begin at `first`; those before it are kept.
  """
  batch, patches = x_BND.shape[0], x_BND.shape[1] - first
  order_BN = jnp.argsort(jax.random.uniform(key, (batch, patches)), axis=1)
  kept_BN = first + jnp.sort(order_BN[:, : kept_patches(patches, rate)], axis=1)
  kept_BND = jnp.take_along_axis(x_BND, kept_BN[:, :, None], axis=1)
  return jnp.concatenate([x_BND[:, :first], kept_BND], axis=1)


def sincos2d(rows: int, columns: int, width: int) -> np.ndarray:
  """Fixed positions (1, N, D): sines and cosines of column, then of row (arXiv:2104.02057).

  `width` is a multiple of 4.
  """
  frequencies = 10_000.0 ** -np.linspace(0, 1, width // 4)
  row_N, column_N = np.indices((rows, columns)).reshape(2, -1)
  angles = [np.outer(place_N, frequencies) for place_N in (column_N, row_N)]
  parts = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
  return np.concatenate(parts, axis=1).astype(np.float32)[None]
