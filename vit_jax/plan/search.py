"""A plan that fits and is fast: meshes x remat x accumulation, pruned by arithmetic, then compiled.

The global batch is the recipe's: mesh and accumulation only decide how many images a device takes
at once, and every candidate computes the same run.
"""

import dataclasses
import itertools
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from vit_jax import config, models
from vit_jax.config import Experiment
from vit_jax.errors import UserError
from vit_jax.models.options import Remat
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel.chips import GIB
from vit_jax.parallel.topology import EXAMPLES, Topology
from vit_jax.plan import compilers, describe, estimate, planner, program, roofline
from vit_jax.plan.planner import Plan
from vit_jax.plan.program import Case
from vit_jax.plan.roofline import Roofline
from vit_jax.train.domain import Sizes
from vit_jax.train.trainer import Trainer

LOG = logging.getLogger(__name__)
WANTED, MOST_COMPILED = 3, 8
MOST_TENSOR = 8
# The least that the compiler needs, as a share of the arithmetic estimate. Where it turns out to
# need more, later candidates are judged by that.
LEAST_RATIO = 0.9


@dataclass(frozen=True)
class Candidate:
  """One way to run an experiment, by arithmetic."""

  experiment: Experiment
  bytes: float  # of one device
  bound: Roofline

  @property
  def order(self) -> tuple[float, float]:
    """The fastest first; among equals the least total work first."""
    return float(f'{self.bound.seconds:.3g}'), self.bound.total


def search(case: Case, cache: Path | None) -> list[Plan]:
  """The best few plans that fit, the fastest first.

  Raises:
    UserError: none fits, or the topology has no datasheet.
  """
  x, place = case.experiment, case.topology
  available = program.available(place)
  if not available:
    raise UserError(
      f'--search: the memory of {place.name} is not known; name chips such as {EXAMPLES}'
    )
  began = time.perf_counter()
  found, refused = candidates(case)
  left = [c for c in found if c.bytes * LEAST_RATIO <= available]
  LOG.debug(
    f'search: {len(found) + refused} ways, {refused} of them against the rules of sharding, '
    f'{len(found) - len(left)} too large by arithmetic; {len(left)} left'
  )
  plans, ratio, compiled = [], LEAST_RATIO, 0
  for candidate in sorted(left, key=lambda c: c.order):
    if len(plans) == WANTED or compiled == MOST_COMPILED:
      break
    if candidate.bytes * ratio > available:
      continue
    compiled += 1
    LOG.debug(
      f'{compiled}: {describe.flags(candidate.experiment, x)} ({candidate.bytes / GIB:.1f} GiB by '
      'arithmetic) ...'
    )
    plan = planner.make_plan(case._replace(experiment=candidate.experiment), cache)
    speed = f', at most {plan.examples_per_second:,.0f}/s' if plan.fits else ''
    LOG.debug(
      f'   {describe.FITS[plan.fits]}: {plan.compiled.bytes / GIB:.2f} of {available / GIB:.2f} GiB'
      f'{speed}; {time.perf_counter() - began:.0f} s since the start'
    )
    if plan.fits:
      plans.append(plan)
    else:  # if the compiler says what it needs, later candidates are judged by that
      ratio = max(ratio, (plan.compiled.bytes or available) / candidate.bytes)
  if not plans:
    smallest = min(c.bytes for c in found) / GIB
    raise UserError(
      f'--search: nothing fits {x.model.name} with batch {x.batch_size} on {place.name}, where a '
      f'device has {available / GIB:.2f} GiB; the smallest takes {smallest:.1f} GiB by arithmetic; '
      'take more devices, or a smaller config.batch_size or config.data.image_size'
    )
  return sorted(plans, key=lambda plan: plan.seconds)


def candidates(case: Case) -> tuple[list[Candidate], int]:
  """(what could run, how many were against the rules of sharding).

  Raises:
    UserError: all were; the error of the plainest mesh, which divides only the batch.
  """
  x, place, num_classes = case.experiment, case.topology, case.num_classes
  devices = compilers.devices(place)
  found, refused, shapes = [], [], None
  once = dataclasses.replace(x, optim=dataclasses.replace(x.optim, accumulate=1))
  sizes = Sizes(case.num_examples, num_classes)
  model = models.build(x.model.name, num_classes, x.model.options)
  remats = get_args(Remat) if hasattr(model.options, 'remat') else ('none',)
  for mesh in _meshes(x, len(devices), MOST_TENSOR if estimate.has_heads(model) else 1):
    try:
      device_mesh = meshes.make_mesh(mesh, devices)
      here = Trainer(once, mesh=device_mesh, sizes=sizes, shapes=shapes)
      shapes = shapes or here.abstract_state
    except UserError as error:
      refused.append(error)
      continue
    ways = device_mesh.shape['replica'] * device_mesh.shape['fsdp']
    rows = math.gcd(*here.domain.rows)
    pieces = [n for n in _powers(rows) if rows % (ways * n) == 0]
    for remat, accumulate in itertools.product(remats, pieces):
      y = _with(x, mesh, remat, accumulate)
      trainer = here.varied(y)
      found.append(Candidate(y, estimate.memory_bytes(trainer), _bound(trainer, place)))
  if not found:
    raise refused[0]
  return found, len(refused)


def _meshes(x: Experiment, devices: int, most_tensor: int) -> Iterator[config.Mesh]:
  """Every split of the devices; `sequence` and `slices` stay as the recipe has them."""
  sequence = max(1, x.mesh.sequence)
  if devices % sequence:
    raise UserError(
      f'config.mesh.sequence is {sequence}, which does not divide the {devices} devices; set it '
      'to a divisor of their number'
    )
  for tensor in _powers(most_tensor):
    ways, rest = divmod(devices, tensor * sequence)
    for fsdp in (n for n in range(1, ways + 1) if not rest and ways % n == 0):
      yield dataclasses.replace(
        x.mesh, replica=ways // fsdp, fsdp=fsdp, tensor=tensor, sequence=sequence
      )


def _powers(limit: int) -> Iterator[int]:
  n = 1
  while n <= limit:
    yield n
    n *= 2


def _with(x: Experiment, mesh: config.Mesh, remat: str, accumulate: int) -> Experiment:
  x = dataclasses.replace(x, mesh=mesh, optim=dataclasses.replace(x.optim, accumulate=accumulate))
  is_plain = remat == estimate.option(x, 'remat', 'none') == 'none'
  return x if is_plain else estimate.with_options(x, remat=remat)


def _bound(trainer: Trainer, place: Topology) -> Roofline:
  passes = trainer.experiment.optim.accumulate
  images = estimate.examples_per_pass(trainer) * passes / estimate.devices_per_image(trainer)
  flops = images * estimate.pass_flops(trainer.model, trainer.shape)
  # Every pass reads the weights forward and backward; the update reads and writes the state.
  state = estimate.state_bytes(trainer)
  weights = state['parameters'] * trainer.mesh.shape['fsdp'] * 2 * passes
  traffic = weights + 2 * sum(state.values())
  moved = estimate.expected_collectives(trainer, place.group_devices)
  return roofline.roofline(place.chip, flops, traffic, moved)
