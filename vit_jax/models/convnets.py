"""The convolutional networks before residual ones: LeNet-5 and AlexNet."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.errors import UserError
from vit_jax.models.classifier import Classifier
from vit_jax.models.dense import Dense
from vit_jax.models.norms import Conv
from vit_jax.models.options import AlexNetOptions, LeNetOptions
from vit_jax.models.output import Output
from vit_jax.models.resnet import HE

Array = jax.Array
GLOROT = nn.initializers.xavier_uniform()


class LeNet5(Classifier):
  """LeNet-5 (LeCun et al. 1998, "Gradient-based learning applied to document recognition", II.B).

  As commonly taught: C3 sees all maps of S2, pooling has no weights, activations are tanh, the
  output is linear; 61,706 parameters for 10 classes of 32x32 gray images. Smaller images are padded
  with zeros to 32 pixels, as the digits were; for larger ones, the features of C5 are averaged. The
  tree: c1, c3, c5, f6, head, each {kernel, bias}.
  """

  options: LeNetOptions

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of C5 for an image of (height, width) pixels."""
    rows, columns = (((max(side, 32) - 4) // 2 - 4) // 2 - 4 for side in image_size)
    return rows, columns

  @nn.compact
  def __call__(self, images_BHWC: Array, *, train: bool) -> Output:
    """One forward pass of normalized images; `train` changes nothing."""
    dtype = jnp.dtype(self.options.dtype)
    short = [max(0, 32 - side) for side in images_BHWC.shape[1:3]]
    x_BHWD = jnp.pad(images_BHWC, [(0, 0), *((n // 2, n - n // 2) for n in short), (0, 0)])
    for name, features in (('c1', 6), ('c3', 16), ('c5', 120)):
      x_BHWD = nn.tanh(Conv(features, 5, 1, 0, dtype, GLOROT, bias=True, name=name)(x_BHWD))
      if name != 'c5':
        x_BHWD = average_by_two(x_BHWD)
    features_BD = jnp.mean(x_BHWD.astype(jnp.float32), (1, 2))
    dense = Dense(84, GLOROT, dtype=dtype, out_dtype=jnp.float32, name='f6')
    return self.output(x_BHWD, nn.tanh(dense(features_BD)), GLOROT)


# Of conv1 to conv5: features in widths, kernel size, stride, padding, and if pooling follows.
ALEXNET = (
  (1, 11, 4, 2, True),
  (3, 5, 1, 2, True),
  (6, 3, 1, 1, False),
  (4, 3, 1, 1, False),
  (4, 3, 1, 1, True),
)


class AlexNet(Classifier):
  """AlexNet with one tower and without response normalization, 61,100,840 parameters.

  Krizhevsky et al. 2012 ("ImageNet classification with deep convolutional neural networks") split
  it over two GPUs; this is the network of Krizhevsky 2014 (arXiv:1404.5997) as pytorch/vision
  publishes it. Its last feature map is averaged to 6x6, so that other image sizes fit. The tree:
  conv1 to conv5, fc6, fc7, head, each {kernel, bias}.
  """

  options: AlexNetOptions

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the last feature map; raises a UserError if the image is too small."""
    if min(image_size) < 63:
      raise UserError(
        f'images of {image_size[0]}x{image_size[1]} pixels are too small for AlexNet; 63x63 are not'
      )
    pooled = lambda side: (side - 1) // 2  # noqa: E731
    rows, columns = (pooled(pooled(pooled((side - 7) // 4 + 1))) for side in image_size)
    return rows, columns

  @nn.compact
  def __call__(self, images_BHWC: Array, *, train: bool) -> Output:
    """One forward pass of normalized images; dropout in training takes `rngs={'dropout': key}`."""
    o, dtype, x_BHWD = self.options, jnp.dtype(self.options.dtype), images_BHWC
    _, height, width, _ = images_BHWC.shape
    self.grid((height, width))
    for i, (features, size, stride, padding, pooled) in enumerate(ALEXNET, 1):
      features *= o.width
      conv = Conv(features, size, stride, padding, dtype, HE, bias=True, name=f'conv{i}')
      x_BHWD = nn.relu(conv(x_BHWD))
      if pooled:
        x_BHWD = nn.max_pool(x_BHWD, (3, 3), (2, 2))
    y = average_to(x_BHWD, 6)
    for name, rank in (('fc6', 3), ('fc7', 1)):
      y = nn.Dropout(o.dropout, deterministic=not train)(y)
      init = nn.initializers.variance_scaling(
        2.0, 'fan_in', 'normal', in_axis=tuple(range(rank)), out_axis=rank
      )
      y = nn.relu(Dense(64 * o.width, init, rank=rank, dtype=dtype, name=name)(y))
    return self.output(x_BHWD, y.astype(jnp.float32), nn.initializers.normal(0.01))


def average_by_two(x_BHWD: Array) -> Array:
  """Means of 2x2, without an odd row or column at the end."""
  batch, height, width, channels = x_BHWD.shape
  rows, columns = height // 2, width // 2
  x_BHWD = x_BHWD[:, : 2 * rows, : 2 * columns]
  return jnp.mean(x_BHWD.reshape(batch, rows, 2, columns, 2, channels), (2, 4))


def average_to(x_BHWD: Array, size: int) -> Array:
  """Means over size x size bins of rows and columns, which overlap if size does not divide them."""
  for axis in (1, 2):
    side = x_BHWD.shape[axis]
    bins = [(i * side // size, -(-(i + 1) * side // size)) for i in range(size)]
    parts = [jax.lax.slice_in_dim(x_BHWD, *ends, axis=axis) for ends in bins]
    x_BHWD = jnp.concatenate([jnp.mean(part, axis, keepdims=True) for part in parts], axis)
  return x_BHWD
