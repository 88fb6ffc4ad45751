"""TPU slices by name, such as v5e:16x16: how many hosts they have, what each service calls them.

Names are from Google's public documentation: node selectors of "Plan TPUs in GKE", accelerator
types and runtime versions of "TPU versions" and "Cloud TPU software versions"; not yet run here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vit_jax.errors import UserError, nearest

CHIPS_PER_HOST = 4  # of a slice over several hosts, in all generations below


@dataclass(frozen=True)
class Generation:
  selector: str  # cloud.google.com/gke-tpu-accelerator
  accelerator: str  # prefix of an accelerator type
  cores: int  # that one chip counts for in an accelerator type
  runtime: str  # software version of a TPU VM
  dimensions: int
  one_host: tuple[str, ...]  # topologies that are a single host


GENERATIONS = {
  'v4': Generation('tpu-v4-podslice', 'v4', 2, 'tpu-ubuntu2204-base', 3, ('2x2x1',)),
  'v5e': Generation(
    'tpu-v5-lite-podslice', 'v5litepod', 1, 'v2-alpha-tpuv5-lite', 2, ('1x1', '2x2', '2x4')
  ),
  'v5p': Generation('tpu-v5p-slice', 'v5p', 2, 'v2-alpha-tpuv5', 3, ('2x2x1',)),
  'v6e': Generation('tpu-v6e-slice', 'v6e', 1, 'v2-alpha-tpuv6e', 2, ('1x1', '2x2', '2x4')),
}


@dataclass(frozen=True)
class Slice:
  """Chips with a network of their own, on one host or several."""

  generation: Generation
  topology: str  # such as 16x16
  chips: int

  @property
  def hosts(self) -> int:
    one_host = self.topology in self.generation.one_host
    return 1 if one_host else self.chips // CHIPS_PER_HOST

  @property
  def chips_per_host(self) -> int:
    return self.chips // self.hosts

  @property
  def accelerator_type(self) -> str:
    return f'{self.generation.accelerator}-{self.chips * self.generation.cores}'


def parse_slice(text: str) -> Slice:
  """The slice of 'v5e:16x16'.

  Raises:
    UserError: an unknown generation, or a topology that is not one of its slices.
  """
  name, _, topology = text.partition(':')
  if name not in GENERATIONS:
    raise UserError(
      f'--topology: {name!r} is no TPU generation we know; {nearest(name, GENERATIONS)}'
    )
  generation, sides = GENERATIONS[name], topology.split('x')
  if len(sides) != generation.dimensions or not all(side.isdecimal() for side in sides):
    example = '16x16' if generation.dimensions == 2 else '4x4x8'
    raise UserError(
      f'--topology is {text!r}; a slice of {name} has {generation.dimensions} sides, '
      f'as in {name}:{example}'
    )
  chips = math.prod(int(side) for side in sides)
  if chips == 0 or (topology not in generation.one_host and chips % CHIPS_PER_HOST):
    raise UserError(
      f'--topology is {text!r}, {chips} chips; a slice of {name} over several hosts '
      f'has {CHIPS_PER_HOST} on each'
    )
  return Slice(generation, topology, chips)
