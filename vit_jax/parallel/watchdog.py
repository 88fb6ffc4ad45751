"""What the main thread is doing: its time is counted by phase, and the run ends at a phase's limit.

Heartbeats show that a process is alive, not that it makes progress: one whose loader hangs keeps
all others waiting in a collective forever. The process whose phase exceeds its limit starts a roll
call: each process writes its stacks to stderr and RUN/stacks-PROCESS.txt and reports where it is;
those that keep the others waiting are named, and all exit with 1.
"""

import faulthandler
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from vit_jax.errors import print_error
from vit_jax.parallel.processes import PATIENCE, Gather, Processes

POLL = 0.25  # seconds
ROLL_CALL = 5.0  # seconds for an answer
WAITING = ('step', 'evaluate', 'save', 'upload')  # phases in which a process waits for the others


class Watchdog:
  """Starts in phase 'init'. An inner phase interrupts the outer one, whose limit then restarts.

  Args:
    folder: where stacks are written.
    limit: of the phase 'init', in seconds.
    began: when this process started, by time.perf_counter().
  """

  def __init__(self, processes: Processes, folder: Path, limit: float, began: float):
    self.step = 0  # for the sentence about a stuck process
    self.began = began
    self._processes, self._folder = processes, folder
    self._phases = [('init', limit)]
    self._booked: dict[str, float] = {}
    self._since, self._renewed = began, time.perf_counter()
    self._over = threading.Event()
    self._lock = threading.Lock()
    processes.on['stuck'] = self._roll_call

  def __enter__(self) -> Self:
    threading.Thread(target=self._watch, name='watchdog', daemon=True).start()
    return self

  def __exit__(self, *error: Any) -> None:
    self._over.set()

  @contextmanager
  def phase(self, name: str, limit: float) -> Iterator[None]:
    """The main thread's time counts as `name` and may last `limit` seconds; 0: no limit."""
    self._turn([*self._phases, (name, limit)])
    try:
      yield
    finally:
      self._turn(self._phases[:-1])

  def renew(self, limit: float) -> None:
    """Gives the phase, which makes progress, `limit` seconds from now."""
    self._renewed = time.perf_counter()
    self._phases[-1] = self._phases[-1][0], limit

  def _turn(self, phases: list[tuple[str, float]]) -> None:
    self._renewed, _ = self.booked()
    self._phases = phases

  def booked(self) -> tuple[float, dict[str, float]]:
    """(`time.perf_counter()` now, seconds in each phase, which add up to those since `began`)."""
    with self._lock:
      before, self._since = self._since, time.perf_counter()
      name = self._phases[-1][0]
      self._booked[name] = self._booked.get(name, 0.0) + self._since - before
      return self._since, dict(self._booked)

  def _watch(self) -> None:
    last = time.perf_counter()
    while not self._over.wait(POLL):
      now = time.perf_counter()
      if now - last > 1 + 4 * POLL:
        self._renewed += now - last  # the process was suspended, as by Ctrl-Z
      last = now
      if silent := self._processes.silent():
        self._gone(silent)
        return
      name, limit = self._phases[-1]
      if limit and now - self._renewed > limit:
        self._late(name, limit)
        return

  def _gone(self, silent: Sequence[int]) -> None:
    names = ', '.join(map(str, silent))
    print_error(
      f'process {names} has been silent for more than config.limits.heartbeat seconds: it was '
      'stopped or killed, or its host is gone; the same command goes on from the last checkpoint'
    )
    self._dump()
    self._processes.leave(1)

  def _late(self, name: str, limit: float) -> None:
    print_error(
      f'process {self._processes.index} has been in phase {name!r} of step {self.step} for more '
      f'than {limit:g} s (config.limits)'
    )
    try:
      self._processes.post('stuck')
      time.sleep(PATIENCE)  # the roll call ends the process
    except RuntimeError:
      pass
    self._dump()
    self._processes.leave(1)

  def _roll_call(self, request: dict[str, Any], gather: Gather) -> None:
    self._dump()
    name, _ = self._phases[-1]
    seconds = time.perf_counter() - self._renewed
    answers = gather((self.step, name, seconds), limit=ROLL_CALL)
    print_error(name_the_stuck(answers))
    self._processes.leave(1)

  def _dump(self) -> None:
    faulthandler.dump_traceback(sys.__stderr__ or 2)
    try:
      with open(self._folder / f'stacks-{self._processes.index}.txt', 'w') as file:
        faulthandler.dump_traceback(file)
    except OSError as error:
      print_error(f'the stacks could not be written: {error}')


def name_the_stuck(answers: Sequence[tuple[int, str, float] | None]) -> str:
  """A sentence that names the processes that keep the others waiting.

  `answers` has (step, phase, seconds in it) of each process, or None if it did not answer.
  """
  silent = [str(i) for i, answer in enumerate(answers) if answer is None]
  if silent:
    return f'stuck: process {", ".join(silent)} does not answer'
  places = [(step, phase in WAITING) for step, phase, _ in filter(None, answers)]
  late = [
    f'process {i} ({seconds:.0f} s in phase {phase!r} of step {step})'
    for i, (step, phase, seconds) in enumerate(filter(None, answers))
    if places[i] == min(places)
  ]
  return f'stuck: {", ".join(late)} keeps the {len(answers)} processes waiting'
