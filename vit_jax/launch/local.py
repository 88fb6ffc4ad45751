"""This host: processes that find each other on 127.0.0.1, watched until all have ended."""

import ctypes
import glob
import itertools
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

from vit_jax.errors import PREEMPTED, USERS_FAULT, UserError
from vit_jax.launch.job import Job

PATIENCE = 10.0  # seconds that the others get to end by themselves after one has died
PR_SET_PDEATHSIG = 1  # prctl(2)


def render(job: Job) -> str:
  """The commands, one per line, as a shell reads them."""
  lines = [
    ' '.join([*(f'{key}={shlex.quote(value)}' for key, value in environment.items()), job.command])
    for environment in environments(job)
  ]
  return ' &\n'.join(lines) + '\n'


def environments(job: Job) -> list[dict[str, str]]:
  """What each process has in its environment in addition to ours."""
  found: list[dict[str, str]] = [{} for _ in range(job.processes)]
  if job.processes > 1:
    address = f'127.0.0.1:{_free_port()}'
    for process, environment in enumerate(found):
      environment |= {
        'JAX_COORDINATOR_ADDRESS': address,
        'JAX_COORDINATOR_BIND_ADDRESS': address,
        'JAX_NUM_PROCESSES': str(job.processes),
        'JAX_PROCESS_ID': str(process),
      }
  if job.gpus_per_node:
    for process, environment in enumerate(found):
      environment['CUDA_VISIBLE_DEVICES'] = ','.join(_ours(job.devices_of(process)))
  return found


def gpus_here() -> int:
  """How many NVIDIA GPUs of this host we may use; none if JAX is set to use something else."""
  if os.environ.get('JAX_PLATFORMS', 'cuda') not in ('cuda', 'gpu'):
    return 0
  found, visible = len(glob.glob('/dev/nvidia[0-9]*')), _visible()
  return found if visible is None or not found else len(visible)


def _visible() -> list[str] | None:
  """The GPUs in CUDA_VISIBLE_DEVICES, up to a -1, where CUDA stops reading; None: not set."""
  text = os.environ.get('CUDA_VISIBLE_DEVICES')
  if text is None:
    return None
  names = (name.strip() for name in text.split(','))
  return list(itertools.takewhile(lambda name: name not in ('', '-1'), names))


def _ours(devices: Sequence[int]) -> list[str]:
  """CUDA's names of GPUs that we count from 0.

  Raises:
    UserError: CUDA_VISIBLE_DEVICES has fewer.
  """
  visible = _visible()
  if visible is None:
    return [str(device) for device in devices]
  if devices[-1] >= len(visible):
    raise UserError(
      f'--gpus_per_node asks for GPU number {devices[-1] + 1}, but '
      f"CUDA_VISIBLE_DEVICES='{','.join(visible)}' leaves this command "
      f'{len(visible)}; ask for no more, or change the variable'
    )
  return [visible[device] for device in devices]


def run(
  job: Job,
  interrupted: threading.Event | None = None,
  label: str = '',
  cores: Sequence[int] = (),
  defaults: Mapping[str, str] = {},
) -> int:
  """Runs the job; returns 0, 75 (every process saved or was done), 1 or 2.

  Args:
    interrupted: set to make the job save and end; by default SIGTERM and Ctrl-C set it.
    label: prefix of each line of output; with several processes their number follows.
    cores: of the CPU, that it may use; by default all of ours.
    defaults: variables for its environment, unless ours has them.
  """
  if interrupted is None:
    with interrupts() as interrupted:
      return run(job, interrupted, label, cores, defaults)
  ours = {**defaults, **os.environ, 'PYTHONUNBUFFERED': '1'}
  argv = [sys.executable, '-m', 'vit_jax', *job.arguments]
  try:
    processes = [
      subprocess.Popen(
        argv,
        env={**ours, **environment},
        text=True,
        errors='replace',
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        preexec_fn=_before_exec(cores),
        start_new_session=True,
      )
      for environment in environments(job)
    ]
  except OSError as error:
    raise UserError(
      f'--processes={job.processes}: a process cannot be started ({error.strerror})'
    ) from None
  names = [label] if job.processes == 1 else [f'{label}[{i}] ' for i in range(job.processes)]
  threads = [
    threading.Thread(target=_copy, args=(process.stdout, name))
    for process, name in zip(processes, names, strict=True)
  ]
  for thread in threads:
    thread.start()
  try:
    return _watch(processes, interrupted)
  finally:
    for process in processes:
      if process.poll() is None:
        process.kill()
      process.wait()
    for thread in threads:
      thread.join()


@contextmanager
def interrupts() -> Iterator[threading.Event]:
  """An event that SIGTERM and the first Ctrl-C set; the second Ctrl-C stops at once."""
  interrupted = threading.Event()

  def handle(signum: int, frame: object) -> None:
    if interrupted.is_set() and signum == signal.SIGINT:
      raise KeyboardInterrupt
    interrupted.set()

  before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield interrupted
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _watch(processes: Sequence[subprocess.Popen], interrupted: threading.Event) -> int:
  """Waits for all to end; passes SIGTERM on, once; after a fault kills those that do not end."""
  forwarded, deadline = False, float('inf')
  while True:
    codes = [process.poll() for process in processes]
    running = [process for process, code in zip(processes, codes, strict=True) if code is None]
    if not running:
      return exit_code([code for code in codes if code is not None])
    if interrupted.is_set() and not forwarded:
      forwarded = True
      for process in running:
        process.send_signal(signal.SIGTERM)
    if deadline == float('inf') and any(code not in (None, 0, PREEMPTED) for code in codes):
      deadline = time.monotonic() + PATIENCE
    if time.monotonic() > deadline:
      for process in running:
        process.kill()
    time.sleep(0.05)


def exit_code(codes: Sequence[int]) -> int:
  """The job's code from those of its processes: a fault outweighs being preempted."""
  if USERS_FAULT in codes:
    return USERS_FAULT
  if any(code not in (0, PREEMPTED) for code in codes):
    return 1
  return PREEMPTED if PREEMPTED in codes else 0


def _copy(lines: IO[str], name: str) -> None:
  for line in lines:
    sys.stdout.write(name + line)  # one write per line: lines of two processes do not mix
    sys.stdout.flush()


def _before_exec(cores: Sequence[int]) -> Callable[[], None] | None:
  """For Linux: the process has these cores, and is sent SIGTERM when this one is killed."""
  if not sys.platform.startswith('linux'):
    return None
  libc = ctypes.CDLL(None)

  def begin() -> None:
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if cores:
      os.sched_setaffinity(0, cores)

  return begin


def _free_port() -> int:
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]
