"""The bound's arithmetic, on a chip with round numbers."""

import pytest

from vit_jax.parallel.chips import CHIPS, Chip
from vit_jax.plan import roofline
from vit_jax.plan.collectives import Collective

CHIP = Chip('tpu', 'round', axes=2, peak=100.0, memory=1000, bandwidth=10.0, near=5.0, far=1.0)


def test_the_slowest_part_bounds_the_step():
  moved = [
    Collective('all-gather', 'fsdp', 3, 99.0, near=20.0, far=0.0),
    Collective('all-reduce', 'replica', 1, 99.0, near=10.0, far=2.0),
  ]
  bound = roofline.roofline(CHIP, flops=700.0, traffic=50.0, moved=moved)
  assert (bound.compute, bound.memory, bound.near, bound.far) == (7.0, 5.0, 6.0, 2.0)
  assert (bound.seconds, bound.limit, bound.total) == (7.0, 'compute', 20.0)
  assert roofline.roofline(CHIP, 700.0, 90.0, moved).limit == 'HBM'
  slow = roofline.roofline(
    CHIP, 1.0, 1.0, [*moved, Collective('all-reduce', 'replica', 1, 9.0, 0.0, 9.0)]
  )
  assert (slow.limit, slow.seconds) == ('links between nodes', 11.0)


def test_mfu_counts_the_models_own_flops():
  """Work that remat repeats keeps the chip busy and does not count."""
  assert roofline.mfu(560.0, 7.0, CHIP) == pytest.approx(0.8)


@pytest.mark.parametrize('name', [name for name in CHIPS if CHIPS[name].memory])
def test_datasheets_are_whole(name):
  """Each has a source, and figures of the right size: about 75 to 700 FLOP per byte of memory."""
  chip = CHIPS[name]
  assert chip.source.startswith(('https://', 'NVIDIA '))
  assert 75 < chip.peak / chip.bandwidth < 700
  assert chip.far < chip.near < chip.bandwidth
  assert 15 * 2**30 < chip.memory < 200 * 2**30
