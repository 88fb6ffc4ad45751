"""What a device can do: its datasheet, what it does when asked, and a CPU's memory kept warm."""

from __future__ import annotations

import ctypes
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

# Dense bf16 FLOP/s of one chip, from the makers' datasheets (without structured sparsity).
DATASHEET_BF16 = {
    'NVIDIA A100': 312e12,
    'NVIDIA H100': 989e12,
    'NVIDIA H200': 989e12,
    'NVIDIA B200': 2250e12,
    'TPU v2': 45e12,
    'TPU v3': 123e12,
    'TPU v4': 275e12,
    'TPU v5 lite': 197e12,
    'TPU v5p': 459e12,
    'TPU v6 lite': 918e12,
    'TPU7x': 2307e12,
}


def datasheet_peak() -> float | None:
  """bf16 FLOP/s of one chip, or None where we hold no datasheet (CPUs among them)."""
  kind = jax.devices()[0].device_kind
  return next((peak for name, peak in DATASHEET_BF16.items() if kind.startswith(name)), None)


def measured_matmul_rate(dtype: str = 'float32', seconds: float = 0.3) -> float:
  """FLOP/s of one device on a transformer-sized product: (3152, 768) x (768, 3072) on a CPU,
  8192 cubed elsewhere. The best of the runs that fit into `seconds`."""
  m, k, n = (3152, 768, 3072) if jax.default_backend() == 'cpu' else (8192, 8192, 8192)
  key = jax.random.key(0)
  a_MK = jax.random.normal(key, (m, k), dtype)
  b_KN = jax.random.normal(key, (k, n), dtype)
  multiply = jax.jit(jnp.matmul)
  multiply(a_MK, b_KN).block_until_ready()
  times, start = [], time.perf_counter()
  while len(times) < 3 or time.perf_counter() - start < seconds:
    before = time.perf_counter()
    multiply(a_MK, b_KN).block_until_ready()
    times.append(time.perf_counter() - before)
  return 2.0 * m * k * n / float(np.min(times))


def device_peak(dtype: str = 'float32') -> float:
  """The rate that 'fraction of peak' is a fraction of, in FLOP/s for one device.

  The datasheet's for accelerators; on a CPU the measured rate, which all of this process's
  devices share.
  """
  return datasheet_peak() or measured_matmul_rate(dtype) / jax.local_device_count()


def keep_cpu_memory() -> None:
  """On a CPU under Linux: memory once used stays with the process. Call before any computation.

  XLA takes fresh buffers each step; the C library would give them back to the system, and every
  page would be faulted in anew. Steps run in the caller's thread, or those in flight would each
  keep buffers of their own.
  """
  if jax.default_backend() != 'cpu' or sys.platform != 'linux':
    return
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)  # glibc has it, musl has not
  if mallopt is not None:
    jax.config.update('jax_cpu_enable_async_dispatch', False)
    for parameter, value in _MALLOPT.values():
      mallopt(parameter, value)


# Parameters of mallopt(3): one heap for all threads, nothing by mmap, never shrink it.
_MALLOPT = {'M_ARENA_MAX': (-8, 1), 'M_MMAP_MAX': (-4, 0), 'M_TRIM_THRESHOLD': (-1, -1)}
