"""A model as an ONNX file: layers as a plain loop, what hangs on no image computed beforehand.

jax2onnx would do it, but 0.17.1 asks for an older orbax-checkpoint than checkpoints are written
with, and fails on stacked blocks. By way of torch there are models for some of ours alone.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.export import symbolic_shape
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from vit_jax.errors import UserError, writing
from vit_jax.export.onnx_graph import BATCH, Graph, Value, known
from vit_jax.export.onnx_ops import OPS

OPSET, IR = 18, 8  # read by onnxruntime 1.14 and later
INPUT = 'pixel_values'  # as transformers and its exporters call it
LARGEST = 1 << 30  # bytes of weights in the file itself; a protobuf ends at 2 GiB


def write(path: Path, model: Any, variables: Any, metadata: dict[str, Any]) -> None:
  """Writes a file that takes `pixel_values`, normalized float32 (batch, C, H, W).

  It gives `logits` (batch, K), or `features` (batch, D) of a model without a head. Beyond 1 GiB the
  weights are in FILE.data beside it.

  Args:
    metadata: stored as JSON, by key.

  Raises:
    UserError: the package onnx is missing, the model has an operation that is not written, or the
      file cannot be written.
  """
  try:
    import onnx  # here: it is in the extra `onnx`
  except ImportError:
    raise UserError(
      "ONNX files are written by the package onnx: pip install 'vit-jax[onnx]'"
    ) from None

  def forward(image_BCHW: jax.Array) -> jax.Array:
    output = model.apply(variables, jnp.transpose(image_BCHW, (0, 2, 3, 1)), train=False)
    return output.logits_BK if model.num_classes else output.features_BD

  (batch,), size = symbolic_shape(BATCH), model.inputs.size
  shape = (batch, len(model.inputs.mean), *size)
  traced = jax.make_jaxpr(forward)(jax.ShapeDtypeStruct(shape, jnp.float32))
  graph = Graph(onnx.helper, onnx.numpy_helper, [], [])
  image = Value(INPUT, shape)
  shape_of = graph.op('Shape', INPUT, start=0, end=1)[0]
  graph = Graph(onnx.helper, onnx.numpy_helper, graph.nodes, [], Value(shape_of, (1,)))
  (out,) = run(graph, traced.jaxpr, traced.consts, [image])
  (aval,) = traced.out_avals
  name = 'logits' if model.num_classes else 'features'
  graph.nodes.append(
    onnx.helper.make_node('Identity', [graph.name(graph.full(out, aval.shape))], [name])
  )

  def tensor(name: str, shape: Sequence[Any]) -> Any:
    sizes = [size if isinstance(size, int) else BATCH for size in shape]
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes)

  made = onnx.helper.make_graph(
    graph.nodes, 'vit_jax', [tensor(INPUT, shape)], [tensor(name, aval.shape)], graph.initializers
  )
  proto = onnx.helper.make_model(
    made,
    opset_imports=[onnx.helper.make_opsetid('', OPSET)],
    ir_version=IR,
    producer_name='vit_jax',
  )
  onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in metadata.items()})
  apart = sum(len(tensor.raw_data) for tensor in graph.initializers) > LARGEST
  with writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.with_name(f'{path.name}.data')
    data.unlink(missing_ok=True)  # it would be appended to
    onnx.save(proto, path, save_as_external_data=apart, location=data.name)
  onnx.checker.check_model(path, full_check=True)


def run(graph: Graph, jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
  """The values that a program gives for these inputs.

  Raises:
    UserError: it has an operation that is not written.
  """
  env: dict[Any, Value] = {}

  def read(atom: Any) -> Value:
    if isinstance(atom, Literal):
      return known(atom.val)
    return env[atom]

  env |= zip(jaxpr.constvars, map(known, consts), strict=True)
  env |= zip(jaxpr.invars, inputs, strict=True)
  for eqn in jaxpr.eqns:
    values, kind = [read(atom) for atom in eqn.invars], eqn.primitive.name
    inner = _inner(eqn.params)
    if kind == 'scan':
      out = _unrolled(graph, eqn, values)
    elif inner is not None:
      out = run(graph, inner.jaxpr, inner.consts, values)
    elif (folded := _folded(eqn, values)) is not None:
      out = folded
    elif kind in OPS:
      out = OPS[kind](graph, eqn, values)
    else:
      raise UserError(f'ONNX: the operation {kind!r} of this model is not written; use StableHLO')
    env |= zip(eqn.outvars, [out] if isinstance(out, Value) else out, strict=True)
  return [read(atom) for atom in jaxpr.outvars]


def _inner(params: dict[str, Any]) -> ClosedJaxpr | None:
  """The program that an equation calls."""
  for key in ('jaxpr', 'call_jaxpr', 'fun_jaxpr'):
    found = params.get(key)
    if isinstance(found, ClosedJaxpr):
      return found
    if isinstance(found, Jaxpr):
      return ClosedJaxpr(found, ())
  return None


def _folded(eqn: Any, values: Sequence[Value]) -> list[Value] | None:
  """The results of an equation that hangs on no input; None if it does."""
  sizes = [size for var in (*eqn.invars, *eqn.outvars) for size in var.aval.shape]
  if not all(isinstance(size, int) for size in sizes):
    return None
  if not all(isinstance(value.ref, np.ndarray) for value in values):
    return None
  whole = [
    np.broadcast_to(value.ref, var.aval.shape)
    for value, var in zip(values, eqn.invars, strict=True)
  ]
  out = eqn.primitive.bind(*map(jax.numpy.asarray, whole), **eqn.params)
  return [known(array) for array in (out if eqn.primitive.multiple_results else [out])]


def _as_inside(outer: Sequence[Any], inner: Sequence[Any]) -> int:
  """How many variables of a loop have the shape that its body sees."""
  return sum(a.aval.shape == b.aval.shape for a, b in zip(outer, inner, strict=True))


def _unrolled(graph: Graph, eqn: Any, values: Sequence[Value]) -> list[Value]:
  """A loop over layers, one after the other."""
  params, inner = eqn.params, eqn.params['jaxpr']
  # Versions of JAX name them differently; what is stacked has an axis more outside.
  carried = _as_inside(eqn.outvars, inner.jaxpr.outvars)
  consts = _as_inside(eqn.invars, inner.jaxpr.invars) - carried
  fixed, carry = list(values[:consts]), list(values[consts : consts + carried])
  stacked = values[consts + carried :]
  if len(eqn.outvars) > carried or params['reverse']:
    raise UserError('ONNX: a loop that collects values is not written; use StableHLO')
  if not all(isinstance(value.ref, np.ndarray) for value in stacked):
    raise UserError('ONNX: a loop over the batch is not written; use StableHLO')
  for layer in range(params['length']):
    rows = [known(np.asarray(value.ref)[layer]) for value in stacked]
    carry = run(graph, inner.jaxpr, inner.consts, [*fixed, *carry, *rows])
  return carry
