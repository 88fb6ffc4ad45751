"""Recurrent cells: GRU and LSTM as pure functions of one step, and a layer of them over time.

Gates are stored side by side: `input` kernels (D, G, H) and biases (G, H), `recurrent` (H, G, H)
and (G, H), G = 3 gates reset, update, new of a GRU; G = 4 gates input, forget, cell, output of an
LSTM. This is torch.nn.GRU's and torch.nn.LSTM's order.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models.dense import dot

Array = jax.Array
State = tuple[Array, ...]  # h_BH of a GRU; h_BH and c_BH of an LSTM
_ROWS = ((1,), (0,)), ((), ())
# For each gate on its own fan.
GLOROT = nn.initializers.variance_scaling(
  1.0, 'fan_avg', 'uniform', in_axis=0, out_axis=2, batch_axis=1
)


def gru(inputs_BGH: Array, state: State, kernel_HGH: Array, bias_GH: Array, reset: str) -> State:
  """One step of a gated recurrent unit (arXiv:1406.1078 equations 5 to 8).

  Args:
    inputs_BGH: the gates' products with the input, biases added.
    reset: 'before' the recurrent product, as in the paper: U (r h); or 'after' it, as in cuDNN
      and torch.nn.GRU: r (U h + b).
  """
  (h_BH,) = state
  if reset == 'after':
    inner_BGH = recur(h_BH, kernel_HGH, bias_GH)
    r_BH, z_BH = (nn.sigmoid(inputs_BGH[:, i] + inner_BGH[:, i]) for i in (0, 1))
    new_BH = jnp.tanh(inputs_BGH[:, 2] + r_BH * inner_BGH[:, 2])
  else:
    inner_BGH = recur(h_BH, kernel_HGH[:, :2], bias_GH[:2])
    r_BH, z_BH = (nn.sigmoid(inputs_BGH[:, i] + inner_BGH[:, i]) for i in (0, 1))
    inner_B1H = recur(r_BH * h_BH, kernel_HGH[:, 2:], bias_GH[2:])
    new_BH = jnp.tanh(inputs_BGH[:, 2] + inner_B1H[:, 0])
  return ((1 - z_BH) * new_BH + z_BH * h_BH,)


def lstm(inputs_BGH: Array, state: State, kernel_HGH: Array, bias_GH: Array, reset: str) -> State:
  """One step of a long short-term memory with a forget gate (Gers et al. 2000); no `reset`."""
  h_BH, c_BH = state
  gates_BGH = inputs_BGH + recur(h_BH, kernel_HGH, bias_GH)
  i_BH, f_BH, o_BH = (nn.sigmoid(gates_BGH[:, i]) for i in (0, 1, 3))
  c_BH = f_BH * c_BH + i_BH * jnp.tanh(gates_BGH[:, 2])
  return o_BH * jnp.tanh(c_BH), c_BH


CELLS: dict[str, tuple[Callable[..., State], int, int]] = {'gru': (gru, 3, 1), 'lstm': (lstm, 4, 2)}


def recur(h_BH: Array, kernel_HGH: Array, bias_GH: Array) -> Array:
  """(B, H) -> (B, G, H) float32."""
  return dot(h_BH.astype(kernel_HGH.dtype), kernel_HGH, _ROWS, jnp.float32, bias_GH)


class Cell(nn.Module):
  """The parameters of one layer in one direction, and its steps; states are float32.

  Attributes:
    kind: of `CELLS`.
    width: H.
  """

  kind: Literal['gru', 'lstm']
  width: int
  inputs: int
  reset: str
  dtype: Any

  def setup(self):
    self.function, gates, self.parts = CELLS[self.kind]
    shape, zeros = (gates, self.width), nn.initializers.zeros

    def orthogonal(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
      each = nn.initializers.orthogonal()
      keys = jax.random.split(key, gates)
      return jnp.stack([each(key, (shape[0], shape[2]), dtype) for key in keys], axis=1)

    self.input_kernel = self.param('input_kernel', GLOROT, (self.inputs, *shape), jnp.float32)
    self.input_bias = self.param('input_bias', zeros, shape, jnp.float32)
    self.recurrent_kernel = self.param(
      'recurrent_kernel', orthogonal, (self.width, *shape), jnp.float32
    )
    self.recurrent_bias = self.param('recurrent_bias', zeros, shape, jnp.float32)

  def project(self, x: Array, first: int = 0) -> Array:
    """Products of the gates with inputs (..., D), or with those of the kernel's rows from `first`.

    Those of several time steps at once are one matrix product. Returns (..., G, H) float32; without
    `first`, the biases are added.
    """
    rows = x.astype(self.dtype).reshape(-1, x.shape[-1])
    kernel = self.input_kernel[first : first + x.shape[-1]]
    y = dot(rows, kernel, _ROWS, jnp.float32, None if first else self.input_bias)
    return y.reshape(*x.shape[:-1], *y.shape[1:])

  def begin(self, batch: int) -> State:
    return (jnp.zeros((batch, self.width), jnp.float32),) * self.parts

  def step(self, inputs_BGH: Array, state: State) -> State:
    kernel_HGH = self.recurrent_kernel.astype(jnp.dtype(self.dtype))
    return self.function(inputs_BGH, state, kernel_HGH, self.recurrent_bias, self.reset)

  def over(self, x_BSD: Array, mask_BS: Array, reverse: bool = False) -> tuple[Array, State]:
    """(outputs (B, S, H), the last state); a padded step leaves the state as it was."""
    inputs_SBGH = jnp.moveaxis(self.project(x_BSD), 1, 0)

    def advance(state: State, xs: tuple[Array, Array]) -> tuple[State, Array]:
      inputs_BGH, mask_B = xs
      new = self.step(inputs_BGH, state)
      state = tuple(jnp.where(mask_B[:, None], a, b) for a, b in zip(new, state, strict=True))
      return state, state[0]

    last, outputs_SBH = jax.lax.scan(
      advance, self.begin(len(x_BSD)), (inputs_SBGH, mask_BS.T), reverse=reverse
    )
    return jnp.moveaxis(outputs_SBH, 0, 1), last
