"""An ONNX graph under construction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vit_jax.errors import UserError

BATCH = 'batch'


class Value(NamedTuple):
  """An array of the program.

  Attributes:
    ref: its name in the graph, or the array itself if it is known.
    shape: that it has there, where sizes that only repeat values are still 1.
  """

  ref: str | np.ndarray
  shape: tuple[Any, ...]


Convert = Callable[['Graph', Any, Sequence[Value]], Sequence[Value] | Value]


@dataclass
class Graph:
  """The graph under construction; one axis of any array, the batch, may be symbolic."""

  helper: Any  # onnx.helper
  numpy_helper: Any  # onnx.numpy_helper
  nodes: list[Any]
  initializers: list[Any]
  batch: Value | None = None  # int64 (1,): the size of the batch

  def name(self, value: Value | np.ndarray) -> str:
    """The name of a value, which is stored if it is known."""
    ref = value.ref if isinstance(value, Value) else value
    if isinstance(ref, str):
      return ref
    name = f'w{len(self.initializers)}'
    self.initializers.append(self.numpy_helper.from_array(np.ascontiguousarray(ref), name))
    return name

  def ints(self, numbers: Sequence[int]) -> str:
    return self.name(np.array(numbers, np.int64))

  def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
    """Adds a node; returns the names of its outputs."""
    names = [f'v{len(self.nodes)}_{k}' for k in range(outputs)]
    self.nodes.append(self.helper.make_node(kind, list(inputs), names, **attributes))
    return names

  def apply(
    self, kind: str, shape: Sequence[Any], *inputs: Value | str, **attributes: Any
  ) -> Value:
    """A node with one output of this shape."""
    names = [item if isinstance(item, str) else self.name(item) for item in inputs]
    return Value(self.op(kind, *names, **attributes)[0], tuple(shape))

  def reshape(self, value: Value, shape: Sequence[Any]) -> Value:
    """At most one size may be symbolic."""
    if tuple(shape) == tuple(value.shape):
      return value
    if isinstance(value.ref, np.ndarray):
      return Value(value.ref.reshape([int(size) for size in shape]), tuple(shape))
    sizes = self.ints([size if isinstance(size, int) else -1 for size in shape])
    return self.apply('Reshape', shape, value, sizes)

  def transpose(self, value: Value, order: Sequence[int]) -> Value:
    order = [int(axis) for axis in order]
    if order == sorted(order):
      return value
    shape = [value.shape[axis] for axis in order]
    if isinstance(value.ref, np.ndarray):
      return Value(value.ref.transpose(order), tuple(shape))
    return self.apply('Transpose', shape, value, perm=order)

  def full(self, value: Value, shape: Sequence[Any]) -> Value:
    """With sizes that only repeat values written out."""
    if tuple(value.shape) == tuple(shape):
      return value
    if isinstance(value.ref, np.ndarray) and all(isinstance(size, int) for size in shape):
      return Value(np.broadcast_to(value.ref, shape), tuple(shape))
    return self.apply('Expand', shape, value, self.sizes(shape))

  def sizes(self, shape: Sequence[Any]) -> str:
    """A shape as a tensor."""
    parts = []
    for size in shape:
      if isinstance(size, int):
        parts.append(self.ints([size]))
      elif str(size) == BATCH and self.batch is not None:
        parts.append(self.name(self.batch))
      else:
        raise UserError(f'ONNX: a size of {size} is not written; only that of the batch may vary')
    return self.op('Concat', *parts, axis=0)[0]


def known(array: Any) -> Value:
  array = np.asarray(array)
  return Value(array, array.shape)
