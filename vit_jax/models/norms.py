"""Convolution, BatchNorm and GroupNorm over images: what ResNets are made of.

Norms compute in float32 and return the dtype they were given.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models.options import GROUPS

Array = jax.Array
MOMENTUM = 0.9  # share of the running statistics that a step keeps


def standardize(kernel_HWCD: Array, inside: float, outside: float) -> Array:
  """Weight standardization (arXiv:1903.10520): mean 0 and deviation 1 over each filter.

  Published weights were trained with an epsilon `inside` the square root or `outside`; for small
  kernels they differ.
  """
  axes = (0, 1, 2)
  centered = kernel_HWCD - jnp.mean(kernel_HWCD, axes, keepdims=True)
  variance = jnp.mean(jnp.square(centered), axes, keepdims=True)
  return centered / (jnp.sqrt(variance + inside) + outside)


class Conv(nn.Module):
  """A convolution; `kernel` (size, size, C, D) and `bias` (D,) float32, products in `dtype`."""

  features: int
  size: int
  stride: int
  padding: int | Literal['SAME']  # pixels on every side; 'SAME' puts an odd one at the end
  dtype: Any
  kernel_init: Callable[..., Array]
  standardized: tuple[float, float] | None = None  # (inside, outside) of `standardize`
  bias: bool = False

  @nn.compact
  def __call__(self, x_BHWC: Array) -> Array:
    shape = (self.size, self.size, x_BHWC.shape[-1], self.features)
    kernel_HWCD = self.param('kernel', self.kernel_init, shape, jnp.float32)
    if self.standardized:
      kernel_HWCD = standardize(kernel_HWCD, *self.standardized)
    padding = self.padding if isinstance(self.padding, str) else [(self.padding, self.padding)] * 2
    y_BHWD = jax.lax.conv_general_dilated(
      x_BHWC.astype(self.dtype),
      kernel_HWCD.astype(self.dtype),
      (self.stride, self.stride),
      padding,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    if self.bias:
      bias_D = self.param('bias', nn.initializers.zeros, (self.features,), jnp.float32)
      y_BHWD += bias_D.astype(y_BHWD.dtype)[None, None, None]
    return y_BHWD


class _Affine(nn.Module):
  """Parameters `scale` and `bias` (D,), float32, and (x - mean) * rstd * scale + bias."""

  epsilon: float
  scale_init: Callable[..., Array] = nn.initializers.ones

  @nn.nowrap
  def _normalize(self, x_BHWD: Array, mean: Array, variance: Array) -> Array:
    """`mean` and `variance` broadcast against (B, H, W, D)."""
    width = x_BHWD.shape[-1]
    scale_D = self.param('scale', self.scale_init, (width,), jnp.float32)
    bias_D = self.param('bias', nn.initializers.zeros, (width,), jnp.float32)
    factor = jax.lax.rsqrt(variance + self.epsilon) * scale_D[None, None, None]
    y_BHWD = (x_BHWD.astype(jnp.float32) - mean) * factor + bias_D[None, None, None]
    return y_BHWD.astype(x_BHWD.dtype)


class BatchNorm(_Affine):
  """Batch normalization (arXiv:1502.03167).

  Training uses the statistics of the whole batch, over all devices of a mesh, and updates the
  running `mean` and `var` (D,) of the collection 'batch_stats', if that is mutable; evaluation uses
  those. The running variance is unbiased, as in the paper's algorithm 2.
  """

  @nn.compact
  def __call__(self, x_BHWD: Array, train: bool, mask_B: Array | None = None) -> Array:
    """`mask_B` selects the examples that count; all do if it is None."""
    width = x_BHWD.shape[-1]
    mean_D = self.variable('batch_stats', 'mean', jnp.zeros, (width,), jnp.float32)
    var_D = self.variable('batch_stats', 'var', jnp.ones, (width,), jnp.float32)
    mean, variance = mean_D.value, var_D.value
    if train:
      mean, variance, count = _moments(x_BHWD, mean, mask_B)
      if self.is_mutable_collection('batch_stats') and not self.is_initializing():
        keep = jnp.where(count > 1, MOMENTUM, 1.0)
        unbiased = variance * count / jnp.maximum(count - 1, 1.0)
        mean_D.value = keep * mean_D.value + (1 - keep) * mean
        var_D.value = keep * var_D.value + (1 - keep) * unbiased
    return self._normalize(x_BHWD, mean[None, None, None], variance[None, None, None])


def _moments(x_BHWD: Array, shift_D: Array, mask_B: Array | None) -> tuple[Array, Array, Array]:
  """(mean_D, variance_D, how many values each is over).

  Both sums are one pass over the array and one message on the mesh. They are taken about the
  running mean, because plain sums of squares would lose digits.
  """
  centered = x_BHWD.astype(jnp.float32) - shift_D[None, None, None]
  examples: Any = x_BHWD.shape[0]
  if mask_B is not None:
    centered = jnp.where(mask_B[:, None, None, None], centered, 0.0)
    examples = jnp.sum(mask_B.astype(jnp.float32))
  count = jnp.asarray(examples * x_BHWD.shape[1] * x_BHWD.shape[2], jnp.float32)
  first_D = jnp.sum(centered, (0, 1, 2)) / jnp.maximum(count, 1.0)
  second_D = jnp.sum(jnp.square(centered), (0, 1, 2)) / jnp.maximum(count, 1.0)
  return shift_D + first_D, jnp.maximum(second_D - jnp.square(first_D), 0.0), count


class GroupNorm(_Affine):
  """Group normalization (arXiv:1803.08494) over each example and 32 groups of channels."""

  groups: int = GROUPS

  @nn.compact
  def __call__(self, x_BHWD: Array, train: bool, mask_B: Array | None = None) -> Array:
    """`train` and `mask_B` are for a BatchNorm in its place."""
    batch, height, width, channels = x_BHWD.shape
    x = x_BHWD.astype(jnp.float32).reshape(batch, height, width, self.groups, -1)
    mean = jnp.mean(x, (1, 2, 4), keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), (1, 2, 4), keepdims=True)
    mean_B11D, variance_B11D = (
      jnp.repeat(moment.reshape(batch, 1, 1, self.groups), channels // self.groups, axis=-1)
      for moment in (mean, variance)
    )
    return self._normalize(x_BHWD, mean_B11D, variance_B11D)
