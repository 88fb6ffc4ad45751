"""Devices that are not here: TPU slices through libtpu, GPU nodes through the CUDA plugin."""

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template
from typing import Any

import jax
from jax.experimental import topologies

from vit_jax.errors import UserError
from vit_jax.parallel.chips import CHIPS, Chip
from vit_jax.parallel.topology import EXAMPLES, Topology

# What libtpu would ask the metadata server of a TPU machine for, and complain about without one.
# No plan takes a chip, so several may be made at the same time.
_NO_TPU_MACHINE = {
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'TPU_STDERR_LOG_LEVEL': '3',
  'TPU_MIN_LOG_LEVEL': '3',
}
# Platform -> package -> module.
PACKAGES = {
  'tpu': {'libtpu': 'libtpu'},
  'cuda': {'jax-cuda13-plugin': 'jax_cuda13_plugin', 'jax-cuda13-pjrt': 'jax_plugins.xla_cuda13'},
  'cpu': {},
}
CUDNN = 91_000  # 9.10.0, as in gpu.textproto


@contextlib.contextmanager
def described(chip: Chip) -> Iterator[None]:
  """Lets JAX lower cuDNN's attention for a GPU that is not here; it would ask the one that is."""
  if not chip.card:
    yield
    return
  capability = chip.card.capability
  module = importlib.import_module('jax._src.cudnn.fused_attention_stablehlo')
  answers = {
    'check_cudnn_version': lambda: CUDNN,
    'check_compute_capability': lambda least: _version(least) <= capability,
    'is_cuda_compute_capability_equal': lambda asked: _version(asked) == capability,
  }
  before = {name: getattr(module, name) for name in answers if hasattr(module, name)}
  try:
    for name in before:
      setattr(module, name, answers[name])
    yield
  finally:
    for name, function in before.items():
      setattr(module, name, function)


def _version(text: str) -> tuple[int, ...]:
  return tuple(map(int, text.split('.')))


def gpu_target(chip: Chip) -> str:
  """The GpuTargetConfig text of a card."""
  assert chip.card, chip.kind
  template = Template(Path(__file__).with_name('gpu.textproto').read_text())
  major, minor = chip.card.capability
  return template.substitute(
    chip.card._asdict(),
    major=major,
    minor=minor,
    # Instructions of one architecture only, as sm_90a has them.
    extension='ACCELERATED_FEATURES' if major >= 9 else 'NONE',
    optin=chip.card.shared - 1024,
    memory=chip.memory,
    bandwidth=int(chip.bandwidth),
  )


@functools.cache
def devices(topology: Topology) -> Sequence[Any]:
  """The devices of a topology, to compile for and nothing else. Call before JAX starts a backend.

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
  require(topology.chip)
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
      platform='tpu', topology_name=topology.name.split('*')[-1], **_tpu_options(topology)
    ).devices
  except (RuntimeError, ValueError) as error:  # jax.errors.JaxRuntimeError among them
    words = str(error).split('\n')[0]
    raise UserError(
      f'--topology: {topology.name} cannot be described to the compiler: {words}; write one '
      f'such as {EXAMPLES}'
    ) from error


def _tpu_options(topology: Topology) -> dict[str, Any]:
  options: dict[str, Any] = {'num_slices': topology.groups} if topology.groups > 1 else {}
  if topology.chip.kind == 'TPU v4':  # two cores that work as one, four chips per host
    options |= {'chip_config_name': 'megacore', 'chips_per_host_bounds': [2, 2, 1]}
  return options


def require(chip: Chip) -> None:
  """Checks that a chip can be planned for.

  Raises:
    UserError: its figures are unknown, or its compiler is not installed: with the command for that.
  """
  if chip.peak and not chip.memory:
    known = ', '.join(name for name, chip in CHIPS.items() if chip.memory)
    raise UserError(f'--topology: plan has no memory and bandwidth of {chip.kind}; known: {known}')
  packages = PACKAGES[chip.platform]
  missing = [package for package, module in packages.items() if not _installed(module)]
  if missing:
    chips = ' and '.join(n for n, c in CHIPS.items() if c.platform == chip.platform and c.memory)
    pinned = ' '.join(f"'{package}{pin(package)}'" for package in missing)
    raise UserError(
      f'plan compiles for {chips} with {" and ".join(missing)}, which is not installed (no '
      f'accelerator or driver is needed); run: pip install --no-deps {pinned}'
    )


def _installed(module: str) -> bool:
  try:
    return importlib.util.find_spec(module) is not None
  except ModuleNotFoundError:
    return False


def pin(package: str) -> str:
  """'==VERSION' of a plugin that fits this jax; for libtpu it is in jax's own metadata."""
  if package != 'libtpu':
    return f'=={jax.__version__}'
  lines = [line for line in importlib.metadata.requires('jax') or () if line.startswith(package)]
  return lines[0].removeprefix(package).partition(';')[0].strip() if lines else ''


def versions(platform: str) -> dict[str, str]:
  """Versions of what compiles for a platform."""
  names = ('jax', 'jaxlib', *PACKAGES[platform])
  return {name: importlib.metadata.version(name) for name in names}
