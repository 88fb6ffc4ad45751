"""From images to tokens: patches, and where they are."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vit_jax.errors import UserError
from vit_jax.models.dense import affine
from vit_jax.models.initializers import torch_uniform
from vit_jax.models.norms import Conv
from vit_jax.models.options import Init

Array = jax.Array


class PatchEmbedding(nn.Module):
  """Patches to vectors: a convolution of stride P, as reshape and matrix product.

  The stem of a ViT is any module with this call and this `grid`.
  """

  patch: int
  width: int
  dtype: Any
  init_as: Init = 'xavier'

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Patches down and across (height, width); raises a UserError if they do not tile the image."""
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
    bias_init = nn.initializers.zeros
    if self.init_as == 'trunc_normal':  # which timm's code applies to linear layers only
      init = bias_init = torch_uniform(P * P * channels)
    kernel_PPCD = self.param('kernel', init, (P, P, channels, self.width), jnp.float32)
    bias_D = self.param('bias', bias_init, (self.width,), jnp.float32)
    return affine(patches.swapaxes(2, 3), kernel_PPCD, bias_D, rank=3)


class ConvEmbedding(PatchEmbedding):
  """Convolutions of 3x3 pixels and stride 2 with a GELU each, then patches of the result.

  The stem of arXiv:2106.14881, section 3, without its BatchNorms: it helps a small ViT to learn
  texture from few images. Parameters: conv1/{kernel, bias}, ...; kernel and bias of the patches.

  Attributes:
    patch: P, in pixels of the image; a multiple of 2 ** len(channels).
    channels: of each convolution.
  """

  channels: tuple[int, ...] = ()

  @nn.compact
  def __call__(self, images_BHWC: Array, train: bool) -> Array:
    """(B, H, W, C) -> (B, H / P, W / P, D)."""
    height, width = images_BHWC.shape[1:3]
    self.grid((height, width))
    x_BHWC, init = images_BHWC, nn.initializers.he_normal()
    for i, channels in enumerate(self.channels, 1):
      conv = Conv(channels, 3, 2, 1, self.dtype, init, bias=True, name=f'conv{i}')
      x_BHWC = nn.gelu(conv(x_BHWC))
    patch = self.patch >> len(self.channels)
    patches = PatchEmbedding(patch, self.width, self.dtype, self.init_as)
    nn.share_scope(self, patches)
    return patches(x_BHWC, train)


def kept_patches(patches: int, rate: float) -> int:
  """How many patches patch dropout keeps: at least one."""
  return max(1, round((1 - rate) * patches))


def drop_patches(key: Array, x_BND: Array, first: int, rate: float) -> Array:
  """Keeps a random share 1 - `rate` of the patches, in order, and all tokens before `first`."""
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
