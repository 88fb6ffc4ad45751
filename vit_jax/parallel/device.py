"""The peak rate of a device, by datasheet or measured, and the memory settings of a CPU."""

import ctypes
import glob
import os
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.parallel import chips


def measured_matmul_rate(dtype: str = 'float32', seconds: float = 0.3) -> float:
  """FLOP/s of one device on a product of a transformer's size, the fastest run in `seconds`."""
  m, k, n = (3152, 768, 3072) if jax.default_backend() == 'cpu' else (8192, 8192, 8192)
  rng = np.random.default_rng(0)  # JAX's would need compiling
  a_MK = jnp.asarray(rng.standard_normal((m, k), np.float32), dtype)
  b_KN = jnp.asarray(rng.standard_normal((k, n), np.float32), dtype)
  multiply = jax.jit(jnp.matmul)
  multiply(a_MK, b_KN).block_until_ready()
  times, start = [], time.perf_counter()
  while len(times) < 3 or time.perf_counter() - start < seconds:
    before = time.perf_counter()
    multiply(a_MK, b_KN).block_until_ready()
    times.append(time.perf_counter() - before)
  return 2.0 * m * k * n / min(times)


def device_peak(dtype: str = 'float32') -> float:
  """The peak FLOP/s of one device: by datasheet; on a CPU, its share of the measured rate."""
  peak = chips.datasheet_peak(jax.devices()[0].device_kind)
  return peak or measured_matmul_rate(dtype) / jax.local_device_count()


def why_above_peak() -> str:
  """Why steps may be faster than `device_peak` says is possible."""
  kind = jax.devices()[0].device_kind
  if chips.datasheet_peak(kind):
    return (
      f'over 100% of peak: {kind} is faster than its datasheet, or it is taken for another chip '
      '(vit_jax/parallel/chips.py); shares of the peak are too high'
    )
  return (
    'over 100% of peak: the peak is the speed of a float32 product at the start, when other work '
    'may have slowed it; shares of the peak are too high'
  )


def keep_cpu_memory(huge_pages: bool = True) -> None:
  """Keeps memory once used in the process (on a CPU under Linux).

  XLA allocates fresh buffers each step and for parts of one. The C library would return them to the
  system, and every page would fault again: a quarter of a step of ViT-Ti/16. Steps run in the
  caller's thread, because each one in flight would keep its own buffers. Has no effect after JAX
  has initialized its devices.

  Args:
    huge_pages: of a heap that is set aside. They pay after some steps; a short command is done
      sooner without.
  """
  libc = ctypes.CDLL(None) if sys.platform == 'linux' else None
  if not hasattr(libc, 'mallopt') or _accelerator_in_sight():  # musl lacks it
    return
  jax.config.update('jax_cpu_enable_async_dispatch', False)
  # A collective blocks a thread until all devices arrive: each fake device needs one.
  devices = jax.config.jax_num_cpu_devices  # pyright: ignore[reportAttributeAccessIssue]
  if devices > (os.cpu_count() or 1):
    os.environ.setdefault('PJRT_NPROC', str(devices))
  for parameter, value in _MALLOPT.values():
    libc.mallopt(parameter, value)
  if not huge_pages:
    return
  # A heap of half the machine's memory, untouched so far.
  libc.malloc.restype = ctypes.c_void_p
  size = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // 2
  start = libc.malloc(ctypes.c_size_t(size))
  if start:
    aligned = -(-start // HUGE_PAGE) * HUGE_PAGE
    length = (start + size - aligned) // HUGE_PAGE * HUGE_PAGE
    libc.madvise(ctypes.c_void_p(aligned), ctypes.c_size_t(length), MADV_HUGEPAGE)
    libc.free(ctypes.c_void_p(start))


# Parameters of mallopt(3): one heap for all threads, nothing by mmap, never shrink it.
_MALLOPT = {'M_ARENA_MAX': (-8, 1), 'M_MMAP_MAX': (-4, 0), 'M_TRIM_THRESHOLD': (-1, -1)}
HUGE_PAGE, MADV_HUGEPAGE = 1 << 21, 14  # madvise(2), linux/mman.h


def _accelerator_in_sight() -> bool:
  """Whether JAX may use something other than the CPU; does not initialize it."""
  platforms = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
  if platforms:
    return platforms != 'cpu'
  return any(
    glob.glob(node) for node in ('/dev/nvidia[0-9]*', '/dev/accel*', '/dev/vfio/[0-9]*', '/dev/kfd')
  )
