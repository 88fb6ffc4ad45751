"""The train step compiled ahead of time, for chips that need not be here.

`train.trainer.Trainer` builds the step, as for `vit_jax train`; only its inputs are abstract. The
compiler's result is cached under a hash of everything that went in.
"""

import gzip
import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vit_jax.config import Experiment
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel.topology import Topology
from vit_jax.plan import compilers, hlo
from vit_jax.train.domain import Sizes
from vit_jax.train.step import compiler_options
from vit_jax.train.trainer import Trainer

# The share of a GPU's memory that JAX takes by default (its page "GPU memory allocation").
GPU_SHARE = ('XLA_PYTHON_CLIENT_MEM_FRACTION', 0.75)
# Where a process keeps the function that partitions an operation: another address in each.
_POINTER = re.compile(r'(@CustomSPMDPartitioning\([^{\n]*\{[^{\n]*backend_config = )"\d+"')
_UNITS = {'': 1, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}
# What a program's own analysis calls the sizes of `Compiled.memory`.
_SIZES = {
  'arguments': 'argument_size_in_bytes',
  'outputs': 'output_size_in_bytes',
  'aliased': 'alias_size_in_bytes',
  'temporaries': 'temp_size_in_bytes',
  'code': 'generated_code_size_in_bytes',
}


class Case(NamedTuple):
  """What is planned: an experiment on a topology, and the size of its data."""

  experiment: Experiment
  topology: Topology
  num_examples: int
  num_classes: int


@dataclass(frozen=True)
class Program:
  """The step, lowered for a topology."""

  trainer: Trainer
  topology: Topology
  lowered: Any  # jax.stages.Lowered

  @property
  def text(self) -> str:
    """StableHLO."""
    return self.lowered.as_text()

  @property
  def key(self) -> str:
    """Hash of the program, the devices it is for, their places, and the compilers."""
    mesh, chip = self.trainer.mesh, self.topology.chip
    parts = [
      _POINTER.sub(r'\1', self.text),
      self.topology.name,
      compilers.gpu_target(chip) if chip.platform == 'cuda' else '',
      list(mesh.shape.items()),
      [device.id for device in mesh.devices.flat],
      compilers.versions(chip.platform),
      compiler_options(mesh),
      os.environ.get('XLA_FLAGS', ''),
      os.environ.get('LIBTPU_INIT_ARGS', ''),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Compiled(NamedTuple):
  """The compiler's result, as it is cached: bytes are those of one device."""

  hlo: str  # the optimized module; empty where it ran out of memory
  memory: dict[str, int]  # by _SIZES
  out_of_memory: str  # the compiler's message, or empty
  seconds: float  # of compilation
  versions: dict[str, str]

  @property
  def bytes(self) -> int:
    """The memory that the step needs."""
    if self.out_of_memory:
      return _needed(self.out_of_memory)
    m = self.memory
    return m['arguments'] + m['outputs'] - m['aliased'] + m['temporaries'] + m['code']


def lower(case: Case) -> Program:
  """Traces the train step for the devices of a topology; nothing is allocated.

  Raises:
    UserError: keys that do not fit each other or the devices.
  """
  x = case.experiment
  mesh = meshes.make_mesh(x.mesh, compilers.devices(case.topology))
  with compilers.described(case.topology.chip):
    trainer = Trainer(x, mesh=mesh, sizes=Sizes(case.num_examples, case.num_classes))
    lowered = trainer.train_step.lower(
      trainer.abstract_state, trainer.abstract_batch, *trainer.abstract_frozen
    )
  return Program(trainer, case.topology, lowered)


def compiled(program: Program, cache: Path | None) -> Compiled:
  """Compiles a program, or reads its result from the folder `cache`."""
  path = cache / f'{program.key}.json.gz' if cache else None
  if path and path.is_file():
    return Compiled(**json.loads(gzip.decompress(path.read_bytes())))
  began = time.perf_counter()
  text, memory, refusal = '', {}, ''
  try:
    executable = program.lowered.compile()
    text, sizes = hlo.strip(executable.as_text()), executable.memory_analysis()
    memory = {name: getattr(sizes, theirs) for name, theirs in _SIZES.items()}
  except jax.errors.JaxRuntimeError as error:
    if not str(error).startswith('RESOURCE_EXHAUSTED'):
      raise
    refusal = str(error)
  versions = compilers.versions(program.topology.chip.platform)
  result = Compiled(text, memory, refusal, time.perf_counter() - began, versions)
  if path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f'.{os.getpid()}')
    partial.write_bytes(gzip.compress(json.dumps(result._asdict()).encode(), 6))
    partial.replace(path)
  return result


def _needed(refusal: str) -> int:
  """Bytes a refused program needs, from libtpu's message; 0 if it does not say.

  "... the total memory required for HLO temporaries (670.62G) exceeds available HBM (15.75G)" and
  "Used 34.50G of 15.75G hbm" are two of its forms.
  """
  used = r'Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm'
  exceeds = r'\(([\d.]+)([KMGT]?)\) exceeds available'
  found = re.search(used, refusal) or re.search(exceeds, refusal)
  return int(float(found[1]) * _UNITS[found[2]]) if found else 0


def available(topology: Topology) -> float:
  """Bytes of one device that a step may use; 0 where that is not known (a CPU)."""
  if topology.chip.platform != 'cuda':
    return topology.chip.memory
  name, share = GPU_SHARE
  return topology.chip.memory * float(os.environ.get(name, share))
