"""What a model costs, counted from shapes: parameters, and multiply-accumulates.

Nothing is allocated or compiled.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from vit_jax.models import example, variable_shapes

# How a forward pass is executed, where a model has a choice: every product visible.
TRACED = {'remat': 'none', 'attention': 'xla'}


def count_parameters(model: Any, shape: tuple[int, ...]) -> int:
  """Parameters of `model` for an example of a shape as `models.example` takes it."""
  variables = variable_shapes(_traceable(model), shape)
  return sum(leaf.size for leaf in jax.tree.leaves(variables['params']))


def forward_macs(model: Any, shape: tuple[int, ...], train: bool = False) -> int:
  """Multiply-accumulates of the forward pass for one image (H, W, C) or pair (S, T).

  Counts the matrix products and convolutions in the model's jaxpr. A training step is three forward
  passes, and a multiply-accumulate two FLOP. With `train`, what training leaves out does not count:
  patches that patch dropout removes, and tokens of the last layer that no head reads.
  """
  return jaxpr_macs(trace(model, shape, train))


def trace(model: Any, shape: tuple[int, ...], train: bool = False) -> Jaxpr:
  """The forward pass for one example."""
  model = _traceable(model)

  def forward(variables, inputs):
    rngs = {'dropout': jax.random.key(0)}
    return model.apply(variables, inputs, train=train, mutable=['batch_stats'], rngs=rngs)

  return jax.make_jaxpr(forward)(variable_shapes(model, shape), example(shape)).jaxpr


def jaxpr_macs(jaxpr: Jaxpr) -> int:
  """Multiply-accumulates of a jaxpr and of the functions it calls.

  A scan counts as often as it runs, and a condition as its most expensive branch.

  Raises:
    ValueError: products in a loop whose length is not known.
  """
  return _add_up(jaxpr, {'dot_general': _products_of, 'conv_general_dilated': _taps_of})


def padding_macs(jaxpr: Jaxpr) -> int:
  """Those of `jaxpr_macs` that multiply the padding of a convolution.

  XLA's own cost analysis, from which Google's papers take their FLOPs, leaves them out.
  """
  return _add_up(jaxpr, {'conv_general_dilated': _padding_of})


def _add_up(jaxpr: Jaxpr, counts: Mapping[str, Callable[[Any], int]]) -> int:
  """The sum over all primitives that run of the function in `counts` with its name."""
  total = 0
  for eqn in jaxpr.eqns:
    name = eqn.primitive.name
    if name in counts:
      total += counts[name](eqn)
      continue
    inner = [_add_up(called, counts) for called in _called(eqn)]
    if name == 'while' and sum(inner):
      raise ValueError('a loop of unknown length holds matrix products; use a scan')
    if name == 'cond':
      total += max(inner)
    else:
      total += sum(inner) * (eqn.params['length'] if name == 'scan' else 1)
  return total


def _products_of(eqn: Any) -> int:
  (contracted, _), _ = eqn.params['dimension_numbers']
  inner = math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
  return math.prod(eqn.outvars[0].aval.shape) * inner


def _taps_of(eqn: Any) -> int:
  kernel = eqn.invars[1].aval.shape  # with groups, it has the input channels of one
  inner = math.prod(kernel) // kernel[eqn.params['dimension_numbers'].rhs_spec[0]]
  return math.prod(eqn.outvars[0].aval.shape) * inner


def _padding_of(eqn: Any) -> int:
  """Those of one convolution, which has no dilation."""
  image, kernel, out = (var.aval.shape for var in (*eqn.invars[:2], *eqn.outvars))
  axes = eqn.params['dimension_numbers']
  every = inside = math.prod(out) * kernel[axes.rhs_spec[1]]
  strides, padding = eqn.params['window_strides'], eqn.params['padding']
  for i, (stride, (low, _)) in enumerate(zip(strides, padding, strict=True), 2):
    size, taps, places = image[axes.lhs_spec[i]], kernel[axes.rhs_spec[i]], out[axes.out_spec[i]]
    hits = sum(
      low <= place * stride + tap < low + size for place in range(places) for tap in range(taps)
    )
    every, inside = every * taps, inside // places * hits
  return every - inside


def convolutions(jaxpr: Jaxpr) -> tuple[int, int]:
  """(numbers that come out, weights) of all convolutions that run."""
  outputs = _add_up(jaxpr, {'conv_general_dilated': lambda eqn: eqn.outvars[0].aval.size})
  return outputs, _add_up(jaxpr, {'conv_general_dilated': lambda eqn: eqn.invars[1].aval.size})


def _called(eqn: Any) -> list[Jaxpr]:
  def is_jaxpr(leaf: Any) -> bool:
    return isinstance(leaf, ClosedJaxpr | Jaxpr)

  leaves = jax.tree.leaves(list(eqn.params.values()), is_leaf=is_jaxpr)
  return [getattr(leaf, 'jaxpr', leaf) for leaf in leaves if is_jaxpr(leaf)]


def _traceable(model: Any) -> Any:
  """The model, executed as it traces best."""
  fields = {field.name for field in dataclasses.fields(model.options)}
  traced = {name: TRACED[name] for name in TRACED.keys() & fields}
  return model.clone(options=dataclasses.replace(model.options, **traced))
