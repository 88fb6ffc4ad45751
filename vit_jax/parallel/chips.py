"""What accelerators can do, by their makers' pages, and what cloud services call them.

Rates are per JAX device, which is half a chip on TPU v2, v3 and TPU7x.
"""

from typing import NamedTuple

CLOUD_TPU = 'https://docs.cloud.google.com/tpu/docs/'
NVIDIA = 'https://www.nvidia.com/en-us/data-center/'
GIB = 1 << 30


def above_peak(share: float) -> bool:
  """Whether a share of the peak is more than 100 % when it is shown in whole per cent."""
  return share >= 1.005


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


class Card(NamedTuple):
  """What XLA's compiler asks of a GPU beside memory and bandwidth.

  From NVIDIA's CUDA programming guide (table of compute capabilities) and whitepapers; the A100's
  and B200's as XLA's repository has them (xla/backends/gpu/target_config/specs). Of each
  multiprocessor, but for the L2 cache.
  """

  name: str  # of the card, where a chip's kind is only the beginning
  capability: tuple[int, int]
  multiprocessors: int
  clock_ghz: float
  l2: int  # bytes
  units: int = 128  # for float32
  threads: int = 2048
  shared: int = 233_472  # bytes; a block may have 1 KiB less
  nvlinks: int = 18


class Chip(NamedTuple):
  """One device. Bandwidths are bytes/s; those of links count one direction, all links together.

  `near` joins the chips of a TPU slice or the GPUs of a node, `far` the slices or nodes. A chip
  without memory (0) can be trained on, but not planned for; without `far`, only one group of it.
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
  card: Card | None = None


A100 = Card('NVIDIA A100-SXM4-40GB', (8, 0), 108, 1.41, 40 << 20, 64, 2048, 167_936, 12)
H100 = Card('NVIDIA H100 80GB HBM3', (9, 0), 132, 1.98, 50 << 20)

# TPU memory is what libtpu says a program may use when it refuses one (libtpu 0.0.52); the
# datasheets say 32, 16, 95, 32 and 192 per chip. The first kind that fits a device's name counts.
CHIPS = {
  'v2': Chip('tpu', 'TPU v2', 2, 45e12 / 2, devices=2),
  # Jouppi et al. 2020 (doi:10.1145/3360307): four links of 656 Gbit/s in each direction.
  'v3': Chip(
    'tpu', 'TPU v3', 2, 123e12 / 2, int(15.48 * GIB), 900e9 / 2, 328e9 / 2, 0.0, CLOUD_TPU + 'v3',
    devices=2,
  ),
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
  # near: NVLink, half of what NVIDIA counts in both directions, or PCIe 4.0 x16 on GeForce; far: an
  # adapter per GPU of 200 Gb/s (DGX A100) or 400 Gb/s (DGX H100, H200 and B200).
  'a100-40': Chip(
    'cuda', 'NVIDIA A100-SXM4-40GB', 2, 312e12, 42_331_013_120, 1555e9, 300e9, 25e9,
    NVIDIA + 'a100/', card=A100,
  ),
  'a100': Chip(
    'cuda', 'NVIDIA A100', 2, 312e12, 85_100_068_864, 2039e9, 300e9, 25e9, NVIDIA + 'a100/',
    card=A100._replace(name='NVIDIA A100-SXM4-80GB'),
  ),
  'h100': Chip(
    'cuda', 'NVIDIA H100', 2, 989e12, 84_942_979_072, 3352e9, 450e9, 50e9, NVIDIA + 'h100/',
    card=H100,
  ),
  'h200': Chip(
    'cuda', 'NVIDIA H200', 2, 989e12, 143_771 << 20, 4800e9, 450e9, 50e9, NVIDIA + 'h200/',
    card=H100._replace(name='NVIDIA H200'),
  ),
  'b200': Chip(
    'cuda', 'NVIDIA B200', 2, 2250e12, 191_514_411_008, 8000e9, 900e9, 50e9, NVIDIA + 'dgx-b200/',
    card=Card('NVIDIA B200', (10, 0), 148, 1.965, 132_644_864),
  ),
  # Tensor cores that add in float32 have half of their full rate on GeForce.
  'rtx3090': Chip(
    'cuda', 'NVIDIA GeForce RTX 3090', 2, 71.2e12, 24 * GIB, 936e9, 31.5e9, 0.0,
    'NVIDIA Ampere GA102 whitepaper, table 9',
    card=Card('NVIDIA GeForce RTX 3090', (8, 6), 82, 1.695, 6 << 20, 128, 1536, 102_400, 0),
  ),
  'rtx4090': Chip(
    'cuda', 'NVIDIA GeForce RTX 4090', 2, 165.2e12, 24 * GIB, 1008e9, 31.5e9, 0.0,
    'NVIDIA Ada whitepaper, table 2',
    card=Card('NVIDIA GeForce RTX 4090', (8, 9), 128, 2.52, 72 << 20, 128, 1536, 102_400, 0),
  ),
  # No datasheet: for tests, and to look at a program's collectives without any plugin.
  'cpu': Chip('cpu', 'cpu', 1, 0.0),
}  # fmt: skip


def datasheet_peak(kind: str) -> float | None:
  """Dense bf16 FLOP/s of a device that JAX calls `kind`; None for a CPU or an unknown chip."""
  chip = chip_of(kind)
  return (chip and chip.peak) or None


def chip_of(kind: str) -> Chip | None:
  """The chip of a device that JAX calls `kind`."""
  for chip in CHIPS.values():
    # The Ti, the D and the laptop's card of a GeForce are other chips.
    if kind == chip.kind or (kind.startswith(chip.kind) and 'GeForce' not in kind):
      return chip
  return None
