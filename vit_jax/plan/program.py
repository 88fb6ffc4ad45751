"""The train step compiled ahead of time, for chips that need not be here.

The step is the one that `vit_jax train` takes: `training.setup.assemble` builds it, and only its
inputs are abstract. What the compiler made of it is kept by the hash of all that went in.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from vit_jax.config import Experiment
from vit_jax.parallel import mesh as meshes
from vit_jax.plan import hlo, topology
from vit_jax.plan.chips import gpu_target
from vit_jax.plan.topology import Topology
from vit_jax.training.setup import Setup, assemble
from vit_jax.training.step import compiler_options

# What JAX takes of a GPU's memory unless told otherwise (its page "GPU memory allocation").
GPU_SHARE = ('XLA_PYTHON_CLIENT_MEM_FRACTION', 0.75)
_UNITS = {'': 1, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}


@dataclass(frozen=True)
class Program:
  """The step, lowered for a topology."""

  setup: Setup
  topology: Topology
  lowered: Any  # jax.stages.Lowered

  @property
  def text(self) -> str:
    """StableHLO."""
    return self.lowered.as_text()

  @property
  def key(self) -> str:
    """Hash of the program, of the devices it is for and where they lie, and of the compilers."""
    mesh = self.setup.mesh
    chip = self.topology.chip
    parts = [
      self.text,
      self.topology.name,
      gpu_target(chip) if chip.platform == 'cuda' else '',
      list(mesh.shape.items()),
      [device.id for device in mesh.devices.flat],
      topology.versions(chip.platform),
      compiler_options(mesh),
      os.environ.get('XLA_FLAGS', ''),
      os.environ.get('LIBTPU_INIT_ARGS', ''),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Compiled:
  """What the compiler said, as it is kept: bytes are those of one device."""

  hlo: str  # the optimised module; empty where it ran out of memory
  memory: dict[str, int]  # arguments, outputs, aliased, temporaries, code
  out_of_memory: str  # the compiler's words, or empty
  seconds: float  # that compiling took
  versions: dict[str, str]

  @property
  def bytes(self) -> int:
    """That the step needs at once."""
    if self.out_of_memory:
      return _needed(self.out_of_memory)
    m = self.memory
    return m['arguments'] + m['outputs'] - m['aliased'] + m['temporaries'] + m['code']


def lower(
  x: Experiment, place: Topology, devices: Sequence[Any], num_examples: int, num_classes: int
) -> Program:
  """Traces the train step of `x` for `devices`; nothing is allocated.

  Raises:
    UserError: keys that do not fit each other or the devices.
  """
  x = dataclasses.replace(x, model=_without_cudnn(x.model))
  mesh = meshes.make_mesh(x.mesh, devices)
  meshes.check_batch(x.batch_size, mesh, 'config.batch_size', x.optim.accumulate)
  setup = assemble(x, Path(), mesh, None, num_examples, num_classes)
  return Program(
    setup,
    place,
    setup.train_step().lower(setup.abstract_state, setup.abstract_batch, *setup.abstract_frozen),
  )


def _without_cudnn(model: Any) -> Any:
  """cuDNN's attention compiles on a card only; XLA's stands for it."""
  if model.options.get('attention') == 'cudnn':
    return dataclasses.replace(model, options={**model.options, 'attention': 'xla'})
  return model


def compiled(program: Program, cache: Path | None) -> Compiled:
  """Compiles, or reads what was kept of the same program in the folder `cache`."""
  path = cache / f'{program.key}.json.gz' if cache else None
  if path and path.is_file():
    return Compiled(**json.loads(gzip.decompress(path.read_bytes())))
  began = time.perf_counter()
  text, memory, refusal = '', {}, ''
  try:
    executable = program.lowered.compile()
    text, memory = hlo.strip(executable.as_text()), _memory(executable.memory_analysis())
  except jax.errors.JaxRuntimeError as error:
    if not str(error).startswith('RESOURCE_EXHAUSTED'):
      raise
    refusal = str(error)
  result = Compiled(
    text,
    memory,
    refusal,
    time.perf_counter() - began,
    topology.versions(program.topology.chip.platform),
  )
  if path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f'.{os.getpid()}')
    partial.write_bytes(gzip.compress(json.dumps(dataclasses.asdict(result)).encode(), 6))
    partial.replace(path)
  return result


def _memory(analysis: Any) -> dict[str, int]:
  return {
    'arguments': analysis.argument_size_in_bytes,
    'outputs': analysis.output_size_in_bytes,
    'aliased': analysis.alias_size_in_bytes,
    'temporaries': analysis.temp_size_in_bytes,
    'code': analysis.generated_code_size_in_bytes,
  }


def _needed(refusal: str) -> int:
  """Bytes a refused program needs, from libtpu's words; 0 if they do not say.

  "... the total memory required for HLO temporaries (670.62G) exceeds available HBM (15.75G)" and
  "Used 34.50G of 15.75G hbm" are two of its forms.
  """
  for pattern in (
    r'Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm',
    r'\(([\d.]+)([KMGT]?)\) exceeds available',
  ):
    found = re.search(pattern, refusal)
    if found:
      return int(float(found[1]) * _UNITS[found[2]])
  return 0


def available(place: Topology) -> float:
  """Bytes of one device that a step may use; 0 where that is not known (a CPU)."""
  if place.chip.platform != 'cuda':
    return place.chip.memory
  name, share = GPU_SHARE
  return place.chip.memory * float(os.environ.get(name, share))
