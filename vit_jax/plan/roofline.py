"""A bound on speed: no step is faster than its slowest part at the datasheet's rate."""

from collections.abc import Sequence
from typing import NamedTuple

from vit_jax.parallel.chips import Chip
from vit_jax.plan.collectives import Collective

ASSUMPTIONS = (
  "every matrix product at the peak rate, HBM and links at the datasheet's rate, all three at "
  'the same time; each fusion reads and writes its arrays in HBM once; rings over all links of a '
  'device; data, evaluations, checkpoints and failures cost nothing'
)


class Roofline(NamedTuple):
  """Least seconds of one step, by the part of the machine that needs them."""

  compute: float
  memory: float
  near: float  # links of a slice or node
  far: float  # links between slices or nodes

  @property
  def seconds(self) -> float:
    return max(self)

  @property
  def total(self) -> float:
    """Seconds if nothing overlapped."""
    return sum(self)

  @property
  def limit(self) -> str:
    names = ('compute', 'HBM', 'links', 'links between nodes')
    return names[self.index(max(self))]


def roofline(chip: Chip, flops: float, traffic: float, moved: Sequence[Collective]) -> Roofline:
  """The bound of one device and step, with FLOP of products and bytes between HBM and units."""
  return Roofline(
    flops / chip.peak,
    traffic / chip.bandwidth,
    sum(row.near for row in moved) / chip.near,
    sum(row.far for row in moved) / chip.far if chip.far else 0.0,  # one slice has no such links
  )


def mfu(model_flops: float, seconds: float, chip: Chip) -> float:
  """Share of the peak that goes into the model's own FLOP of one device, not recomputed ones."""
  return model_flops / (seconds * chip.peak)
