"""The collectives of an optimized HLO module: kind, count, bytes, and the mesh axes they run over.

Bytes are those of the whole array: an all-gather's result, the operand of the others. By the ring
algorithm, fewer leave one device (all-gather, reduce-scatter, all-to-all) or twice as many
(all-reduce).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vit_jax.errors import RunFault
from vit_jax.plan.hlo import Instruction, Module

KINDS = ('all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'collective-permute')
# Bytes that leave a device, for each byte of the array and in units of (n - 1) / n.
_SENT = {'all-gather': 1.0, 'reduce-scatter': 1.0, 'all-to-all': 1.0, 'all-reduce': 2.0}


@dataclass(frozen=True)
class Partitions:
  """The mesh as the compiler numbers it: partition i is its element i in row-major order."""

  axes: tuple[str, ...]
  shape: tuple[int, ...]
  groups: tuple[int, ...]  # slice or node of each partition


class Collective(NamedTuple):
  """All collectives of one kind over the same axes, in one step of one device."""

  kind: str
  axes: str  # 'fsdp', 'replica+fsdp'
  count: int
  bytes: float
  near: float  # bytes that leave a device on the links of its slice or node
  far: float  # and between slices or nodes


def collectives(module: Module, layout: Partitions) -> list[Collective]:
  """One for each kind and set of axes, the largest first."""
  totals: dict[tuple[str, str], np.ndarray] = {}
  seen = set()
  for name, times, instruction in module.executed():
    kind = instruction.opcode.removesuffix('-start')
    if kind not in KINDS:
      continue
    channel = instruction.attribute(r'channel_id=(\d+)')
    if name in module.fused and channel:
      # A TPU spreads one collective over the fusions that run meanwhile: each has a copy.
      if (kind, channel) in seen:
        continue
      seen.add((kind, channel))
    scope = module.computations[name]
    operands = [scope[operand] for operand in instruction.operands if operand in scope]
    size = sum(array.bytes for operand in operands for array in operand.arrays)
    group = members(instruction, len(layout.groups))
    if len(group) < 2 and kind != 'collective-permute':
      continue
    if kind == 'all-gather':
      size *= len(group)
    if kind == 'all-reduce' and name in module.fused and _is_sliced(instruction, scope):
      kind = 'reduce-scatter'
    axes, near, far = _sent(kind, size, group, instruction, layout)
    if axes:
      more = times * np.array([1, size, near, far])
      totals[kind, axes] = totals.get((kind, axes), 0) + more
  rows = []
  for (kind, axes), sums in totals.items():
    count, *sizes = sums.tolist()
    rows.append(Collective(kind, axes, int(count), *sizes))
  return sorted(rows, key=lambda row: -row.bytes)


def _is_sliced(instruction: Instruction, scope: dict[str, Instruction]) -> bool:
  """Whether only a slice of the result is used: a TPU's reduce-scatter."""
  users = [user for user in scope.values() if instruction.name in user.operands]
  while len(users) == 1 and users[0].opcode in ('bitcast', 'reshape', 'copy'):
    users = [user for user in scope.values() if users[0].name in user.operands]
  return bool(users) and all(user.opcode == 'dynamic-slice' for user in users)


def _sent(
  kind: str, size: float, group: Sequence[int], instruction: Instruction, layout: Partitions
) -> tuple[str, float, float]:
  """(axes joined by '+', bytes that leave a device on near links, and on far ones)."""
  if kind == 'collective-permute':
    text = instruction.attribute(r'source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}')
    pairs = [(int(a), int(b)) for a, b in re.findall(r'\{(\d+),(\d+)\}', text)]
    varying = {axis for pair in pairs for axis in _varying(pair, layout)}
    axes = '+'.join(axis for axis in layout.axes if axis in varying)
    crosses = any(layout.groups[a] != layout.groups[b] for a, b in pairs)
    return axes, 0.0 if crosses else size, size if crosses else 0.0
  apart = len({layout.groups[i] for i in group})
  together = len(group) / apart  # members of a slice or node, which share its far links
  sent = _SENT[kind] * size
  far = sent * (apart - 1) / apart / together
  near = sent * (together - 1) / together
  return '+'.join(_varying(group, layout)), near, far


def _varying(partitions: Sequence[int], layout: Partitions) -> list[str]:
  """Axes along which these partitions differ."""
  places = np.stack(np.unravel_index(np.asarray(partitions), layout.shape))
  return [axis for axis, row in zip(layout.axes, places, strict=True) if len(set(row.tolist())) > 1]


# An order of devices: the shape that their numbers are given, and its transpose.
_ORDER = r'\[([\d,]+)\](?:T\(([\d,]+)\))?'


def members(instruction: Instruction, partitions: int) -> list[int]:
  """The partitions of one group that acts together; all groups look alike.

  XLA writes groups as lists, {{0,1},{2,3}}; as a transposed count, [2,4]<=[4,2]T(1,0); or as axes
  of a mesh, mesh['a'=2,'b'=4] {'b'}, of which 'b':(2)2 is a part: after 2, 2 of the 4. The devices
  of a mesh may have an order: mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}.

  Raises:
    RunFault: it writes them in another way.
  """
  text = instruction.attributes.partition('replica_groups=')[2]
  if not text or text.startswith('{}'):
    return list(range(partitions))
  if listed := re.match(r'\{\{([\d,]*)\}', text):
    return _numbers(listed[1])
  if counted := re.match(rf'\[\d+,(\d+)\]<={_ORDER}', text):
    columns, *order = counted.groups()
    return _ordered(*order)[: int(columns)].tolist()
  order = rf'device_ids=\({_ORDER}\)'
  if meshed := re.match(rf'mesh\[([^\]]*)\](?:, {order})? ?\{{([^}}]*)\}}', text):
    mesh, shape, axes, chosen = meshed.groups()
    places = _mesh_members(mesh, chosen)
    return _ordered(shape, axes)[places].tolist() if shape else places
  raise RunFault(
    f'plan does not know how XLA writes these groups of devices: replica_groups={text[:80]}; '
    'use the versions of constraints.txt'
  )


def _numbers(text: str) -> list[int]:
  return [int(number) for number in text.split(',') if number]


def _ordered(shape: str, axes: str | None) -> np.ndarray:
  """All devices in the order of an `_ORDER`."""
  sizes = _numbers(shape)
  ids = np.arange(math.prod(sizes)).reshape(sizes)
  return ids.transpose(_numbers(axes) if axes else range(ids.ndim)).ravel()


def _mesh_members(mesh: str, chosen: str) -> list[int]:
  sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh)}
  parts = {
    name: (int(before or 1), int(size) if size else sizes[name])
    for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", chosen)
  }
  shape, kept = [], []
  for name, size in sizes.items():
    before, taken = parts.get(name, (size, 1))
    shape += [before, taken, size // (before * taken)]
    kept += [0, slice(None), 0]
  ids = np.arange(math.prod(sizes.values())).reshape(shape)
  return ids[tuple(kept)].ravel().tolist()
