"""A bound on speed: no step is faster than its slowest part at the datasheet's rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vit_jax.plan.chips import Chip
from vit_jax.plan.collectives import Row

ASSUMPTIONS = (
  "every matrix product at the peak rate, HBM and links at the datasheet's rate, all three at "
  'the same time; each fusion reads and writes its arrays in HBM once; rings over all links of a '
  'device; data, evaluations, checkpoints and failures cost nothing'
)


@dataclass(frozen=True)
class Roofline:
  """Least seconds of one step, by what would have to take them."""

  compute: float
  memory: float
  near: float  # links of a slice or node
  far: float  # links between slices or nodes

  @property
  def seconds(self) -> float:
    return max(self.compute, self.memory, self.near, self.far)

  @property
  def total(self) -> float:
    """Seconds if nothing went on at the same time."""
    return self.compute + self.memory + self.near + self.far

  @property
  def limit(self) -> str:
    """What takes longest."""
    names = {
      'compute': self.compute,
      'HBM': self.memory,
      'links': self.near,
      'links between nodes': self.far,
    }
    return max(names, key=lambda name: names[name])


def roofline(chip: Chip, flops: float, traffic: float, rows: Sequence[Row]) -> Roofline:
  """The bound for what one device does in one step.

  Args:
    flops: of matrix products.
    traffic: bytes between HBM and the units.
    rows: its collectives.
  """
  return Roofline(
    flops / chip.peak,
    traffic / chip.bandwidth,
    sum(row.near for row in rows) / chip.near,
    sum(row.far for row in rows) / chip.far,
  )


def mfu(model_flops: float, seconds: float, chip: Chip) -> float:
  """Share of the peak that the model's own FLOP of one device take, recomputed ones apart."""
  return model_flops / (seconds * chip.peak)
