"""The convolutional networks before residual ones: LeNet-5 and AlexNet."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.errors import UserError
from vit_jax.models.dense import Dense
from vit_jax.models.norms import Conv
from vit_jax.models.options import AlexNetOptions, Inputs, LeNetOptions
from vit_jax.models.output import Output
from vit_jax.models.resnet import HE

Array = jax.Array
GLOROT = nn.initializers.xavier_uniform()


class LeNet5(nn.Module):
  """LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition", II.B).

  As it is taught since: C3 sees all maps of S2, pooling has no weights, activations are tanh and
  the output is linear, 61,706 parameters for 10 classes of 32x32 gray images. Smaller images get
  a border of zeros up to 32 pixels, as the digits did; of larger ones the features of C5 are
  averaged, for all layers up to it are convolutions. The tree: c1, c3, c5, f6, head, each
  {kernel, bias}.

  Attributes:
    num_classes: 0 is without a head.
    inputs: the images that the weights expect.
  """

  num_classes: int
  options: LeNetOptions
  inputs: Inputs = Inputs()

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of C5 for an image of (height, width) pixels."""
    rows, columns = (((max(side, 32) - 4) // 2 - 4) // 2 - 4 for side in image_size)
    return rows, columns

  @nn.compact
  def __call__(self, images_BHWC: Array, *, train: bool) -> Output:
    """One forward pass; `images_BHWC` are normalized floats, and `train` changes nothing."""
    dtype = jnp.dtype(self.options.dtype)
    short = [max(0, 32 - side) for side in images_BHWC.shape[1:3]]
    x_BHWD = jnp.pad(images_BHWC, [(0, 0), *((n // 2, n - n // 2) for n in short), (0, 0)])
    for name, features in (('c1', 6), ('c3', 16), ('c5', 120)):
      x_BHWD = nn.tanh(Conv(features, 5, 1, 0, dtype, GLOROT, bias=True, name=name)(x_BHWD))
      if name != 'c5':
        x_BHWD = average_by_two(x_BHWD)
    features_BD = jnp.mean(x_BHWD.astype(jnp.float32), (1, 2))
    features_BD = nn.tanh(
      Dense(84, GLOROT, dtype=dtype, out_dtype=jnp.float32, name='f6')(features_BD)
    )
    return _output(x_BHWD, features_BD, self.num_classes, dtype, GLOROT)


class AlexNet(nn.Module):
  """AlexNet as most use the name: one tower, no response normalization, 61,100,840 parameters.

  Krizhevsky et al. 2012 ("ImageNet classification with deep convolutional neural networks")
  split it over two GPUs; this is the one of Krizhevsky 2014 (arXiv:1404.5997) as pytorch/vision
  publishes it, where the last feature map is averaged to 6x6, so that other image sizes fit. The
  tree: conv1 to conv5, fc6, fc7, head, each {kernel, bias}.

  Attributes:
    num_classes: 0 is without a head.
    inputs: the images that the weights expect.
  """

  num_classes: int
  options: AlexNetOptions
  inputs: Inputs = Inputs()

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the last feature map of an image of (height, width) pixels.

    Raises:
      UserError: the image is too small to have one.
    """
    if min(image_size) < 63:
      raise UserError(
        f'images of {image_size[0]}x{image_size[1]} pixels are too small for AlexNet; 63x63 are not'
      )
    pooled = lambda side: (side - 1) // 2  # noqa: E731
    rows, columns = (pooled(pooled(pooled((side - 7) // 4 + 1))) for side in image_size)
    return rows, columns

  @nn.compact
  def __call__(self, images_BHWC: Array, *, train: bool) -> Output:
    """One forward pass.

    Args:
      images_BHWC: normalized floats.
      train: turns on dropout, which takes `rngs={'dropout': key}`.
    """
    o, dtype, x_BHWD = self.options, jnp.dtype(self.options.dtype), images_BHWC
    _, height, width, _ = images_BHWC.shape
    self.grid((height, width))
    for i, (features, size, stride, padding, pooled) in enumerate(
      (
        (1, 11, 4, 2, True),
        (3, 5, 1, 2, True),
        (6, 3, 1, 1, False),
        (4, 3, 1, 1, False),
        (4, 3, 1, 1, True),
      ),
      1,
    ):
      x_BHWD = nn.relu(
        Conv(o.width * features, size, stride, padding, dtype, HE, bias=True, name=f'conv{i}')(
          x_BHWD
        )
      )
      if pooled:
        x_BHWD = nn.max_pool(x_BHWD, (3, 3), (2, 2))
    y = average_to(x_BHWD, 6)
    for name, rank in (('fc6', 3), ('fc7', 1)):
      y = nn.Dropout(o.dropout, deterministic=not train)(y)
      init = nn.initializers.variance_scaling(
        2.0, 'fan_in', 'normal', in_axis=tuple(range(rank)), out_axis=rank
      )
      y = nn.relu(Dense(64 * o.width, init, rank=rank, dtype=dtype, name=name)(y))
    return _output(
      x_BHWD, y.astype(jnp.float32), self.num_classes, dtype, nn.initializers.normal(0.01)
    )


def average_by_two(x_BHWD: Array) -> Array:
  """Means of 2x2; an odd row or column at the end is left out."""
  batch, height, width, channels = x_BHWD.shape
  rows, columns = height // 2, width // 2
  x_BHWD = x_BHWD[:, : 2 * rows, : 2 * columns]
  return jnp.mean(x_BHWD.reshape(batch, rows, 2, columns, 2, channels), (2, 4))


def average_to(x_BHWD: Array, size: int) -> Array:
  """Means over size x size bins of rows and columns, which overlap where they do not divide."""
  for axis in (1, 2):
    side = x_BHWD.shape[axis]
    bins = [(i * side // size, -(-(i + 1) * side // size)) for i in range(size)]
    x_BHWD = jnp.concatenate(
      [
        jnp.mean(jax.lax.slice_in_dim(x_BHWD, start, stop, axis=axis), axis, keepdims=True)
        for start, stop in bins
      ],
      axis,
    )
  return x_BHWD


def _output(x_BHWD: Array, features_BD: Array, num_classes: int, dtype: Any, init: Any) -> Output:
  """The last part of both; called inside their `__call__`, whose module gets the head."""
  logits_BK = None
  if num_classes:
    logits_BK = Dense(num_classes, init, dtype=dtype, out_dtype=jnp.float32, name='head')(
      features_BD
    )
  return Output(logits_BK, features_BD, x_BHWD.reshape(len(x_BHWD), -1, x_BHWD.shape[-1]))
