"""Memory of a CPU process: kept from step to step, so that no page is faulted in twice."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, statistics, sys
from vit_jax.parallel import device
if sys.argv[1] != 'leave':
  device.keep_cpu_memory(huge_pages=sys.argv[1] == 'huge')
import jax
import jax.numpy as jnp

@jax.jit
def step(x):  # a buffer of 64 MB in between
  return x[:2] @ jnp.sin(x)

x = jnp.ones((4096, 4096))
faults = []
for _ in range(12):
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  step(x).block_until_ready()
  faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
# The heap grows in the first steps, and once more when a buffer is freed late.
print(statistics.median_low(faults[-5:]))
"""


def faults(mode: str) -> int:
  """Page faults of a step once the heap has grown, in a process of its own."""
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, mode], check=True, capture_output=True, text=True
  )
  return int(done.stdout)


@pytest.mark.skipif(sys.platform != 'linux', reason='mallopt is of glibc, madvise of Linux')
def test_a_step_faults_in_no_page_again():
  assert max(faults('huge'), faults('small')) < 100 < 10_000 < faults('leave')
