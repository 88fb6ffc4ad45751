"""Matrix multiplication: one affine map, whose dots take what the platform multiplies best.

On a CPU tokens are flattened to rows before each dot, forward and backward: with (B, N, D)
activations, XLA there runs the weight gradient in bfloat16 as naive loops, ten times slower.
Elsewhere batch and tokens stay apart: N is rarely a multiple of a TPU's tiles, so that merging them
would copy the activations.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from vit_jax.models import constraints

Array = jax.Array
DotDims = tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]]


def dot(a: Array, b: Array, dims: DotDims, out_dtype: Any, bias: Array | None = None) -> Array:
  """`jax.lax.dot_general` in the dtype of `a`, accumulated in float32, plus a bias if given.

  An accelerator multiplies 16-bit operands in its matrix units, and so does a CPU that has them.
  Other CPUs multiply them in float32, with weights as stored: XLA emulates 16 bits slowly.
  """
  if constraints.platform() != 'cpu':
    y = _product(a, b.astype(a.dtype), dims, out_dtype)
  elif a.dtype == jnp.bfloat16 and constraints.cpu_multiplies_bfloat16():
    y = _cpu_product(a, b.astype(a.dtype), dims)
  else:
    y = _product(a.astype(jnp.float32), b.astype(jnp.float32), dims, jnp.float32)
  if bias is not None:
    y += bias.astype(y.dtype).reshape((1,) * (y.ndim - bias.ndim) + bias.shape)
  return y.astype(out_dtype)


def _product(a: Array, b: Array, dims: DotDims, out_dtype: Any) -> Array:
  return jax.lax.dot_general(a, b, dims, preferred_element_type=out_dtype)


def _cpu_product(a: Array, b: Array, dims: DotDims) -> Array:
  """The product in float32 of 16-bit operands, which are put in the order of `a_BMK` and `b_BKN`.

  XLA's library for CPUs takes them in this order only. Of others, such as a weight gradient's, XLA
  makes loops in float32, or a program that fails when it runs.
  """
  (sum_a, sum_b), (batch_a, batch_b) = [[tuple(axes) for axes in pair] for pair in dims]
  rows = [axis for axis in range(a.ndim) if axis not in sum_a + batch_a]
  columns = [axis for axis in range(b.ndim) if axis not in sum_b + batch_b]
  shape = [a.shape[axis] for axis in (*batch_a, *rows)] + [b.shape[axis] for axis in columns]
  batch, summed = [math.prod(a.shape[axis] for axis in axes) for axes in (batch_a, sum_a)]
  a_BMK = constraints.ordered(a, (*batch_a, *rows, *sum_a)).reshape(batch, -1, summed)
  b_BKN = constraints.ordered(b, (*batch_b, *sum_b, *columns)).reshape(batch, summed, -1)
  y_BMN = _product(a_BMK, b_BKN, (((2,), (1,)), ((0,), (0,))), jnp.float32)
  return y_BMN.reshape(shape)


def affine(x: Array, kernel: Array, bias: Array, *, rank: int = 1, out_dtype: Any = None) -> Array:
  """x @ kernel + bias over the last `rank` axes of `x` and the first `rank` of `kernel`.

  Args:
    x: (..., in...) in the compute dtype, which the kernel is cast to.
    kernel: (in..., out...) float32.
    bias: (out...) float32.
    out_dtype: of the result (..., out...); the compute dtype if None.
  """
  batch, inner = x.shape[: x.ndim - rank], x.shape[x.ndim - rank :]
  # Rows merged of batch and tokens could not be split along both axes of a mesh.
  merged = constraints.platform() != 'tpu' and constraints.sequence_ways() == 1
  rows = (math.prod(batch),) if merged else batch
  wait = constraints.gathers_wait(math.prod(batch), min(math.prod(inner), bias.size))
  out = bias.shape
  if constraints.platform() == 'gpu' and constraints.tensor_ways() == 1:
    # A product adds its bias if that is a vector.
    kernel, bias = kernel.reshape(*kernel.shape[:rank], -1), bias.reshape(-1)
  y: Any = _affine(x.reshape(*rows, *inner), kernel, bias, rank, out_dtype or x.dtype, wait)
  return y.reshape(*batch, *out)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _affine(
  x_MI: Array, kernel_IO: Array, bias_O: Array, rank: int, out_dtype: Any, wait: bool
) -> Array:
  """M, I and O are any number of axes, I `rank` of them."""
  inner = range(x_MI.ndim - rank, x_MI.ndim), range(rank)
  return dot(x_MI, kernel_IO, (inner, ((), ())), out_dtype, bias_O)


def _affine_forward(x_MI, kernel_IO, bias_O, *static):
  return _affine(x_MI, kernel_IO, bias_O, *static), (x_MI, kernel_IO)


def _affine_backward(rank, out_dtype, wait, saved, dy_MO):
  x_MI, kernel_IO = saved
  rows = range(x_MI.ndim - rank)
  dbias_O = jnp.sum(dy_MO.astype(jnp.float32), axis=rows)
  dy_MO = dy_MO.astype(x_MI.dtype)
  outer = range(len(rows), dy_MO.ndim), range(rank, kernel_IO.ndim)
  pair = constraints.due(dy_MO, kernel_IO) if wait else (dy_MO, kernel_IO)
  dx_MI = dot(*pair, (outer, ((), ())), x_MI.dtype)
  dkernel_IO = dot(x_MI, dy_MO, ((rows, rows), ((), ())), kernel_IO.dtype)
  return dx_MI, dkernel_IO, dbias_O


_affine.defvjp(_affine_forward, _affine_backward)


class Dense(nn.Module):
  """An affine map of the last `rank` axes to `features`; parameters float32.

  `save_as` names the result for the remat policies of `blocks.REMAT`.
  """

  features: int | Sequence[int]
  kernel_init: Callable[..., Array]
  bias_init: Callable[..., Array] = nn.initializers.zeros
  rank: int = 1
  dtype: Any = jnp.float32
  out_dtype: Any = None
  save_as: str = 'dense'

  @nn.compact
  def __call__(self, x: Array) -> Array:
    out = (self.features,) if isinstance(self.features, int) else tuple(self.features)
    inner = x.shape[x.ndim - self.rank :]
    kernel = self.param('kernel', self.kernel_init, (*inner, *out), jnp.float32)
    bias = self.param('bias', self.bias_init, out, jnp.float32)
    y = affine(x.astype(self.dtype), kernel, bias, rank=self.rank, out_dtype=self.out_dtype)
    return checkpoint_name(y, self.save_as)
