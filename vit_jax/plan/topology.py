"""Devices that are not here: TPU slices through libtpu, GPU nodes through the CUDA plugin."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import topologies

from vit_jax.errors import UserError, nearest
from vit_jax.plan.chips import CHIPS, Chip, gpu_target

GPUS_A_NODE = 8
# What libtpu would ask the metadata server of a TPU machine for, and complain about without one. No
# plan takes a chip, so several may be made at a time.
_NO_TPU_MACHINE = {
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'TPU_STDERR_LOG_LEVEL': '3',
  'TPU_MIN_LOG_LEVEL': '3',
}
EXAMPLES = 'v5e:16x16, v5p:4x4x4, 2*v6e:16x16, h100:8 or h200:8x4 (GPUs a node x nodes)'


@dataclass(frozen=True)
class Topology:
  """Chips and how they are joined: `groups` slices or nodes of `shape` chips each."""

  name: str  # as the user wrote it
  chip: Chip
  shape: tuple[int, ...]
  groups: int

  @property
  def chips(self) -> int:
    return math.prod(self.shape) * self.groups

  @property
  def group_devices(self) -> int:
    """JAX devices of one slice or node: those with the fast links between them."""
    return math.prod(self.shape) * self.chip.devices


def parse(text: str) -> Topology:
  """The topology of [SLICES*]TPU:AxB[xC], GPU:GPUS[xNODES] or cpu:DEVICES.

  Raises:
    UserError: an unknown chip, or a shape it does not come in.
  """
  found = re.fullmatch(r'(?:(\d+)\*)?([a-z]+\d*[a-z]*):(\d+(?:x\d+)*)', text)
  if not found:
    raise UserError(f'--topology: {text!r} is not a topology; write one such as {EXAMPLES}')
  slices, name, sizes = found.groups()
  if name not in CHIPS:
    raise UserError(f'--topology: {name!r} is not a chip that plan knows; {nearest(name, CHIPS)}')
  chip, shape = CHIPS[name], tuple(int(size) for size in sizes.split('x'))
  axes = {'tpu': 3 if name in ('v4', 'v5p', 'tpu7x') else 2, 'cuda': 2, 'cpu': 1}[chip.platform]
  if 0 in shape or (len(shape) != axes if chip.platform == 'tpu' else len(shape) > axes):
    raise UserError(
      f'--topology: {text!r} has not the shape of {name}, which is '
      f'{"x".join("ABC"[:axes])}; write one such as {EXAMPLES}'
    )
  if slices and chip.platform != 'tpu':
    raise UserError(f'--topology: {text!r} counts slices, which only TPUs come in')
  if chip.platform == 'tpu':
    return Topology(text, chip, shape, int(slices or 1))
  if chip.platform == 'cuda' and shape[0] > GPUS_A_NODE:
    raise UserError(
      f'--topology: {text!r} has {shape[0]} GPUs a node, but a node holds '
      f'{GPUS_A_NODE}; GPUs a node come first, nodes second, as in {name}:8x32'
    )
  return Topology(text, chip, shape[:1], math.prod(shape[1:]))


def devices(topology: Topology) -> Sequence[Any]:
  """Its devices, which can be compiled for and nothing else. Call before JAX starts a backend.

  Raises:
    UserError: the plugin of the platform is not installed, or there is no such topology.
  """
  platform = topology.chip.platform
  if platform == 'cpu':
    found = jax.devices('cpu')
    if len(found) < topology.chips:
      raise UserError(
        f'--topology: {topology.name} is more than the {len(found)} CPU devices of '
        f'this process; set JAX_NUM_CPU_DEVICES={topology.chips}'
      )
    return found[: topology.chips]
  require(platform)
  shape = 'x'.join(map(str, topology.shape))
  try:
    if platform == 'cuda':
      return topologies.get_topology_desc(
        platform='cuda',
        target_config=gpu_target(topology.chip),
        topology=f'1x{topology.groups}x{topology.shape[0]}',
      ).devices
    for name, value in _NO_TPU_MACHINE.items():
      os.environ.setdefault(name, value)
    return topologies.get_topology_desc(
      platform='tpu',
      topology_name=f'{topology.name.split("*")[-1].split(":")[0]}:{shape}',
      **_tpu_options(topology),
    ).devices
  except (RuntimeError, ValueError) as error:  # jax.errors.JaxRuntimeError among them
    words = str(error).split('\n')[0]
    raise UserError(
      f'--topology: {topology.name} cannot be described to the compiler: '
      f'{words}; write one such as {EXAMPLES}'
    ) from error


def _tpu_options(topology: Topology) -> dict[str, Any]:
  options: dict[str, Any] = {'num_slices': topology.groups} if topology.groups > 1 else {}
  if topology.chip.kind == 'TPU v4':  # two cores that work as one, four chips a host
    options |= {'chip_config_name': 'megacore', 'chips_per_host_bounds': [2, 2, 1]}
  return options


PACKAGES = {'tpu': ('libtpu',), 'cuda': ('jax-cuda13-plugin', 'jax-cuda13-pjrt'), 'cpu': ()}
_MODULES = {
  'libtpu': 'libtpu',
  'jax-cuda13-plugin': 'jax_cuda13_plugin',
  'jax-cuda13-pjrt': 'jax_plugins.xla_cuda13',
}


def require(platform: str) -> None:
  """Raises a UserError with the command that installs what this platform's compiler is in."""
  missing = [package for package in PACKAGES[platform] if not _installed(_MODULES[package])]
  if missing:
    chips = ' and '.join(name for name, chip in CHIPS.items() if chip.platform == platform)
    raise UserError(
      f'plan compiles for {chips} with {" and ".join(missing)}, which is not installed (no '
      f'accelerator or driver is needed); run: pip install --no-deps '
      + ' '.join(f"'{package}{pin(package)}'" for package in missing)
    )


def _installed(module: str) -> bool:
  try:
    return importlib.util.find_spec(module) is not None
  except ModuleNotFoundError:
    return False


def pin(package: str) -> str:
  """'==VERSION' that this jax wants of a plugin; libtpu's is told by jax's own metadata."""
  if package != 'libtpu':
    return f'=={jax.__version__}'
  for line in importlib.metadata.requires('jax') or ():
    if line.startswith('libtpu'):
      return line.removeprefix('libtpu').split(';')[0].strip()
  return ''


def versions(platform: str) -> dict[str, str]:
  """Versions of what compiles for a platform."""
  names = ('jax', 'jaxlib', *PACKAGES[platform])
  return {name: importlib.metadata.version(name) for name in names}
