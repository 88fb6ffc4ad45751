"""Residual networks: ResNet (He et al. 2016, arXiv:1512.03385) and BiT (arXiv:1912.11370)."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models import constraints
from vit_jax.models.dense import Dense
from vit_jax.models.norms import BatchNorm, Conv, GroupNorm
from vit_jax.models.options import BiTOptions, Inputs, ResNetOptions, stride_of
from vit_jax.models.output import Output

Array = jax.Array
HE = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')  # arXiv:1502.01852


class Style(NamedTuple):
  """What differs between the published families and changes their results.

  Attributes:
    norm: makes a norm layer.
    preactivation: norm and ReLU before each convolution (arXiv:1603.05027), not after it.
    same_padding: TensorFlow's 'SAME', which at stride 2 pads the end more than the start; else the
      same on all sides.
    standardized: see `norms.Conv`.
    head_init: of the kernel of the head.
  """

  norm: Callable[..., nn.Module]
  preactivation: bool
  same_padding: bool
  standardized: tuple[float, float] | None
  kernel_init: Callable[..., Array]
  head_init: Callable[..., Array]


# He et al. 2016 with the stride in the 3x3 convolution and a start at the identity
# (arXiv:1706.02677 section 5.1), as pytorch/vision and timm have it.
BATCH_NORM = Style(
  functools.partial(BatchNorm, 1e-5), False, False, None, HE, nn.initializers.normal(0.01)
)
# google-research/big_transfer, bit_pytorch/models.py, with timm's epsilon (there 1e-10).
BIT = Style(
  functools.partial(GroupNorm, 1e-5),
  True,
  False,
  (1e-8, 0.0),
  nn.initializers.lecun_normal(),
  nn.initializers.zeros,
)
# The stem of a hybrid: google-research/vision_transformer, vit_jax/models_resnet.py.
HYBRID = Style(
  functools.partial(GroupNorm, 1e-6),
  False,
  True,
  (0.0, 1e-5),
  nn.initializers.lecun_normal(),
  nn.initializers.zeros,
)


class Part(nn.Module):
  """What stems and units share."""

  style: Style
  dtype: Any

  @nn.nowrap
  def conv(self, x_BHWC: Array, name: str, features: int, size: int, stride: int) -> Array:
    padding = 'SAME' if self.style.same_padding else (size - 1) // 2
    return Conv(
      features,
      size,
      stride,
      padding,
      self.dtype,
      self.style.kernel_init,
      self.style.standardized,
      name=name,
    )(x_BHWC)


class Stem(Part):
  """A 7x7 convolution and a 3x3 pooling, each of stride 2."""

  width: int

  @nn.compact
  def __call__(self, images_BHWC: Array, train: bool, mask_B: Array | None) -> Array:
    x_BHWD = self.conv(images_BHWC, 'conv', self.width, 7, 2)
    if not self.style.preactivation:
      x_BHWD = nn.relu(self.style.norm(name='norm')(x_BHWD, train, mask_B))
    if self.style.same_padding:
      return nn.max_pool(x_BHWD, (3, 3), (2, 2), 'SAME')
    # BiT was published with a border of zeros in the maximum; after a ReLU it changes nothing.
    return nn.max_pool(jnp.pad(x_BHWD, [(0, 0), (1, 1), (1, 1), (0, 0)]), (3, 3), (2, 2))


class Unit(Part):
  """A residual unit: convolutions and a shortcut, which is projected where shapes differ.

  Attributes:
    plan: (features, kernel size, stride) of each convolution.
  """

  plan: tuple[tuple[int, int, int], ...]

  @nn.compact
  def __call__(self, x_BHWD: Array, train: bool, mask_B: Array | None) -> Array:
    stride = math.prod(shape[2] for shape in self.plan)
    projection = self.plan[-1][0], 1, stride
    project = stride > 1 or x_BHWD.shape[-1] != self.plan[-1][0]

    def norm(x_BHWD: Array, name: str, **options: Any) -> Array:
      return self.style.norm(**options, name=name)(x_BHWD, train, mask_B)

    shortcut = y = x_BHWD
    if self.style.preactivation:
      for i, shape in enumerate(self.plan, 1):
        y = nn.relu(norm(y, f'norm{i}'))
        if i == 1 and project:
          shortcut = self.conv(y, 'conv_proj', *projection)
        y = self.conv(y, f'conv{i}', *shape)
      return shortcut + y
    for i, shape in enumerate(self.plan[:-1], 1):
      y = nn.relu(norm(self.conv(y, f'conv{i}', *shape), f'norm{i}'))
    last = len(self.plan)
    y = norm(
      self.conv(y, f'conv{last}', *self.plan[-1]), f'norm{last}', scale_init=nn.initializers.zeros
    )
    if project:
      shortcut = norm(self.conv(shortcut, 'conv_proj', *projection), 'norm_proj')
    return nn.relu(shortcut + y)


class Stage(Part):
  """Units of equal width, the first with the stride; `plan` is that of one of stride 1."""

  units: int
  stride: int
  plan: tuple[tuple[int, int], ...]

  @nn.compact
  def __call__(self, x_BHWD: Array, train: bool, mask_B: Array | None) -> Array:
    for j in range(1, self.units + 1):
      if not self.is_initializing():  # with a single example
        x_BHWD = constraints.over_batch(x_BHWD)
      # The stride is in the first 3x3 convolution.
      strided = next(i for i, (_, size) in enumerate(self.plan) if size == 3)
      plan = tuple(
        (features, size, self.stride if j == 1 and i == strided else 1)
        for i, (features, size) in enumerate(self.plan)
      )
      x_BHWD = Unit(self.style, self.dtype, plan, name=f'unit{j}')(x_BHWD, train, mask_B)
    return x_BHWD


class ResNet(nn.Module):
  """A residual network.

  Parameters are float32. The tree: stem/{conv, norm}, stage{i}/unit{j}/{conv1, norm1, ...,
  conv_proj, norm_proj}, the final norm of a preactivation network, head. A BatchNorm has its
  running statistics in the collection 'batch_stats', under the same paths as {mean, var}. With
  gradient accumulation each micro-batch is normalized by its own statistics.

  Attributes:
    num_classes: 0 is without a head.
    inputs: the images that the weights expect.
    style: one of `BATCH_NORM`, `BIT` and `HYBRID`.
  """

  num_classes: int
  options: ResNetOptions
  inputs: Inputs = Inputs()
  style: Style = BATCH_NORM

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the final feature map of an image of (height, width) pixels."""
    stride = stride_of(self.options.stages)
    return -(-image_size[0] // stride), -(-image_size[1] // stride)

  @nn.compact
  def __call__(self, images_BHWC: Array, *, train: bool, mask_B: Array | None = None) -> Output:
    """One forward pass.

    Args:
      images_BHWC: normalized floats.
      train: normalizes by the batch's statistics, where there is a BatchNorm.
      mask_B: which examples count in those; all if None.
    """
    o, dtype = self.options, jnp.dtype(self.options.dtype)
    x_BHWD = Stem(self.style, dtype, o.width, name='stem')(images_BHWC, train, mask_B)
    for i, units in enumerate(o.stages):
      width = o.width * 2**i
      plan = (
        ((width, 3), (width, 3)) if o.block == 'basic' else ((width, 1), (width, 3), (4 * width, 1))
      )
      x_BHWD = Stage(self.style, dtype, units, 2 if i else 1, plan, name=f'stage{i + 1}')(
        x_BHWD, train, mask_B
      )
    if self.style.preactivation:
      x_BHWD = nn.relu(self.style.norm(name='norm')(x_BHWD, train, mask_B))
    features_BD = jnp.mean(x_BHWD.astype(jnp.float32), (1, 2))
    logits_BK = None
    if self.num_classes:
      logits_BK = Dense(
        self.num_classes,
        kernel_init=self.style.head_init,
        dtype=dtype,
        out_dtype=jnp.float32,
        name='head',
      )(features_BD)
    tokens_BND = x_BHWD.reshape(x_BHWD.shape[0], -1, x_BHWD.shape[-1])
    return Output(logits_BK, features_BD, tokens_BND)


class BiT(ResNet):
  """A residual network of preactivation, with GroupNorm and weight standardization."""

  options: BiTOptions
  style: Style = BIT
