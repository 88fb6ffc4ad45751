"""What accelerators can do, by their makers' pages, and what cloud services call them.

Rates are per JAX device, which is half a chip on TPU v2, v3 and TPU7x.
"""

from typing import NamedTuple

CLOUD_TPU = 'https://docs.cloud.google.com/tpu/docs/'
NVIDIA = 'https://www.nvidia.com/en-us/data-center/'
GIB = 1 << 30


class Cloud(NamedTuple):
  """Names of a TPU in Google Cloud.

  From its public documentation: node selectors of "Plan TPUs in GKE", accelerator types and
  runtime versions of "TPU versions" and "Cloud TPU software versions"; not yet run here.
  """

  selector: str  # cloud.google.com/gke-tpu-accelerator
  accelerator: str  # prefix of an accelerator type
  cores: int  # that one chip counts for in an accelerator type
  runtime: str  # software version of a TPU VM
  one_host: tuple[str, ...]  # topologies that are a single host


class Chip(NamedTuple):
  """One device. Bandwidths are bytes/s; those of links count one direction, all links together.

  `near` joins the chips of a TPU slice or the GPUs of a node, `far` the slices or nodes. A chip
  without these figures (0) can be trained on, but not planned for.
  """

  platform: str  # as JAX names the plugin: tpu, cuda, cpu
  kind: str  # as JAX names the device, or how that name begins
  axes: int  # of a topology
  peak: float  # dense bf16 FLOP/s, without structured sparsity
  memory: int = 0  # bytes that a program may use at most
  bandwidth: float = 0.0  # of that memory
  near: float = 0.0
  far: float = 0.0
  source: str = ''
  devices: int = 1  # JAX devices per chip
  cloud: Cloud | None = None


# TPU memory is what libtpu says a program may use when it refuses one (libtpu 0.0.52); the
# datasheets say 32, 16, 95, 32 and 192 per chip. The first kind that fits a device's name counts.
CHIPS = {
  'v2': Chip('tpu', 'TPU v2', 2, 45e12 / 2, devices=2),
  'v3': Chip('tpu', 'TPU v3', 2, 123e12 / 2, devices=2),
  'v4': Chip(
    'tpu', 'TPU v4', 3, 275e12, int(30.75 * GIB), 1200e9, 300e9, 6.25e9, CLOUD_TPU + 'v4',
    cloud=Cloud('tpu-v4-podslice', 'v4', 2, 'tpu-ubuntu2204-base', ('2x2x1',)),
  ),
  'v5e': Chip(
    'tpu', 'TPU v5 lite', 2, 197e12, int(15.75 * GIB), 819e9, 200e9, 3.125e9, CLOUD_TPU + 'v5e',
    cloud=Cloud(
      'tpu-v5-lite-podslice', 'v5litepod', 1, 'v2-alpha-tpuv5-lite', ('1x1', '2x2', '2x4')
    ),
  ),
  'v5p': Chip(
    'tpu', 'TPU v5', 3, 459e12, int(95.73 * GIB), 2765e9, 600e9, 6.25e9, CLOUD_TPU + 'v5p',
    cloud=Cloud('tpu-v5p-slice', 'v5p', 2, 'v2-alpha-tpuv5', ('2x2x1',)),
  ),
  'v6e': Chip(
    'tpu', 'TPU v6 lite', 2, 918e12, int(31.24 * GIB), 1638e9, 400e9, 12.5e9, CLOUD_TPU + 'v6e',
    cloud=Cloud('tpu-v6e-slice', 'v6e', 1, 'v2-alpha-tpuv6e', ('1x1', '2x2', '2x4')),
  ),
  'tpu7x': Chip(
    'tpu', 'TPU7x', 3, 2307e12 / 2, int(94.74 * GIB), 7380e9 / 2, 600e9 / 2, 12.5e9 / 2,
    CLOUD_TPU + 'tpu7x', devices=2,
  ),
  'a100': Chip('cuda', 'NVIDIA A100', 2, 312e12),
  # near: NVLink 4, 900 GB/s in both directions; far: one 400 Gb/s adapter per GPU, as in NVIDIA's
  # DGX H100 and H200 systems.
  'h100': Chip(
    'cuda', 'NVIDIA H100', 2, 989e12, 84_942_979_072, 3352e9, 450e9, 50e9, NVIDIA + 'h100/'
  ),
  'h200': Chip(
    'cuda', 'NVIDIA H200', 2, 989e12, 143_771 << 20, 4800e9, 450e9, 50e9, NVIDIA + 'h200/'
  ),
  'b200': Chip('cuda', 'NVIDIA B200', 2, 2250e12),
  # No datasheet: for tests, and to look at a program's collectives without any plugin.
  'cpu': Chip('cpu', 'cpu', 1, 0.0),
}  # fmt: skip


def datasheet_peak(kind: str) -> float | None:
  """Dense bf16 FLOP/s of a device that JAX calls `kind`; None for a CPU or an unknown chip."""
  return next((chip.peak for chip in CHIPS.values() if kind.startswith(chip.kind)), None) or None
