"""Parameter path -> sharding, by the first rule that matches.

A path is the names down the tree joined by '/', as in 'encoder/blocks/mlp/up/kernel'. The same
rules serve the optimizer state and the averaged parameters, whose paths end like the
parameters' own.
"""

from __future__ import annotations

import math
import re
from typing import Any

import jax
from jax.sharding import Mesh as DeviceMesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vit_jax.errors import UserError
from vit_jax.trees import flatten, path_name

# Leading axis of everything under blocks/: the layers L.
RULES: tuple[tuple[str, P], ...] = (
    (r'blocks/attention/(qkv|query|kv)/kernel$',
     P(None, 'fsdp', None, 'tensor', None)),  # L D 3 A E
    (r'blocks/attention/(qkv|query|kv)/bias$', P(None, None, 'tensor', None)),  # L 3 A E
    (r'blocks/attention/out/kernel$', P(None, 'tensor', None, 'fsdp')),  # L A E D
    (r'blocks/mlp/(gate|up)/kernel$', P(None, 'fsdp', 'tensor')),  # L D F
    (r'blocks/mlp/(gate|up)/bias$', P(None, 'tensor')),  # L F
    (r'blocks/mlp/down/kernel$', P(None, 'tensor', 'fsdp')),  # L F D
    (r'map_head/attention/(query|kv)/kernel$', P('fsdp')),
    (r'map_head/attention/out/kernel$', P(None, None, 'fsdp')),  # A E D
    (r'map_head/mlp/up/kernel$', P('fsdp', 'tensor')),  # D F
    (r'map_head/mlp/down/kernel$', P('tensor', 'fsdp')),  # F D
    (r'embedding/kernel$', P(None, None, None, 'fsdp')),  # P P C D
    (r'pos_embedding$', P(None, None, 'fsdp')),  # 1 N D
    (r'(pre_logits|head|head_dist)/kernel$', P('fsdp', None)),  # D K
    (r'unit\d+/conv\w+/kernel$', P(None, None, None, 'fsdp')),  # H W C D
    (r'fc6/kernel$', P(None, None, None, 'fsdp')),  # H W C D
    (r'fc7/kernel$', P('fsdp', None)),  # D D
    (r'', P()),  # biases, LayerNorms, tokens, counters
)
LARGEST_REPLICATED = 1 << 20  # elements; above it a parameter must be sharded if fsdp or tensor is


def spec_for(name: str, shape: tuple[int, ...], mesh: DeviceMesh) -> P:
  """The spec of one leaf.

  Raises:
    UserError: a sharded axis does not divide, or a large leaf would be replicated silently.
  """
  spec = next(spec for pattern, spec in RULES if re.search(pattern, name))
  if not shape:
    return P()
  for size, axis in zip(shape, spec, strict=False):
    if axis is not None and size % mesh.shape[axis]:
      raise UserError(
          f'parameter {name} of shape {shape} cannot be sharded: {size} is not divisible by '
          f'the {mesh.shape[axis]} devices of mesh axis {axis!r}; change config.mesh.{axis}')
  if len(spec) > len(shape):
    raise UserError(f'parameter {name} of shape {shape} has fewer axes than its rule {spec}')
  model_ways = mesh.shape['fsdp'] * mesh.shape['tensor']
  if not any(spec) and model_ways > 1 and math.prod(shape) > LARGEST_REPLICATED:
    raise UserError(f'parameter {name} of shape {shape} is large and matches no sharding rule; '
                    'add one to vit_jax/parallel/rules.py')
  return spec


def shardings(tree: Any, mesh: DeviceMesh) -> Any:
  """A tree of NamedShardings for `tree` (of arrays or shapes)."""
  return jax.tree_util.tree_map_with_path(
      lambda path, leaf: NamedSharding(mesh, spec_for(path_name(path), leaf.shape, mesh)), tree)


def abstract(shapes: Any, mesh: DeviceMesh) -> Any:
  """The tree of `shapes` with their shardings: what programs are compiled and arrays made for."""
  return jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
      shapes, shardings(shapes, mesh))


def table(tree: Any, mesh: DeviceMesh) -> str:
  """One line a leaf: path, shape, spec. For people and for the golden test."""
  rows = [(name, 'x'.join(map(str, leaf.shape)) or 'scalar',
           str(spec_for(name, leaf.shape, mesh))) for name, leaf in flatten(tree).items()]
  widths = [max(len(row[i]) for row in rows) for i in range(2)]
  return '\n'.join(f'{name:{widths[0]}}  {shape:>{widths[1]}}  {spec}'
                   for name, shape, spec in rows)
