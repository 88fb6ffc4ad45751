"""The answer to "what would this run take there?", put together and told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit_jax.config import Experiment
from vit_jax.models import flops as model_flops
from vit_jax.parallel import rules
from vit_jax.plan import collectives, costs, estimate, hlo, program, roofline
from vit_jax.plan.chips import GIB
from vit_jax.plan.collectives import Layout, Row
from vit_jax.plan.program import Compiled, Program
from vit_jax.plan.roofline import Roofline
from vit_jax.plan.topology import Topology
from vit_jax.training.setup import Setup


@dataclass(frozen=True)
class Work:
  """What one device does in one step, read from the compiled program."""

  flops: float
  traffic: float  # bytes through HBM
  rows: list[Row]
  unknown_loops: int
  roofline: Roofline | None  # where the chip has a datasheet


@dataclass(frozen=True)
class Plan:
  """One experiment on one topology. Bytes and FLOP are those of one device and step."""

  setup: Setup
  topology: Topology
  compiled: Compiled
  bytes: dict[str, float]  # by purpose
  available: float
  work: Work | None  # None where the compiler ran out of memory

  @property
  def fits(self) -> bool | None:
    """None where the memory is not known."""
    if self.compiled.out_of_memory:
      return False
    return self.compiled.bytes <= self.available if self.available else None

  @property
  def devices(self) -> int:
    return self.setup.mesh.size

  @property
  def step_flops(self) -> float:
    """The model's own, on all devices: six for each multiply-accumulate of a forward pass."""
    setup = self.setup
    macs = model_flops.forward_macs(setup.model, setup.image_shape, train=True)
    return 6.0 * macs * setup.experiment.batch_size

  @property
  def seconds(self) -> float:
    """Least seconds of a step; 0 where there is no bound."""
    return self.work.roofline.seconds if self.work and self.work.roofline else 0.0

  @property
  def images_per_second(self) -> float:
    return self.setup.experiment.batch_size / self.seconds if self.seconds else 0.0

  @property
  def mfu(self) -> float:
    if not self.seconds:
      return 0.0
    return roofline.mfu(self.step_flops / self.devices, self.seconds, self.topology.chip)

  @property
  def hours(self) -> float:
    return self.setup.steps * self.seconds / 3600

  @property
  def exaflops(self) -> float:
    """Of the whole recipe."""
    return self.setup.steps * self.step_flops / 1e18


def make_plan(
  x: Experiment,
  place: Topology,
  devices: Sequence[Any],
  num_examples: int,
  num_classes: int,
  cache: Path | None,
) -> Plan:
  """Compiles the train step of `x` for a topology and reads the answer from it.

  Raises:
    UserError: keys that do not fit each other or the devices. Out of memory is an answer.
  """
  step = program.lower(x, place, devices, num_examples, num_classes)
  result = program.compiled(step, cache)
  return Plan(
    step.setup,
    place,
    result,
    purposes(step.setup, result),
    program.available(place),
    _work(step, result),
  )


def purposes(setup: Setup, result: Compiled) -> dict[str, float]:
  """Bytes of one device by purpose; they add up to `result.bytes`, unless it ran out of memory.

  State and batch are counted from shapes, activations are what automatic differentiation saves.
  """
  sizes: dict[str, float] = {
    **estimate.state_bytes(setup),
    'batch': estimate.tree_bytes(setup.abstract_batch),
  }
  activations = estimate.activation_bytes(setup)
  if result.out_of_memory:
    return {**sizes, 'activations': activations}
  memory = result.memory
  rest = result.bytes - sum(sizes.values()) - memory['temporaries']
  activations = min(activations, memory['temporaries'])
  return {
    **sizes,
    'activations': activations,
    'temporaries': memory['temporaries'] - activations,
    'code and padding': rest,
  }


def _work(step: Program, result: Compiled) -> Work | None:
  if result.out_of_memory:
    return None
  module = hlo.parse(result.hlo)
  mesh, chip = step.setup.mesh, step.topology.chip
  place = 'slice_index' if chip.platform == 'tpu' else 'process_index'
  layout = Layout(
    tuple(mesh.shape),
    tuple(mesh.shape.values()),
    tuple(getattr(device, place, 0) for device in mesh.devices.flat),
  )
  flops, traffic = costs.flops(module), costs.traffic(module)
  rows = collectives.collectives(module, layout)
  bound = roofline.roofline(chip, flops, traffic, rows) if chip.peak else None
  return Work(flops, traffic, rows, module.unknown_loops, bound)


def tell(plan: Plan) -> str:
  """The plan for a person."""
  setup, x, chip = plan.setup, plan.setup.experiment, plan.topology.chip
  each = estimate.images_a_pass(setup)
  of = f' of {plan.topology.chips} chips' if chip.devices > 1 else ''
  lines = [
    f'{x.name}: {x.model.name}, {setup.parameters / 1e6:,.1f} M parameters, on '
    f'{plan.topology.name}: {plan.devices} devices{of} ({chip.kind})',
    f'mesh: {rules.words(setup.mesh)}; batch {x.batch_size:,}: {each:g} images a device at a time'
    + (f', {x.optim.accumulate} times a step' if x.optim.accumulate > 1 else ''),
    '',
    'memory of one device'
    + (f', of {plan.available / GIB:.2f} GiB that a step may use' if plan.available else ''),
  ]
  lines += [f'  {name:18}{size / GIB:9.3f} GiB' for name, size in plan.bytes.items() if size]
  lines += ['  ' + _verdict(plan), '']
  if plan.work:
    lines += _tell_work(plan, plan.work)
  notes = _notes(plan)
  return '\n'.join([*lines, *([''] if notes else []), *notes])


def _verdict(plan: Plan) -> str:
  needed, available = plan.compiled.bytes, plan.available
  if plan.fits is None:
    return f'together {needed / GIB:.3f} GiB'
  if plan.fits:
    return f'fits: {needed / GIB:.2f} GiB, {(available - needed) / GIB:.2f} GiB to spare'
  if not needed:
    return 'does not fit: ' + plan.compiled.out_of_memory.split('\n')[0]
  return (
    f'does not fit: {needed / GIB:.2f} GiB, {(needed - available) / GIB:.2f} GiB too much; '
    'try --search'
  )


def _tell_work(plan: Plan, work: Work) -> list[str]:
  own = plan.step_flops / plan.devices
  lines = [
    'one device in one step',
    f"  {work.flops / 1e12:.3f} TFLOP of matrix products, {own / 1e12:.3f} of them the model's own",
    f'  {work.traffic / 1e9:.3f} GB through HBM',
    '',
    f'{"collectives":22}{"over":22}{"count":>7}{"MB":>12}{"MB sent":>12}',
  ]
  lines += [
    f'  {row.kind:20}{row.axes:22}{row.count:>7}{row.bytes / 1e6:>12.3f}'
    f'{(row.near + row.far) / 1e6:>12.3f}'
    for row in work.rows
  ] or ['  none']
  if work.roofline is None:
    return lines
  parts = work.roofline
  return [
    *lines,
    '',
    f'bound (not a forecast): at most {plan.images_per_second:,.0f} images/s, '
    f'{plan.images_per_second / plan.devices:,.1f} a device, MFU at most {plan.mfu:.1%}; '
    f'limited by {parts.limit}',
    f'  least ms a step: compute {parts.compute * 1e3:.2f}, HBM {parts.memory * 1e3:.2f}, '
    f'links {parts.near * 1e3:.2f}, between nodes {parts.far * 1e3:.2f}',
    f'recipe: {plan.setup.steps:,} steps, {plan.exaflops:,.2f} exaFLOP, at least '
    f'{plan.hours:,.2f} hours',
  ]


def _notes(plan: Plan) -> list[str]:
  notes = []
  if plan.work and plan.work.roofline:
    notes.append(f'The bound assumes {roofline.ASSUMPTIONS}.')
  if plan.topology.chip.platform == 'cuda':
    notes.append(
      f'A step may use the share of the memory that JAX takes '
      f'({program.GPU_SHARE[0]}, {program.GPU_SHARE[1]} unless set). Attention is '
      f"XLA's: cuDNN's, which a GPU may take instead, compiles on a card only and "
      'needs less memory.'
    )
  if plan.work and plan.work.unknown_loops:
    notes.append(f'{plan.work.unknown_loops} loops of unknown length are counted once.')
  return notes
