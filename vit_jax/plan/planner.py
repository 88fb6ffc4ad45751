"""A plan: what one experiment would need on one topology."""

from dataclasses import dataclass
from pathlib import Path

from vit_jax.models import flops as model_flops
from vit_jax.parallel.topology import Topology
from vit_jax.plan import collectives, costs, estimate, hlo, program, roofline
from vit_jax.plan.collectives import Collective, Partitions
from vit_jax.plan.program import Case, Compiled, Program
from vit_jax.plan.roofline import Roofline
from vit_jax.train.trainer import Trainer


@dataclass(frozen=True)
class Work:
  """What one device does in one step, read from the compiled program."""

  flops: float
  traffic: float  # bytes through HBM
  collectives: list[Collective]
  unknown_loops: int
  roofline: Roofline | None  # where the chip has a datasheet


@dataclass(frozen=True)
class Plan:
  """One experiment on one topology. Bytes and FLOP are those of one device and step."""

  trainer: Trainer
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
    return self.trainer.mesh.size

  @property
  def step_flops(self) -> float:
    """The model's own, on all devices: six for each multiply-accumulate of a forward pass."""
    trainer = self.trainer
    macs = model_flops.forward_macs(trainer.model, trainer.shape, train=True)
    return 6.0 * macs * trainer.domain.rows[-1]

  @property
  def seconds(self) -> float:
    """Least seconds of a step; 0 where there is no bound."""
    return self.work.roofline.seconds if self.work and self.work.roofline else 0.0

  @property
  def examples_per_second(self) -> float:
    return self.trainer.domain.rows[-1] / self.seconds if self.seconds else 0.0

  @property
  def mfu(self) -> float:
    if not self.seconds:
      return 0.0
    return roofline.mfu(self.step_flops / self.devices, self.seconds, self.topology.chip)

  @property
  def hours(self) -> float:
    return self.trainer.steps * self.seconds / 3600

  @property
  def exaflops(self) -> float:
    """Of the whole recipe."""
    return self.trainer.steps * self.step_flops / 1e18


def make_plan(case: Case, cache: Path | None) -> Plan:
  """Compiles the train step for a topology and reads its needs from the program.

  Args:
    cache: folder of compiled programs.

  Raises:
    UserError: keys that do not fit each other or the devices. Out of memory is a result.
  """
  step = program.lower(case)
  compiled = program.compiled(step, cache)
  sizes, available = _purposes(step.trainer, compiled), program.available(case.topology)
  return Plan(step.trainer, case.topology, compiled, sizes, available, _work(step, compiled))


def _purposes(trainer: Trainer, compiled: Compiled) -> dict[str, float]:
  """Bytes of one device by purpose; they add up to `compiled.bytes`, unless it ran out of memory.

  State and batch are counted from shapes, activations are what automatic differentiation saves.
  """
  sizes: dict[str, float] = dict(estimate.state_bytes(trainer))
  sizes['batch'] = estimate.tree_bytes(trainer.abstract_batch)
  activations = estimate.activation_bytes(trainer)
  if compiled.out_of_memory:
    return {**sizes, 'activations': activations}
  temporaries = compiled.memory['temporaries']
  activations = min(activations, temporaries)
  return {
    **sizes,
    'activations': activations,
    'temporaries': temporaries - activations,
    'code and padding': compiled.bytes - sum(sizes.values()) - temporaries,
  }


def _work(step: Program, compiled: Compiled) -> Work | None:
  if compiled.out_of_memory:
    return None
  module = hlo.parse(compiled.hlo)
  mesh, chip = step.trainer.mesh, step.topology.chip
  group = 'slice_index' if chip.platform == 'tpu' else 'process_index'
  groups = tuple(getattr(device, group, 0) for device in mesh.devices.flat)
  partitions = Partitions(mesh.axis_names, mesh.devices.shape, groups)
  flops, traffic = costs.flops(module), costs.traffic(module)
  moved = collectives.collectives(module, partitions)
  bound = roofline.roofline(chip, flops, traffic, moved) if chip.peak else None
  return Work(flops, traffic, moved, module.unknown_loops, bound)
