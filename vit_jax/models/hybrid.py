"""Hybrids: a ViT over the feature map of a ResNet.

arXiv:2010.11929 section 3.1 'Hybrid Architecture'; arXiv:2106.10270 section 3.1.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.errors import UserError
from vit_jax.models.embedding import PatchEmbedding
from vit_jax.models.options import HybridOptions, ResNetOptions, stride_of
from vit_jax.models.resnet import HYBRID, ResNet
from vit_jax.models.vit import ViT

Array = jax.Array


class HybridEmbedding(nn.Module):
  """A ViT's stem: patches of a feature map, mostly of 1x1, become tokens.

  Parameters: resnet/..., and kernel (P, P, C, D) and bias of the patches, P in cells of the map.
  """

  options: HybridOptions

  def setup(self):
    o = self.options
    self.resnet = self._make_resnet()
    patch = o.patch // o.patch_stride
    self.patches = PatchEmbedding(patch, o.width, jnp.dtype(o.dtype), o.init)
    nn.share_scope(self, self.patches)

  @nn.nowrap
  def _make_resnet(self, **keys: Any) -> ResNet:
    o = self.options
    style = HYBRID if o.weight_epsilon == 'std' else HYBRID._replace(standardized=(1e-8, 0.0))
    options = ResNetOptions(stages=o.stages, width=o.resnet_width, zero_init=True, dtype=o.dtype)
    return ResNet(0, options, style=style, **keys)

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Tokens down and across; raises a UserError if the patches do not tile the feature map."""
    P = self.options.patch // self.options.patch_stride
    rows, columns = self._make_resnet(parent=None).grid(image_size)
    if rows % P or columns % P:
      stride = P * stride_of(self.options.stages)
      fits = [max(1, round(side / stride)) * stride for side in image_size]
      raise UserError(
        f'images of {image_size[0]}x{image_size[1]} pixels give a feature map of '
        f'{rows}x{columns}, which does not divide into patches of {P}x{P}; '
        f'{fits[0]}x{fits[1]} would'
      )
    return rows // P, columns // P

  def __call__(self, images_BHWC: Array, train: bool) -> Array:
    """(B, H, W, C) -> (B, rows, columns, D)."""
    height, width = images_BHWC.shape[1:3]
    self.grid((height, width))
    tokens_BND: Any = self.resnet(images_BHWC, train=train).tokens_BND
    rows, columns = self.resnet.grid((height, width))
    return self.patches(tokens_BND.reshape(-1, rows, columns, tokens_BND.shape[-1]), train)


class Hybrid(ViT):
  """A ViT whose patches are those of a ResNet's feature map."""

  options: HybridOptions

  @nn.nowrap
  def make_stem(self, **keys: Any) -> HybridEmbedding:
    return HybridEmbedding(self.options, **keys)
