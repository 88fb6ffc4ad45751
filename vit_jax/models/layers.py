"""LayerNorm, GELU, SwiGLU and dropped examples: what is between the matrix products.

Each computes in float32 and returns the dtype it was given. The gradients are written by hand:
automatic ones save several float32 arrays per layer where one in the compute dtype is enough.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models import constraints

Array = jax.Array
LAYER_NORM_EPSILON = 1e-6


@jax.custom_vjp
def layer_norm(x: Array, scale_D: Array, bias_D: Array) -> Array:
  """LayerNorm over the last axis (arXiv:1607.06450), statistics in float32."""
  return _layer_norm_forward(x, scale_D, bias_D)[0]


def _layer_norm_forward(x, scale_D, bias_D):
  mean = jnp.mean(x.astype(jnp.float32), axis=-1, keepdims=True)
  centered = x.astype(jnp.float32) - mean
  variance = jnp.mean(jnp.square(centered), axis=-1, keepdims=True)
  rstd = jax.lax.rsqrt(variance + LAYER_NORM_EPSILON)
  shape = (1,) * (x.ndim - 1) + (-1,)
  y = centered * rstd * scale_D.reshape(shape) + bias_D.reshape(shape)
  return y.astype(x.dtype), (x, mean, rstd, scale_D)


def _layer_norm_backward(saved, dy):
  x, mean, rstd, scale_D = saved
  unit, dy_f = (x.astype(jnp.float32) - mean) * rstd, dy.astype(jnp.float32)
  dunit = dy_f * scale_D.reshape((1,) * (x.ndim - 1) + (-1,))
  means = jnp.mean(dunit, axis=-1, keepdims=True), jnp.mean(dunit * unit, axis=-1, keepdims=True)
  if constraints.platform() == 'gpu':
    # Means first: in one kernel with what follows, they leave whole arrays in float32.
    means = jax.lax.optimization_barrier(means)
  dx = rstd * (dunit - means[0] - unit * means[1])
  dx = dx.astype(dy.dtype)
  if constraints.platform() == 'gpu':
    x, mean, rstd, dy, dx = jax.lax.optimization_barrier((x, mean, rstd, dy, dx))
    unit, dy_f = (x.astype(jnp.float32) - mean) * rstd, dy.astype(jnp.float32)
  rows = tuple(range(x.ndim - 1))
  return dx, jnp.sum(dy_f * unit, axis=rows), jnp.sum(dy_f, axis=rows)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


class LayerNorm(nn.Module):
  """Parameters `scale` and `bias` (D,), float32."""

  @nn.compact
  def __call__(self, x: Array) -> Array:
    scale_D = self.param('scale', nn.initializers.ones, (x.shape[-1],), jnp.float32)
    bias_D = self.param('bias', nn.initializers.zeros, (x.shape[-1],), jnp.float32)
    return layer_norm(x, scale_D, bias_D)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def gelu(x: Array, exact: bool) -> Array:
  """GELU (arXiv:1606.08415), x times the normal distribution function or its tanh form."""
  return _gelu_and_slope(x, exact)[0]


def _gelu_and_slope(x, exact):
  x_f = x.astype(jnp.float32)
  if exact:
    cdf = 0.5 * (1 + jax.lax.erf(x_f * math.sqrt(0.5)))
    density = jnp.exp(-0.5 * jnp.square(x_f)) * math.sqrt(0.5 / math.pi)
  else:
    c, cubic = math.sqrt(2 / math.pi), 0.044715
    tanh = jnp.tanh(c * (x_f + cubic * x_f**3))
    cdf = 0.5 * (1 + tanh)
    density = 0.5 * (1 - tanh * tanh) * c * (1 + 3 * cubic * x_f * x_f)
  return (x_f * cdf).astype(x.dtype), (cdf + x_f * density).astype(x.dtype)


def _gelu_forward(x, exact):
  """Saves the slope on a CPU, where tanh is expensive; elsewhere x, which is in memory anyway."""
  y, slope = _gelu_and_slope(x, exact)
  return y, slope if constraints.platform() == 'cpu' else x


def _gelu_backward(exact, saved, dy):
  if constraints.platform() == 'cpu':
    return (dy * saved,)
  # Without the barrier the compiler would keep the tanh of the forward pass, in float32.
  return (dy * _gelu_and_slope(jax.lax.optimization_barrier(saved), exact)[1],)


gelu.defvjp(_gelu_forward, _gelu_backward)


@jax.custom_vjp
def swiglu(gate: Array, up: Array) -> Array:
  """silu(gate) times up (arXiv:2002.05202 equation 6)."""
  gate_f = gate.astype(jnp.float32)
  return (gate_f * jax.nn.sigmoid(gate_f) * up.astype(jnp.float32)).astype(gate.dtype)


def _swiglu_forward(gate, up):
  return swiglu(gate, up), (gate, up)


def _swiglu_backward(saved, dy):
  gate, up, dy_f = (x.astype(jnp.float32) for x in (*saved, dy))
  sigmoid = jax.nn.sigmoid(gate)
  dgate = dy_f * up * sigmoid * (1 + gate * (1 - sigmoid))
  return dgate.astype(dy.dtype), (dy_f * gate * sigmoid).astype(dy.dtype)


swiglu.defvjp(_swiglu_forward, _swiglu_backward)


class Dropout(nn.Module):
  """Dropout (Srivastava et al. 2014) of tokens (B, N, D).

  Attributes:
    tokens: how many there are if these are the first of them, which does not change what is drawn.
  """

  rate: float
  train: bool
  tokens: int | None = None

  @nn.compact
  def __call__(self, x_BND: Array) -> Array:
    if not self.train or not self.rate:
      return x_BND
    batch, tokens, width = x_BND.shape
    shape, keep = (batch, self.tokens or tokens, width), 1 - self.rate
    kept_BND = jax.random.bernoulli(self.make_rng('dropout'), keep, shape)[:, :tokens]
    # A function of its own, as `jnp.where` is, would have its operands saved by a loop over layers.
    return jax.lax.select(kept_BND, x_BND / keep, jnp.zeros_like(x_BND))


def drop_examples(key: Array, x: Array, rate: Array) -> Array:
  """Stochastic depth (arXiv:1603.09382): zero for whole examples, the others scaled up.

  Args:
    x: (B, ...), a residual branch.
    rate: probability in [0, 1) of dropping an example, float32 scalar.
  """
  keep = jax.random.bernoulli(key, 1 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
  return jnp.where(keep, x.astype(jnp.float32) / (1 - rate), 0.0).astype(x.dtype)
