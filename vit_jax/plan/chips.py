"""What chips can do, from their makers' pages, for as much of it as a plan needs.

Rates are for one JAX device, which on TPU7x is half a chip (one of two chiplets).
"""

from __future__ import annotations

from typing import NamedTuple

from vit_jax.parallel.device import DATASHEET_BF16

CLOUD_TPU = 'https://docs.cloud.google.com/tpu/docs/'
GIB = 1 << 30


class Chip(NamedTuple):
  """One device. Bandwidths are bytes/s; those of links count one direction, all links together.

  `near` joins the chips of a TPU slice or the GPUs of a node, `far` the slices or nodes.
  """

  platform: str  # as JAX names the plugin: tpu, cuda, cpu
  kind: str  # as JAX names the device
  peak: float  # dense bf16 FLOP/s
  memory: int  # bytes a program may use at most
  bandwidth: float  # of that memory
  near: float
  far: float
  source: str
  devices: int = 1  # JAX devices a chip


def _tpu(
  kind: str,
  sheet: str,
  memory: float,
  bandwidth: float,
  near: float,
  far: float,
  page: str,
  devices: int = 1,
) -> Chip:
  return Chip(
    'tpu',
    kind,
    DATASHEET_BF16[sheet] / devices,
    int(memory * GIB),
    bandwidth / devices,
    near / devices,
    far / devices,
    CLOUD_TPU + page,
    devices,
  )


# TPU memory is what libtpu says a program may use when it refuses one (libtpu 0.0.52); the
# datasheets say 32, 16, 95, 32 and 192 a chip.
CHIPS = {
  'v4': _tpu('TPU v4', 'TPU v4', 30.75, 1200e9, 300e9, 6.25e9, 'v4'),
  'v5e': _tpu('TPU v5 lite', 'TPU v5 lite', 15.75, 819e9, 200e9, 3.125e9, 'v5e'),
  'v5p': _tpu('TPU v5', 'TPU v5p', 95.73, 2765e9, 600e9, 6.25e9, 'v5p'),
  'v6e': _tpu('TPU v6 lite', 'TPU v6 lite', 31.24, 1638e9, 400e9, 12.5e9, 'v6e'),
  'tpu7x': _tpu('TPU7x', 'TPU7x', 94.74, 7380e9, 600e9, 12.5e9, 'tpu7x', devices=2),
  # near: NVLink 4, 900 GB/s in both directions; far: one 400 Gb/s adapter a GPU, as in NVIDIA's
  # DGX H100 and H200 systems.
  'h100': Chip(
    'cuda',
    'NVIDIA H100 80GB HBM3',
    DATASHEET_BF16['NVIDIA H100'],
    84_942_979_072,
    3352e9,
    450e9,
    50e9,
    'https://www.nvidia.com/en-us/data-center/h100/',
  ),
  'h200': Chip(
    'cuda',
    'NVIDIA H200',
    DATASHEET_BF16['NVIDIA H200'],
    143_771 << 20,
    4800e9,
    450e9,
    50e9,
    'https://www.nvidia.com/en-us/data-center/h200/',
  ),
  # No datasheet: for tests, and to look at a program's collectives without any plugin.
  'cpu': Chip('cpu', 'cpu', 0.0, 0, 0.0, 0.0, 0.0, ''),
}

# What XLA's GPU compiler asks of a Hopper card, as a GpuTargetConfig text proto. Measured on no
# card: from NVIDIA's H100 datasheet and the CUDA programming guide's table of compute capability
# 9.0. An H200 is the same chip with other memory.
GPU_TARGET = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: {bandwidth} l2_cache_size: 52428800 device_memory_size: {memory}
  cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }}
  device_vendor: "NVIDIA" name: "{name}" platform_version: "12.8"
  driver_version: "12.8.0" runtime_version: "12.8.0" compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.10.0" device_interconnect_info {{ active_links: 18 }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{name}"
"""


def gpu_target(chip: Chip) -> str:
  """The GpuTargetConfig text of a Hopper card."""
  return GPU_TARGET.format(name=chip.kind, memory=chip.memory, bandwidth=int(chip.bandwidth))
