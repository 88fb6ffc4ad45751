"""What a model costs, counted from shapes: parameters, and multiply-accumulates."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax.models.embedding import kept_patches


def count_parameters(model: Any, image_shape: tuple[int, int, int]) -> int:
  """Parameters of `model` for images of shape (H, W, C); nothing is allocated."""
  images_BHWC = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  init = lambda images: model.init(jax.random.key(0), images, train=False)  # noqa: E731
  shapes = jax.eval_shape(init, images_BHWC)
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes['params']))


def forward_macs(model: Any, image_shape: tuple[int, int, int], train: bool = False) -> float:
  """Multiply-accumulates of the forward pass of a ViT for one image of shape (H, W, C).

  Counts matrix products: the patch embedding N P^2 C D, in each layer the projections and the MLP
  N (4 D^2 + 2 D F) and the attention 2 N^2 D, the pooling, and the head. A training step is
  three forward passes, and a multiply-accumulate two FLOP; with `train` patches that patch
  dropout leaves away count in the embedding only.
  """
  height, width, channels = image_shape
  rows, columns = model.grid((height, width))
  patches, D, F = rows * columns, model.width, model.mlp
  macs = patches * (height // rows) * (width // columns) * channels * D
  if train:
    patches = kept_patches(patches, model.patch_dropout)
  N = patches + model.registers + (model.pool == 'cls')
  macs += model.depth * (N * (4 * D * D + 2 * D * F) + 2 * N * N * D)
  if model.pool == 'map':  # keys and values of every patch; one query, one output, one MLP
    macs += 2 * patches * D * D + 2 * patches * D + 2 * D * D + 2 * D * F
  return macs + model.representation * D * D + D * model.num_classes
