"""Parameter path -> sharding: the first rule that matches, or the nearest that divides.

A path is the names down the tree joined by '/', as in 'encoder/blocks/mlp/up/kernel'. Paths in the
optimizer state and the averaged parameters end alike, so the same rules apply. docs/sharding.md
explains them with a drawing.
"""

import math
import re
from collections import Counter
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh as DeviceMesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vit_jax.errors import UserError
from vit_jax.tables import as_text
from vit_jax.trees import flatten, path_name

# 'fsdp' marks the axis it prefers; if it does not divide that, `place` takes another one.
RULES: tuple[tuple[str, P], ...] = (
  (r'(^|/)v(_row|_col)?/', P()),  # Adafactor's second moments, which lack an axis of the parameter
  (
    r'blocks/(attention|cross)/(qkv|query|kv)/kernel$',
    P(None, 'fsdp', None, 'tensor', None),
  ),  # L D 3 A E
  (r'blocks/(attention|cross)/(qkv|query|kv)/bias$', P(None, None, 'tensor')),  # L 3 AE
  (r'blocks/(attention|cross)/out/kernel$', P(None, 'tensor', None, 'fsdp')),  # L A E D
  (r'blocks/mlp/(gate|up)/kernel$', P(None, 'fsdp', 'tensor')),  # L D F
  (r'blocks/mlp/(gate|up)/bias$', P(None, 'tensor')),  # L F
  (r'blocks/mlp/down/kernel$', P(None, 'tensor', 'fsdp')),  # L F D
  (r'map_head/attention/(query|kv)/kernel$', P('fsdp')),
  (r'map_head/attention/out/kernel$', P(None, None, 'fsdp')),  # A E D
  (r'map_head/mlp/(gate|up)/kernel$', P('fsdp', 'tensor')),  # D F
  (r'map_head/mlp/down/kernel$', P('tensor', 'fsdp')),  # F D
  (r'embedding/kernel$', P(None, None, None, 'fsdp')),  # P P C D
  (r'pos_embedding$', P(None, None, 'fsdp')),  # 1 N D
  (r'(pre_logits|head|head_dist)/kernel$', P('fsdp', None)),  # D K
  (r'conv\w*/kernel$', P(None, None, None, 'fsdp')),  # H W C D
  (r'fc6/kernel$', P(None, None, None, 'fsdp')),  # H W C D
  (r'fc7/kernel$', P('fsdp', None)),  # D D
  (r'(source|target)/table$', P(None, 'fsdp')),  # V D
  (r'(input|recurrent)_kernel$', P('fsdp')),  # D G H, H G H
  (r'(readout|query|key)/kernel$', P('fsdp')),  # D D
  (r'', P()),  # biases, norms, tokens, counters
)
# The leading axis L of these is sliced layer by layer: never sharded.
STACKED = re.compile(r'blocks/')
# In elements. A leaf without a rule is replicated if it is small. One of which no axis divides is
# replicated too, unless it is large; together they may be this share of the tree.
SMALL, LARGE, REPLICATED_SHARE = 1 << 12, 1 << 20, 0.02


class Place(NamedTuple):
  """How a leaf is sharded, and why, if not by its rule."""

  spec: P
  note: str = ''


def place(name: str, shape: tuple[int, ...], mesh: DeviceMesh) -> Place:
  """The place of one leaf.

  `tensor` takes the axis of its rule or none. `fsdp` takes the axis that its rule prefers, else the
  largest other one that it divides, except those of the layers and of `tensor`.

  Raises:
    UserError: `tensor` does not divide its axis, or a large leaf would be replicated.
  """
  if not shape:
    return Place(P())
  rule = next(spec for pattern, spec in RULES if re.search(pattern, name))
  if len(rule) > len(shape):
    raise UserError(f'parameter {name} of shape {shape} has fewer axes than its rule {rule}')
  axes = [*rule, *(None for _ in shape[len(rule) :])]
  fsdp, tensor = mesh.shape['fsdp'], mesh.shape['tensor']
  preferred = axes.index('fsdp') if 'fsdp' in axes else None
  split = axes.index('tensor') if 'tensor' in axes and tensor > 1 else None
  what, size = f'parameter {name} of shape {shape}', math.prod(shape)
  if split is not None and shape[split] % tensor:
    raise UserError(
      f'{what} cannot be split: {shape[split]} is not divisible by the {tensor} '
      f"devices of mesh axis 'tensor' ({words(mesh)}); set config.mesh.tensor to "
      f'{math.gcd(shape[split], tensor)}'
    )
  too_large = split is None and fsdp * tensor > 1 and size > LARGE
  if fsdp == 1:
    if too_large:
      raise UserError(
        f'{what} would be replicated on every device, because config.mesh.tensor splits only '
        f'other parameters ({words(mesh)}); set config.mesh.fsdp to 2 or more'
      )
    return Place(rule)
  if preferred is None and size <= SMALL:
    return Place(rule)
  free = [axis for axis in range(len(shape)) if axis != split]
  if STACKED.search(name):
    free = free[1:]
  best = max(
    (axis for axis in free if shape[axis] % fsdp == 0),
    default=None,
    key=lambda axis: (axis == preferred, shape[axis]),
  )
  if best is None and too_large:
    most = max(math.gcd(shape[axis], fsdp) for axis in free)
    raise UserError(
      f'{what} cannot be split: none of {", ".join(str(shape[i]) for i in free)} is '
      f"divisible by the {fsdp} devices of mesh axis 'fsdp' ({words(mesh)}); set "
      f'config.mesh.fsdp to {most} and config.mesh.replica to '
      f'{mesh.shape["replica"] * fsdp // most}'
    )
  if best is not None and best == preferred:
    return Place(rule)
  if preferred is not None:
    axes[preferred] = None
  if best is None:
    return Place(P(*axes), f'not over fsdp: no axis is divisible by {fsdp}')
  axes[best] = 'fsdp'
  if preferred is None:
    return Place(P(*axes))
  return Place(P(*axes), f'fsdp on {shape[best]}: {shape[preferred]} is not divisible by {fsdp}')


def words(mesh: DeviceMesh) -> str:
  """'replica 2, fsdp 4, tensor 1, sequence 1'."""
  return ', '.join(f'{axis} {size}' for axis, size in mesh.shape.items())


def gathered(sharding: NamedSharding) -> NamedSharding:
  """The same without `fsdp`."""
  parts = ((part,) if isinstance(part, str) else part or () for part in sharding.spec)
  rest = (tuple(axis for axis in part if axis != 'fsdp') for part in parts)
  return NamedSharding(sharding.mesh, P(*(part or None for part in rest)))


def shardings(tree: Any, mesh: DeviceMesh) -> Any:
  """A tree of NamedShardings for `tree` (of arrays or shapes); raises as `abstract` does."""
  return jax.tree.map(lambda leaf: leaf.sharding, abstract(tree, mesh))


def abstract(tree: Any, mesh: DeviceMesh) -> Any:
  """The shapes of `tree` with their shardings, to compile programs and to make arrays for.

  Raises:
    UserError: see `place`; or too much of the tree would be replicated.
  """

  def one(path: tuple, leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = NamedSharding(mesh, place(path_name(path), leaf.shape, mesh).spec)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  placed = jax.tree_util.tree_map_with_path(one, tree)
  if mesh.shape['fsdp'] * mesh.shape['tensor'] > 1:
    _check_replicated(flatten(placed), mesh)
  return placed


def _check_replicated(leaves: dict[str, Any], mesh: DeviceMesh) -> None:
  """Raises a UserError if much is replicated on every device: MaxText's rule of two percent.

  `place` has refused single large leaves; this finds many of middling size.
  """
  replicated = [
    name for name, leaf in leaves.items() if leaf.sharding.shard_shape(leaf.shape) == leaf.shape
  ]
  elements = sum(leaves[name].size for name in replicated)
  total = sum(leaf.size for leaf in leaves.values())
  if elements <= max(LARGE, REPLICATED_SHARE * total):
    return
  largest = max(replicated, key=lambda name: leaves[name].size)
  change = (
    'a smaller config.mesh.fsdp'
    if mesh.shape['fsdp'] > 1
    else 'config.mesh.fsdp to 2 or more, because config.mesh.tensor splits blocks only'
  )
  raise UserError(
    f'{elements / total:.1%} of all parameters and optimizer state would be replicated on every '
    f'device, and at most {REPLICATED_SHARE:.0%} may ({words(mesh)}); the largest such leaf is '
    f'{largest} of shape {leaves[largest].shape}: set {change}'
  )


def bytes_per_chip(tree: Any) -> dict[str, int]:
  """Bytes that each device holds, by leaf; `tree` is of arrays or shapes with shardings."""
  return {
    name: math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for name, leaf in flatten(tree).items()
  }


def table(tree: Any, mesh: DeviceMesh) -> str:
  """One line per leaf: path, shape, spec, bytes per device, and why, if that is not its rule."""
  rows, held = [], bytes_per_chip(abstract(tree, mesh))
  for name, leaf in flatten(tree).items():
    spec, note = place(name, leaf.shape, mesh)
    shape = 'x'.join(map(str, leaf.shape)) or 'scalar'
    rows.append((name, shape, str(spec), held[name], note))
  return as_text((), rows, align='<><><')


def summary(tree: Any, mesh: DeviceMesh) -> str:
  """One line: the mesh, and the megabytes that each device holds of each part of `tree`."""
  parts: Counter[str] = Counter()
  for name, size in bytes_per_chip(tree).items():
    parts[name.split('/')[0]] += size
  held = ', '.join(f'{part} {size / 1e6:,.3f}' for part, size in parts.items() if size >= 1e3)
  return (
    f'{mesh.size} devices ({words(mesh)}); MB on each: {held}; '
    f'{sum(parts.values()) / 1e6:,.3f} in all'
  )
