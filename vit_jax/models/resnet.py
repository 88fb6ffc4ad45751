"""Residual networks: ResNet (He et al. 2016, arXiv:1512.03385) and BiT (arXiv:1912.11370)."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models import constraints
from vit_jax.models.classifier import Classifier
from vit_jax.models.initializers import torch_uniform
from vit_jax.models.norms import BatchNorm, Conv, GroupNorm
from vit_jax.models.options import BiTOptions, ResNetOptions, stride_of
from vit_jax.models.output import Output

Array = jax.Array
HE = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')  # arXiv:1502.01852


class Style(NamedTuple):
  """What differs between the published families and changes their results."""

  norm: Callable[..., nn.Module]  # makes a norm layer
  kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
  torch_head: bool = False  # a head that begins as PyTorch's layers do, else with zeros
  preactivation: bool = False  # norm and ReLU before each convolution (arXiv:1603.05027), not after
  # TensorFlow's 'SAME', which at stride 2 pads the end more than the start; else both sides alike.
  same_padding: bool = False
  standardized: tuple[float, float] | None = None  # see `norms.Conv`


# He et al. 2016 with the stride in the 3x3 convolution, as pytorch/vision has and begins it.
BATCH_NORM = Style(functools.partial(BatchNorm, 1e-5), HE, torch_head=True)
# google-research/big_transfer, bit_pytorch/models.py, with timm's epsilon (there 1e-10).
BIT = Style(functools.partial(GroupNorm, 1e-5), preactivation=True, standardized=(1e-8, 0.0))
# The stem of a hybrid: google-research/vision_transformer, vit_jax/models_resnet.py.
HYBRID = Style(functools.partial(GroupNorm, 1e-6), same_padding=True, standardized=(0.0, 1e-5))


class Part(nn.Module):
  """What stems and units share."""

  style: Style
  dtype: Any

  @nn.nowrap
  def conv(self, x_BHWC: Array, name: str, features: int, size: int, stride: int) -> Array:
    style = self.style
    padding = 'SAME' if style.same_padding else (size - 1) // 2
    settings = padding, self.dtype, style.kernel_init, style.standardized
    return Conv(features, size, stride, *settings, name=name)(x_BHWC)


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
    # BiT was published with zeros around the maximum; after a ReLU they change nothing.
    return nn.max_pool(jnp.pad(x_BHWD, [(0, 0), (1, 1), (1, 1), (0, 0)]), (3, 3), (2, 2))


class Unit(Part):
  """A residual unit: convolutions and a shortcut, which is projected where shapes differ.

  Attributes:
    plan: (features, kernel size) of each convolution.
    stride: of the first 3x3 convolution.
    zero_init: of the scale of the last norm.
  """

  plan: tuple[tuple[int, int], ...]
  stride: int
  zero_init: bool

  @nn.compact
  def __call__(self, x_BHWD: Array, train: bool, mask_B: Array | None) -> Array:
    strided = next(i for i, (_, size) in enumerate(self.plan) if size == 3)
    plan = [(*shape, self.stride if i == strided else 1) for i, shape in enumerate(self.plan)]
    width, last = plan[-1][0], len(plan)
    projection = width, 1, self.stride
    project = self.stride > 1 or x_BHWD.shape[-1] != width

    def norm(x_BHWD: Array, name: str, **options: Any) -> Array:
      return self.style.norm(**options, name=name)(x_BHWD, train, mask_B)

    shortcut = y = x_BHWD
    if self.style.preactivation:
      for i, shape in enumerate(plan, 1):
        y = nn.relu(norm(y, f'norm{i}'))
        if i == 1 and project:
          shortcut = self.conv(y, 'conv_proj', *projection)
        y = self.conv(y, f'conv{i}', *shape)
      return shortcut + y
    for i, shape in enumerate(plan[:-1], 1):
      y = nn.relu(norm(self.conv(y, f'conv{i}', *shape), f'norm{i}'))
    y = self.conv(y, f'conv{last}', *plan[-1])
    ones, zeros = nn.initializers.ones, nn.initializers.zeros
    y = norm(y, f'norm{last}', scale_init=zeros if self.zero_init else ones)
    if project:
      shortcut = norm(self.conv(shortcut, 'conv_proj', *projection), 'norm_proj')
    return nn.relu(shortcut + y)


class Stage(Part):
  """Units of one `plan`, the first with the stride."""

  plan: tuple[tuple[int, int], ...]
  stride: int
  units: int
  zero_init: bool

  @nn.compact
  def __call__(self, x_BHWD: Array, train: bool, mask_B: Array | None) -> Array:
    for j in range(1, self.units + 1):
      if not self.is_initializing():  # with a single example
        x_BHWD = constraints.over_batch(x_BHWD)
      stride = self.stride if j == 1 else 1
      unit = Unit(self.style, self.dtype, self.plan, stride, self.zero_init, name=f'unit{j}')
      x_BHWD = unit(x_BHWD, train, mask_B)
    return x_BHWD


class ResNet(Classifier):
  """A residual network.

  Parameters are float32. The tree: stem/{conv, norm}, stage{i}/unit{j}/{conv1, norm1, ...,
  conv_proj, norm_proj}, the final norm of a preactivation network, head. A BatchNorm has its
  running statistics in the collection 'batch_stats', under the same paths as {mean, var}. With
  gradient accumulation each micro-batch is normalized by its own statistics.
  """

  options: ResNetOptions
  style: Style = BATCH_NORM

  @nn.nowrap
  def grid(self, image_size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the final feature map of an image of (height, width) pixels."""
    stride = stride_of(self.options.stages)
    return -(-image_size[0] // stride), -(-image_size[1] // stride)

  @nn.compact
  def __call__(self, images_BHWC: Array, *, train: bool, mask_B: Array | None = None) -> Output:
    """One forward pass of normalized images.

    Args:
      train: a BatchNorm uses the batch's statistics.
      mask_B: which examples count in those; all if None.
    """
    o, dtype = self.options, jnp.dtype(self.options.dtype)
    x_BHWD = Stem(self.style, dtype, o.width, name='stem')(images_BHWC, train, mask_B)
    for i, units in enumerate(o.stages):
      width = o.width * 2**i
      basic, bottleneck = ((width, 3), (width, 3)), ((width, 1), (width, 3), (4 * width, 1))
      plan = basic if o.block == 'basic' else bottleneck
      shape = plan, 2 if i else 1, units, o.zero_init
      stage = Stage(self.style, dtype, *shape, name=f'stage{i + 1}')
      x_BHWD = stage(x_BHWD, train, mask_B)
    if self.style.preactivation:
      x_BHWD = nn.relu(self.style.norm(name='norm')(x_BHWD, train, mask_B))
    features_BD = jnp.mean(x_BHWD.astype(jnp.float32), (1, 2))
    init = bias_init = nn.initializers.zeros
    if self.style.torch_head:
      init = bias_init = torch_uniform(features_BD.shape[-1])
    if o.head_bias:
      bias_init = nn.initializers.constant(o.head_bias)
    return self.output(x_BHWD, features_BD, init, bias_init)


class BiT(ResNet):
  """A residual network of preactivation, with GroupNorm and weight standardization."""

  options: BiTOptions
  style: Style = BIT
