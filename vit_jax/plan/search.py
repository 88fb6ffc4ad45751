"""A plan that fits and is fast: meshes x remat x accumulation, pruned by arithmetic, then compiled.

The global batch is the recipe's, so mesh and accumulation decide the images a device takes at a
time, and every candidate computes the same run.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from vit_jax import config, models
from vit_jax.config import Experiment
from vit_jax.errors import UserError
from vit_jax.models.blocks import Remat
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.plan import answer, estimate, program, roofline, topology
from vit_jax.plan.answer import Plan
from vit_jax.plan.chips import GIB
from vit_jax.plan.roofline import Roofline
from vit_jax.plan.topology import Topology
from vit_jax.training.setup import Setup, assemble

WANTED, MOST_COMPILED = 3, 8
MOST_TENSOR = 8
# What the compiler needs, as a share of what arithmetic says: it may do with so much less, and
# where it is seen to need more, that counts for the plans that follow.
LEAST_RATIO = 0.9


@dataclass(frozen=True)
class Candidate:
  """One way to run an experiment, by arithmetic."""

  experiment: Experiment
  bytes: float  # of one device
  bound: Roofline

  @property
  def order(self) -> tuple[float, float]:
    """The fastest first; among equals the one with least to do at the same time."""
    return float(f'{self.bound.seconds:.3g}'), self.bound.total


def search(
  x: Experiment,
  place: Topology,
  num_examples: int,
  num_classes: int,
  cache: Path | None,
  say: Callable[[str], None] | None = None,
) -> list[Plan]:
  """The best few plans that fit, the fastest first.

  Raises:
    UserError: none fits, or the topology has no datasheet to judge by.
  """
  say = say or (lambda line: print(line, file=sys.stderr, flush=True))
  available = program.available(place)
  if not available:
    raise UserError(
      f'--search: the memory of {place.name} is not known; name chips to search for, '
      f'such as {topology.EXAMPLES}'
    )
  began = time.perf_counter()
  devices = topology.devices(place)
  found, refused = candidates(x, place, devices, num_examples, num_classes)
  left = [c for c in found if c.bytes * LEAST_RATIO <= available]
  say(
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
    say(
      f'{compiled}: {flags(candidate.experiment, x)} ({candidate.bytes / GIB:.1f} GiB by '
      'arithmetic) ...'
    )
    plan = answer.make_plan(candidate.experiment, place, devices, num_examples, num_classes, cache)
    say(f'   {verdict(plan)}, {time.perf_counter() - began:.0f} s since the start')
    if plan.fits:
      plans.append(plan)
    else:  # the compiler's word, if it says how much, counts for what follows
      ratio = max(ratio, (plan.compiled.bytes or available) / candidate.bytes)
  if not plans:
    smallest = min(c.bytes for c in found) / GIB
    raise UserError(
      f'--search: nothing fits {x.model.name} with batch {x.batch_size} on '
      f'{place.name}, where a device has {available / GIB:.2f} GiB; the smallest '
      f'takes {smallest:.1f} GiB by arithmetic; take more devices, or a smaller '
      'config.batch_size or config.data.image_size'
    )
  return sorted(plans, key=lambda plan: plan.seconds)


def verdict(plan: Plan) -> str:
  if not plan.fits:
    return f'out of memory: needs {plan.compiled.bytes / GIB:.2f} of {plan.available / GIB:.2f} GiB'
  return (
    f'fits: {plan.compiled.bytes / GIB:.2f} of {plan.available / GIB:.2f} GiB, at most '
    f'{plan.images_per_second:,.0f} images/s'
  )


def candidates(
  x: Experiment, place: Topology, devices: Sequence[Any], num_examples: int, num_classes: int
) -> tuple[list[Candidate], int]:
  """(what could run, how many were against the rules of sharding).

  Raises:
    UserError: all were; it is that of the plainest mesh, which divides the batch alone.
  """
  found, refused, base = [], [], None
  model = models.build(x.model.name, num_classes, **x.model.options)
  for mesh in _meshes(x, len(devices), MOST_TENSOR if estimate.has_heads(model) else 1):
    try:
      device_mesh = meshes.make_mesh(mesh, devices)
      if base is None:
        base = assemble(x, Path(), device_mesh, None, num_examples, num_classes)
      meshes.check_batch(x.batch_size, device_mesh, 'config.batch_size')
      meshes.check_tokens(base.model, x.data.image_size, device_mesh)
      state = rules.abstract(base.abstract_state, device_mesh)
      frozen = tuple(rules.abstract(tree, device_mesh) for tree in base.abstract_frozen)
    except UserError as error:
      refused.append(error)
      continue
    ways = device_mesh.shape['replica'] * device_mesh.shape['fsdp']
    pieces = [n for n in _powers(x.batch_size) if x.batch_size % (ways * n) == 0]
    for remat, accumulate in itertools.product(_remats(base), pieces):
      y = _with(x, mesh, remat, accumulate)
      model = models.build(y.model.name, num_classes, **y.model.options)
      setup = dataclasses.replace(
        base,
        experiment=y,
        model=model,
        mesh=device_mesh,
        abstract_state=state,
        abstract_frozen=frozen,
      )
      found.append(Candidate(y, estimate.memory_bytes(setup), _bound(setup, place)))
  if not found:
    raise refused[0]
  return found, len(refused)


def _meshes(x: Experiment, devices: int, most_tensor: int) -> Iterator[config.Mesh]:
  """Every split of the devices; `sequence` and `slices` stay as the recipe has them."""
  sequence = max(1, x.mesh.sequence)
  if devices % sequence:
    raise UserError(
      f'config.mesh.sequence is {sequence}, which does not divide the {devices} '
      'devices; set it to a divisor of their number'
    )
  for tensor in _powers(most_tensor):
    ways = devices // (tensor * sequence)
    if devices % (tensor * sequence):
      continue
    for fsdp in (n for n in range(1, ways + 1) if ways % n == 0):
      yield dataclasses.replace(
        x.mesh, replica=ways // fsdp, fsdp=fsdp, tensor=tensor, sequence=sequence
      )


def _remats(setup: Setup) -> tuple[str, ...]:
  return get_args(Remat) if hasattr(setup.model, 'remat') else ('none',)


def _powers(limit: int) -> Iterator[int]:
  n = 1
  while n <= limit:
    yield n
    n *= 2


def _with(x: Experiment, mesh: config.Mesh, remat: str, accumulate: int) -> Experiment:
  options = {**x.model.options}
  if remat != 'none' or 'remat' in options:
    options['remat'] = remat
  return dataclasses.replace(
    x,
    mesh=mesh,
    model=dataclasses.replace(x.model, options=options),
    optim=dataclasses.replace(x.optim, accumulate=accumulate),
  )


def _bound(setup: Setup, place: Topology) -> Roofline:
  images = estimate.images_a_pass(setup) * setup.experiment.optim.accumulate
  shape = setup.mesh.shape
  flops = (
    images
    * estimate.pass_flops(setup.model, setup.image_shape)
    / (estimate.devices_an_image(setup))
  )
  # Every pass reads the weights forward and backward; the update reads and writes the state.
  state = estimate.state_bytes(setup)
  weights = state['parameters'] * shape['fsdp'] * 2 * setup.experiment.optim.accumulate
  traffic = weights + 2 * sum(state.values())
  rows = estimate.expected_rows(setup, place.group_devices)
  return roofline.roofline(place.chip, flops, traffic, rows)


def flags(x: Experiment, given: Experiment) -> str:
  """What to add to the command line of `given` to run it as `x`."""
  axes = [
    axis
    for axis in meshes.AXES
    if axis in ('replica', 'fsdp') or (getattr(x.mesh, axis), getattr(given.mesh, axis)) != (1, 1)
  ]
  parts = [f'--config.mesh.{axis}={getattr(x.mesh, axis)}' for axis in axes]
  if 'remat' in x.model.options:
    parts.append(f'--config.model.remat={x.model.options["remat"]}')
  return ' '.join([*parts, f'--config.optim.accumulate={x.optim.accumulate}'])


def tell(plans: Sequence[Plan], given: Experiment) -> str:
  """A table of the plans, and the best one as an override to paste."""
  lines = [f'{"images/s <=":>12}{"MFU <=":>9}{"GiB":>8}{"to spare":>10}{"at a time":>11}  how']
  for plan in plans:
    needed = plan.compiled.bytes / GIB
    lines.append(
      f'{plan.images_per_second:>12,.0f}{plan.mfu:>9.1%}{needed:>8.2f}'
      f'{plan.available / GIB - needed:>10.2f}{estimate.images_a_pass(plan.setup):>11g}  '
      f'{flags(plan.setup.experiment, given)}'
    )
  best = plans[0]
  return '\n'.join(
    [
      *lines,
      '',
      answer.tell(best),
      '',
      'the best one, to paste:',
      flags(best.setup.experiment, given),
    ]
  )
