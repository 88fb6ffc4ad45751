"""What parameters begin as, by family; `TransformerOptions.init` says which.

'xavier' is Google's (google-research/vision_transformer, big_vision): Xavier uniform kernels, and a
head of zeros. 'trunc_normal' is timm's (DeiT, DeiT III, CaiT, DINOv2): a deviation of 0.02 in every
linear layer, head and all; its patches and a ResNet's head are as PyTorch begins any layer.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models.options import TransformerOptions

Init = Callable[..., jax.Array]
STD = 0.02
# timm cuts off at +-2, which is 100 deviations of 0.02: a normal distribution.
NORMAL = nn.initializers.normal(STD)
XAVIER = nn.initializers.xavier_uniform()


def kernel(options: TransformerOptions, xavier: Init = XAVIER) -> Init:
  """Of a linear layer; `xavier` is what Google's code has there."""
  return NORMAL if options.init == 'trunc_normal' else xavier


def head(options: TransformerOptions) -> Init:
  """Of a classifier's kernel."""
  return kernel(options, nn.initializers.zeros)


def mlp_bias(options: TransformerOptions) -> Init:
  return nn.initializers.zeros if options.init == 'trunc_normal' else nn.initializers.normal(1e-6)


def normal(std: float) -> Init:
  """With deviation 0, zeros."""
  return nn.initializers.normal(std) if std else nn.initializers.zeros


def torch_uniform(fan_in: int) -> Init:
  """torch.nn.Linear and Conv2d, kernel and bias alike: uniform up to 1 / sqrt(fan_in)."""

  def init(key: jax.Array, shape: Sequence[int], dtype=jnp.float32) -> jax.Array:
    bound = 1 / math.sqrt(fan_in)
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init
