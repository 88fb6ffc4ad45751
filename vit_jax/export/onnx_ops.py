"""The operations of our models in ONNX, by the name of the JAX primitive."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vit_jax.errors import UserError
from vit_jax.export.onnx_graph import Convert, Graph, Value, known


def _shape(eqn: Any) -> tuple[Any, ...]:
  return tuple(eqn.outvars[0].aval.shape)


def _whole(graph: Graph, eqn: Any, values: Sequence[Value]) -> list[Value]:
  """The inputs at their own shapes."""
  pairs = zip(values, eqn.invars, strict=True)
  return [graph.full(value, var.aval.shape) for value, var in pairs]


def _joint(values: Sequence[Value]) -> tuple[Any, ...]:
  """The shape of several that are broadcast: sizes that are 1 in all stay so."""
  rank = max(len(value.shape) for value in values)
  shapes = [(1,) * (rank - len(value.shape)) + tuple(value.shape) for value in values]
  columns = zip(*shapes, strict=True)
  return tuple(next((size for size in column if size != 1), 1) for column in columns)


def _elementwise(kind: str) -> Convert:
  def convert(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
    return graph.apply(kind, _joint(values), *values)

  return convert


def _same(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  return values[0]


def _square(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  return graph.apply('Mul', values[0].shape, values[0], values[0])


def _rsqrt(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  root = graph.apply('Sqrt', values[0].shape, values[0])
  return graph.apply('Reciprocal', values[0].shape, root)


def _integer_pow(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  power = known(np.asarray(eqn.params['y'], eqn.invars[0].aval.dtype))
  return graph.apply('Pow', values[0].shape, values[0], power)


def _cast(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  old, new = eqn.invars[0].aval.dtype, np.dtype(eqn.params['new_dtype'])
  if old == new:
    return values[0]
  kind = graph.helper.np_dtype_to_tensor_dtype(new)
  return graph.apply('Cast', values[0].shape, values[0], to=kind)


def _reduce(kind: str) -> Convert:
  def convert(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
    (value,) = _whole(graph, eqn, values)
    axes = graph.ints(eqn.params['axes'])
    return graph.apply(kind, _shape(eqn), value, axes, keepdims=0)

  return convert


def _reshape(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  (value,) = _whole(graph, eqn, values)
  return graph.reshape(value, _shape(eqn))


def _broadcast(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  """Axes are put in place; what uses the value repeats it."""
  sizes: list[Any] = [1] * len(_shape(eqn))
  for axis, size in zip(eqn.params['broadcast_dimensions'], values[0].shape, strict=True):
    sizes[axis] = size
  return graph.reshape(values[0], sizes)


def _transpose(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  return graph.transpose(values[0], eqn.params['permutation'])


def _concatenate(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  return graph.apply(
    'Concat', _shape(eqn), *_whole(graph, eqn, values), axis=eqn.params['dimension']
  )


def _slice(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  (value,), params = _whole(graph, eqn, values), eqn.params
  strides = params['strides'] or (1,) * len(value.shape)
  cuts = [
    (start, stop, axis, stride)
    for axis, (start, stop, stride) in enumerate(
      zip(params['start_indices'], params['limit_indices'], strides, strict=True)
    )
    if (start, stop, stride) != (0, value.shape[axis], 1)
  ]
  columns = [graph.ints(column) for column in zip(*cuts, strict=True)]
  return graph.apply('Slice', _shape(eqn), value, *columns) if cuts else value


def _gather(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  """One block at a known place, as in `tokens_BND[:, 0]`."""
  value, index = graph.full(values[0], eqn.invars[0].aval.shape), values[1].ref
  numbers, sizes = eqn.params['dimension_numbers'], list(eqn.params['slice_sizes'])
  if not isinstance(index, np.ndarray) or index.ndim != 1 or numbers.operand_batching_dims:
    raise UserError('ONNX: a look-up in a table is not written; use StableHLO')
  starts = [int(start) for start in index]
  axes = list(numbers.start_index_map)
  stops = [start + sizes[axis] for start, axis in zip(starts, axes, strict=True)]
  columns = [graph.ints(column) for column in (starts, stops, axes)]
  return graph.reshape(graph.apply('Slice', sizes, value, *columns), _shape(eqn))


def _split(graph: Graph, eqn: Any, values: Sequence[Value]) -> list[Value]:
  (value,), params = _whole(graph, eqn, values), eqn.params
  names = graph.op(
    'Split',
    graph.name(value),
    graph.ints(params['sizes']),
    outputs=len(eqn.outvars),
    axis=params['axis'],
  )
  pairs = zip(names, eqn.outvars, strict=True)
  return [Value(name, tuple(var.aval.shape)) for name, var in pairs]


def _pad(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  value, fill = _whole(graph, eqn, values)
  low, high, inside = zip(*eqn.params['padding_config'], strict=True)
  if any(inside):
    raise UserError('ONNX: padding between places is not written; use StableHLO')
  return graph.apply('Pad', _shape(eqn), value, graph.ints([*low, *high]), fill)


def _dot(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  """As MatMul: axes of the batch first, then those that stay, those that are summed at the seam."""
  (left, right), ((l_sum, r_sum), (l_batch, r_batch)) = (
    _whole(graph, eqn, values),
    eqn.params['dimension_numbers'],
  )
  l_free = [axis for axis in range(len(left.shape)) if axis not in (*l_sum, *l_batch)]
  r_free = [axis for axis in range(len(right.shape)) if axis not in (*r_sum, *r_batch)]
  batch = [left.shape[axis] for axis in l_batch]
  summed = math.prod(left.shape[axis] for axis in l_sum)
  rows = [left.shape[axis] for axis in l_free]
  columns = [right.shape[axis] for axis in r_free]
  left = graph.transpose(left, [*l_batch, *l_free, *l_sum])
  right = graph.transpose(right, [*r_batch, *r_sum, *r_free])
  # Without a batch the rows need not be merged, and the size of ours may stay symbolic.
  kept = [math.prod(rows)] if batch else rows
  left = graph.reshape(left, [*batch, *kept, summed])
  right = graph.reshape(right, [*batch, summed, math.prod(columns)])
  out = graph.apply('MatMul', [*batch, *kept, math.prod(columns)], left, right)
  return graph.reshape(out, _shape(eqn))


def _conv(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  (image, kernel), params = _whole(graph, eqn, values), eqn.params
  numbers = params['dimension_numbers']
  if set(params['lhs_dilation']) != {1} or params['batch_group_count'] != 1:
    raise UserError('ONNX: a transposed convolution is not written; use StableHLO')
  image = graph.transpose(image, numbers.lhs_spec)
  kernel = graph.transpose(kernel, numbers.rhs_spec)
  low, high = zip(*params['padding'], strict=True)
  shape = [_shape(eqn)[axis] for axis in numbers.out_spec]
  out = graph.apply(
    'Conv',
    shape,
    image,
    kernel,
    strides=list(params['window_strides']),
    pads=[*low, *high],
    dilations=list(params['rhs_dilation']),
    group=params['feature_group_count'],
  )
  return graph.transpose(out, np.argsort(numbers.out_spec).tolist())


def _max_pool(graph: Graph, eqn: Any, values: Sequence[Value]) -> Value:
  """Of windows down and across (B, H, W, C)."""
  (image,), params = _whole(graph, eqn, values), eqn.params
  window, strides = params['window_dimensions'], params['window_strides']
  if (window[0], window[3]) != (1, 1) or set(params['window_dilation']) != {1}:
    raise UserError('ONNX: a maximum over channels or images is not written; use StableHLO')
  low, high = zip(*params['padding'][1:3], strict=True)
  out = graph.apply(
    'MaxPool',
    [_shape(eqn)[axis] for axis in (0, 3, 1, 2)],
    graph.transpose(image, (0, 3, 1, 2)),
    kernel_shape=list(window[1:3]),
    strides=list(strides[1:3]),
    pads=[*low, *high],
  )
  return graph.transpose(out, (0, 2, 3, 1))


OPS: dict[str, Convert] = {
  'add': _elementwise('Add'),
  'add_any': _elementwise('Add'),
  'broadcast_in_dim': _broadcast,
  'concatenate': _concatenate,
  'conv_general_dilated': _conv,
  'convert_element_type': _cast,
  'div': _elementwise('Div'),
  'dot_general': _dot,
  'erf': _elementwise('Erf'),
  'exp': _elementwise('Exp'),
  'expand_dims': _reshape,
  'gather': _gather,
  'integer_pow': _integer_pow,
  'logistic': _elementwise('Sigmoid'),
  'max': _elementwise('Max'),
  'min': _elementwise('Min'),
  'mul': _elementwise('Mul'),
  'name': _same,
  'neg': _elementwise('Neg'),
  'pad': _pad,
  'reduce_max': _reduce('ReduceMax'),
  'reduce_sum': _reduce('ReduceSum'),
  'reduce_window_max': _max_pool,
  'reshape': _reshape,
  'rsqrt': _rsqrt,
  'sharding_constraint': _same,
  'slice': _slice,
  'split': _split,
  'sqrt': _elementwise('Sqrt'),
  'square': _square,
  'squeeze': _reshape,
  'stop_gradient': _same,
  'sub': _elementwise('Sub'),
  'tanh': _elementwise('Tanh'),
  'transpose': _transpose,
}
