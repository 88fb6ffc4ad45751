"""Topologies by name: `v5e:16x16`, `2*v6e:8x8`, `h100:8x4`."""

import math
import re
from dataclasses import dataclass

from vit_jax.errors import UserError, nearest
from vit_jax.parallel.chips import CHIPS, Chip, Cloud

GPUS_PER_NODE = 8
CHIPS_PER_HOST = 4  # of a TPU slice over several hosts, in all generations
EXAMPLES = 'v5e:16x16, v5p:4x4x4, 2*v6e:16x16, h100:8 or h200:8x4 (GPUs per node x nodes)'


@dataclass(frozen=True)
class Topology:
  """`groups` TPU slices or GPU nodes of `shape` chips each."""

  name: str  # as the user wrote it
  chip: Chip
  shape: tuple[int, ...]
  groups: int

  @property
  def sides(self) -> str:
    """The shape of one slice or node, such as 16x16."""
    return 'x'.join(map(str, self.shape))

  @property
  def chips(self) -> int:
    return math.prod(self.shape) * self.groups

  @property
  def group_devices(self) -> int:
    """JAX devices of one slice or node, which have fast links between them."""
    return math.prod(self.shape) * self.chip.devices

  @property
  def hosts(self) -> int:
    """Of one TPU slice."""
    one_host = self.chip.cloud and self.sides in self.chip.cloud.one_host
    return 1 if one_host else math.prod(self.shape) // CHIPS_PER_HOST

  @property
  def cloud(self) -> Cloud:
    """The names of its TPUs in Google Cloud."""
    assert self.chip.cloud, self.name
    return self.chip.cloud

  @property
  def accelerator_type(self) -> str:
    """What Google Cloud calls one slice, such as v5litepod-256."""
    return f'{self.cloud.accelerator}-{math.prod(self.shape) * self.cloud.cores}'

  @property
  def chips_per_host(self) -> int:
    return math.prod(self.shape) // self.hosts


def parse(text: str) -> Topology:
  """The topology of [SLICES*]TPU:AxB[xC], GPU:GPUS[xNODES] or cpu:DEVICES.

  Raises:
    UserError: an unknown chip, or a shape it does not come in.
  """
  found = re.fullmatch(r'(?:(\d+)\*)?([a-z]+\d*[a-z]*(?:-\d+)?):(\d+(?:x\d+)*)', text)
  if not found:
    raise UserError(f'--topology: {text!r} is not a topology; write one such as {EXAMPLES}')
  slices, name, sizes = found.groups()
  if name not in CHIPS:
    raise UserError(f'--topology: {name!r} is not a known chip; {nearest(name, CHIPS)}')
  chip, shape = CHIPS[name], tuple(int(size) for size in sizes.split('x'))
  if 0 in shape or len(shape) > chip.axes or (chip.platform == 'tpu' and len(shape) < chip.axes):
    raise UserError(
      f'--topology: {text!r} does not have the shape of {name}, which is '
      f'{"x".join("ABC"[: chip.axes])}; write one such as {EXAMPLES}'
    )
  if chip.platform != 'tpu':
    if slices:
      raise UserError(f'--topology: {text!r} counts slices, which only TPUs come in')
    if chip.platform == 'cuda' and shape[0] > GPUS_PER_NODE:
      raise UserError(
        f'--topology: {text!r} has {shape[0]} GPUs per node, but a node has at most '
        f'{GPUS_PER_NODE}; GPUs per node come first, nodes second, as in {name}:8x32'
      )
    return _joined(Topology(text, chip, shape[:1], math.prod(shape[1:])))
  topology = Topology(text, chip, shape, int(slices or 1))
  if slices == '0' or (topology.hosts != 1 and math.prod(shape) % CHIPS_PER_HOST):
    raise UserError(
      f'--topology: {text!r} has {math.prod(shape)} chips; a slice of {name} over several hosts '
      f'has {CHIPS_PER_HOST} on each'
    )
  return _joined(topology)


def _joined(topology: Topology) -> Topology:
  """Refuses several groups whose links are unknown."""
  chip = topology.chip
  if topology.groups > 1 and chip.memory and not chip.far:
    raise UserError(
      f'--topology: {topology.name} has {topology.groups} slices or nodes, but plan has no figure '
      f'for the links between those of {chip.kind}; write a single one'
    )
  return topology
