"""Hybrids: a ViT over the feature map of a ResNet (arXiv:2010.11929 section 3.1 'Hybrid
Architecture', arXiv:2106.10270 section 3.1), composed from the two."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.errors import UserError
from vit_jax.fields import bounded
from vit_jax.models.embedding import PatchEmbedding
from vit_jax.models.names import Entry
from vit_jax.models.norms import GroupNorm
from vit_jax.models.options import take
from vit_jax.models.resnet import HYBRID, ResNet, stride_of
from vit_jax.models.sizes import SIZES, Size
from vit_jax.models.vit import ViT, check_vit

Array = jax.Array


class HybridEmbedding(nn.Module):
  """A ViT's stem: patches of a feature map, mostly of 1x1, become tokens.

  Parameters: resnet/..., and kernel (P, P, C, D) and bias of the patches.

  Attributes:
    resnet: without a head.
    patch: P, in places of the feature map.
  """

  resnet: ResNet
  patch: int
  width: int
  dtype: Any

  def setup(self):
    self.patches = PatchEmbedding(self.patch, self.width, self.dtype)
    nn.share_scope(self, self.patches)

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Tokens down and across an image of (height, width) pixels.

    Raises:
      UserError: the patches do not tile the feature map.
    """
    P, (rows, columns) = self.patch, self.resnet.grid(image_size)
    if rows % P or columns % P:
      stride = P * stride_of(self.resnet.stages)
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


@dataclasses.dataclass
class Stem:
  """What options a hybrid has besides those of a ViT.

  Attributes:
    stages: units of each stage of the ResNet; none leaves its stem alone.
    resnet_width: channels of the ResNet's stem.
    weight_epsilon: what the epsilon of weight standardisation is added to. Google's code, where
      the published weights come from, adds 1e-5 to the standard deviation; timm adds 1e-8 to the
      variance. Logits differ by about 1e-4.
  """

  stages: tuple[int, ...] = bounded(low=1)
  resnet_width: int = bounded(64, low=1)
  weight_epsilon: Literal['std', 'variance'] = 'std'


def build_hybrid(
  size: Size,
  stages: tuple[int, ...],
  patch: int,
  variant: str,
  num_classes: int,
  options: dict[str, Any],
) -> ViT:
  """A hybrid; `options` are fields of `ViT` and of `Stem`.

  The patch of the name is in pixels. For a ResNet without stages it counts the stride of the
  convolution and not that of the pooling (arXiv:2106.10270 section 3.1): published R+Ti/16 has
  patches of 8x8 on a map of stride 4, so that a token stands for 32 pixels.
  """
  stem, of_vit = take(Stem, {'stages': stages} | options)
  of_vit = size._asdict() | of_vit
  check_vit(of_vit)
  if stem.resnet_width % GroupNorm.groups:
    raise UserError(
      f'model option resnet_width is {stem.resnet_width}; it must be a multiple of '
      f'{GroupNorm.groups}, the groups that are normalised together'
    )
  stages = tuple(stem.stages)
  stride = stride_of(stages) if stages else 2
  if patch % stride:
    raise UserError(
      f'a model with patches of {patch} pixels cannot stand on a ResNet of '
      f'{len(stages)} stages; the nearest patch that can is '
      f'{max(1, round(patch / stride)) * stride}'
    )
  dtype = of_vit.get('dtype', ViT.dtype)
  style = HYBRID if stem.weight_epsilon == 'std' else HYBRID._replace(standardised=(1e-8, 0.0))
  resnet = ResNet(0, style, stages=stages, width=stem.resnet_width, dtype=dtype)
  embedding = HybridEmbedding(resnet, patch // stride, of_vit['width'], jnp.dtype(dtype))
  return ViT(num_classes, embedding, **of_vit)


def _entry(size: str, stages: tuple[int, ...], patch: int) -> Entry:
  return Entry(functools.partial(build_hybrid, SIZES[size], stages), (patch,))


# google-research/vision_transformer, vit_jax/configs/models.py.
MODELS = {
  'R+Ti': _entry('Ti', (), 16),
  'R26+S': _entry('S', (2, 2, 2, 2), 32),
  'R26+B': _entry('B', (2, 2, 2, 2), 32),
  'R50+B': _entry('B', (3, 4, 9), 16),
  'R50+L': _entry('L', (3, 4, 6, 3), 32),
}
