"""Runs of several real processes on this host, and what can be done to them."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from vit_jax.run.folder import Run

CLOCKED = (
  'train/images_per_second',
  'train/tokens_per_second',
  'train/fraction_of_peak',
  'train/seconds',
)


class Nursery:
  """The one process that all others are forked from."""

  def __init__(self):
    self._codes: dict[int, int] = {}
    self._peaks: dict[int, int] = {}
    self._pids: queue.Queue[int] = queue.Queue()
    env = {**os.environ, 'PYTHONUNBUFFERED': '1', 'PYTHONPATH': str(Path(__file__).parents[1])}
    self._process = subprocess.Popen(
      [sys.executable, str(Path(__file__).with_name('worker.py'))],
      env=env,
      text=True,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
    )
    threading.Thread(target=self._read, daemon=True).start()

  def _read(self) -> None:
    for line in self._process.stdout:
      told = json.loads(line)
      if 'code' in told:
        self._peaks[told['pid']] = told['peak']
        self._codes[told['pid']] = told['code']
      else:
        self._codes.pop(told['pid'], None)  # numbers are used again
        self._pids.put(told['pid'])

  def start(self, order: dict) -> int:
    self._process.stdin.write(json.dumps(order) + '\n')
    self._process.stdin.flush()
    return self._pids.get(timeout=60)

  def code(self, pid: int) -> int | None:
    """Its exit code, negative for a signal; None while it runs."""
    return self._codes.get(pid)

  def peak(self, pid: int) -> int:
    """The most memory that a process which has ended held, in bytes."""
    return self._peaks[pid]

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait(timeout=30)


class Life:
  """The processes of one start of a run.

  Args:
    folder: where they keep their logs.
    plant: process -> a fault from within, as in worker.py.
    devices: fake ones of each process.
  """

  def __init__(
    self,
    nursery: Nursery,
    folder: Path,
    argv: list[str],
    count: int = 1,
    plant: dict[int, dict] | None = None,
    devices: int = 1,
  ):
    self._nursery = nursery
    self.began = time.time()
    self._folder = folder / f'life-{time.monotonic_ns()}'
    self._folder.mkdir(parents=True)
    with socket.socket() as free:
      free.bind(('127.0.0.1', 0))
      port = free.getsockname()[1]
    self.pids = []
    for index in range(count):
      env = (
        {}
        if count == 1
        else {
          'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{port}',
          'JAX_NUM_PROCESSES': str(count),
          'JAX_PROCESS_ID': str(index),
        }
      )
      planted = (plant or {}).get(index, {})
      self.pids.append(
        nursery.start(
          {
            'argv': argv,
            'devices': devices,
            'log': str(self._folder / f'log-{index}'),
            'places': str(self._places(index)),
            'ids': str(self._folder / f'ids-{index}'),
            **planted,
            'env': {**env, **planted.get('env', {})},
          }
        )
      )

  def _places(self, index: int) -> Path:
    return self._folder / f'places-{index}'

  def log(self, index: int) -> str:
    path = self._folder / f'log-{index}'
    return path.read_text(errors='replace') if path.exists() else ''

  def batches(self) -> list[tuple[int, int, list[int]]]:
    """(step, first row, ids) of every part of a training batch that a process trained on."""
    return [
      tuple(json.loads(line))
      for path in self._folder.glob('ids-*')
      for line in path.read_text().splitlines()
    ]

  def logs(self) -> str:
    return '\n'.join(f'--- process {i}\n{self.log(i)[-4000:]}' for i in range(len(self.pids)))

  def been(self, index: int, phase: str, step: int = 0) -> bool:
    """Whether a process has turned to a phase, at this step or a later one."""
    path = self._places(index)
    lines = path.read_text().splitlines() if path.exists() else []
    return any(
      line.split()[0] == phase and int(line.split()[1]) >= step
      for line in lines
      if len(line.split()) == 2
    )

  def times_in(self, index: int, phase: str) -> int:
    """How often a process has turned to a phase."""
    lines = self._places(index).read_text().splitlines()
    return sum(line.split()[0] == phase for line in lines)

  def running(self) -> list[int]:
    return [pid for pid in self.pids if self._nursery.code(pid) is None]

  def until_been(self, index: int, phase: str, step: int = 0) -> None:
    assert self.until(lambda: self.been(index, phase, step)), self.logs()

  def until(self, what, seconds: float = 120) -> bool:
    """Waits for `what()`; False where all processes ended without it."""
    deadline = time.monotonic() + seconds
    while not what():
      if not self.running():
        return bool(what())
      assert time.monotonic() < deadline, self.logs()
      time.sleep(0.002)
    return True

  def signal(self, number: int, *indices: int) -> float:
    """Sends a signal to processes; returns when (unix seconds)."""
    for index in indices:
      if self._nursery.code(self.pids[index]) is None:
        os.kill(self.pids[index], number)
    return time.time()

  def ended(self, seconds: float) -> list[int | None]:
    """Exit codes; None of a process that had to be killed after so many seconds."""
    deadline = time.monotonic() + seconds
    while self.running() and time.monotonic() < deadline:
      time.sleep(0.002)
    late = self.running()
    for pid in late:
      os.kill(pid, signal.SIGKILL)
    while self.running():
      time.sleep(0.002)
    return [None if pid in late else self._nursery.code(pid) for pid in self.pids]

  def peak(self, index: int) -> int:
    """The most memory that a process held, in bytes."""
    return self._nursery.peak(self.pids[index])

  def codes(self, seconds: float = 120, forced: tuple[int, ...] = ()) -> list[int | None]:
    """Exit codes, once all have ended; those `forced` are killed when the others have."""
    deadline = time.monotonic() + seconds
    others = [pid for index, pid in enumerate(self.pids) if index not in forced]
    while [pid for pid in others if pid in self.running()]:
      if time.monotonic() > deadline:
        self.signal(signal.SIGKILL, *range(len(self.pids)))
        raise AssertionError(f'processes hang\n{self.logs()}')
      time.sleep(0.01)
    self.signal(signal.SIGKILL, *forced)
    while self.running():
      time.sleep(0.01)
    return [self._nursery.code(pid) for pid in self.pids]


def run_to_end(nursery: Nursery, folder: Path, argv: list[str], devices: int = 1) -> str:
  """Runs a command that must end well, in one process; returns what it printed."""
  life = Life(nursery, folder, argv, devices=devices)
  assert life.codes(300) == [0], life.logs()
  return life.log(0)


def result(run: Path, step: int | None = None) -> tuple[dict, list[dict], dict]:
  """(the state at `step` or the last, metric rows without clock readings, summary) of a run."""
  folder = Run(run)
  with folder.checkpoints() as checkpoints:
    state = checkpoints.load(checkpoints.pick('last' if step is None else step))
  rows = [
    {name: value for name, value in row.items() if name not in CLOCKED} for row in folder.metrics
  ]
  assert not folder.faults
  return state, rows, folder.summary
