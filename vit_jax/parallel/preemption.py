"""Stop on SIGTERM or the first Ctrl-C: all processes at the same place, without losing work.

The main thread ticks wherever it could stop: at each step and each batch of an evaluation. All
processes run the same program, so tick 7 is the same place in each. When one is asked to stop, all
report the tick they have reached, while none may pass its next one, and stop at the first tick that
none has passed. A process that has trained nothing yet, or has saved everything, ends at once, even
during a compilation, for which Python's signal handlers wait.
"""

import math
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from vit_jax.errors import PREEMPTED, print_error

if TYPE_CHECKING:  # this file is loaded before JAX, so that signals are handled from the start
  from vit_jax.parallel.processes import Gather, Processes

SIGNALS = signal.SIGTERM, signal.SIGINT
BEFORE, AFTER = -1, 2**53  # marks of a process that has trained nothing or saved everything


class Preemption:
  """Handles requests to stop or to save, and agrees with the other processes on the tick."""

  def __init__(self):
    self.began = time.perf_counter()
    self._processes: Processes | None = None
    self._lock = threading.Lock()  # held while all processes agree
    self._tick, self._mark = 0, BEFORE
    self._stop_at = math.inf
    self._saves: set[int] = set()  # ticks
    self._presses = 0
    self._restore: list[Any] = []

  def __enter__(self) -> Self:
    if threading.current_thread() is not threading.main_thread():
      return self  # signals go to the main thread, which is not ours
    self._read, self._write = os.pipe()
    os.set_blocking(self._write, False)
    handlers = {number: signal.signal(number, self._pressed) for number in SIGNALS}
    self._restore = [handlers, signal.set_wakeup_fd(self._write)]
    self._thread = threading.Thread(target=self._listen, name='preemption', daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *error: Any) -> None:
    if self._restore:
      handlers, descriptor = self._restore
      signal.set_wakeup_fd(descriptor)
      for number, handler in handlers.items():
        signal.signal(number, handler)
      os.write(self._write, b'\0')
      self._thread.join()
      os.close(self._read)
      os.close(self._write)

  def attach(self, processes: 'Processes') -> None:
    """Makes all processes stop together from now on."""
    processes.on['stop'] = processes.on['save'] = self._agree
    self._processes = processes

  def begin(self) -> None:
    """Training starts, so there is something to lose."""
    with self._lock:
      self._mark = self._tick

  def finish(self) -> None:
    """Everything is saved."""
    with self._lock:
      self._mark = AFTER
      stop = self._stop_at < math.inf
    if stop and self._processes:
      self._processes.post('stop')

  def tick(self) -> bool:
    """Marks a place where this process could stop; True if all processes do."""
    with self._lock:
      self._tick += 1
      if BEFORE < self._mark < AFTER:
        self._mark = self._tick
      return self._tick >= self._stop_at and self._mark < AFTER

  def ask_save(self) -> None:
    """Asks all processes to save, when the caller's clock says so."""
    if self._processes:
      self._processes.post('save')

  def save_due(self) -> bool:
    """Whether a save asked for is due by this tick; it then counts as done."""
    with self._lock:
      due = {tick for tick in self._saves if tick <= self._tick}
      self._saves -= due
      return bool(due)

  def _pressed(self, number: int, frame: FrameType | None) -> None:
    """Runs in the main thread once that runs Python again; `_listen` has acted by then."""
    if number == signal.SIGINT:
      self._presses += 1
      if self._presses > 1:
        raise KeyboardInterrupt

  def _listen(self) -> None:
    asked = False
    while True:
      for number in os.read(self._read, 1):
        if number == 0:
          return
        if number in SIGNALS and not asked:
          asked = True
          print('\nstopping ...', flush=True)
          self._ask_all()

  def _ask_all(self) -> None:
    if self._processes is None:  # this process has not joined the others yet
      sys.stdout.flush()
      os._exit(PREEMPTED)
    try:
      self._processes.post('stop')
    except RuntimeError as error:
      print_error(f'the other processes cannot be reached: {error}')

  def _agree(self, request: dict[str, Any], gather: 'Gather') -> None:
    """Runs on every process at the same request, outside its main thread."""
    processes = self._processes
    assert processes is not None
    with self._lock:
      try:
        marks = gather(self._mark)
      except Exception as error:
        self._alone(processes, error)
      at = min(max(marks) + 1, AFTER)
      saved = min(marks) in (BEFORE, AFTER)  # all processes save together, or none
      if request['kind'] == 'save':
        self._saves.add(at)
      elif not saved:
        self._stop_at = min(self._stop_at, at)
    if saved and request['kind'] == 'stop':
      print('stopped; there was nothing new to save, the same command goes on', flush=True)
      processes.leave(PREEMPTED, together=True)

  def _alone(self, processes: 'Processes', error: Exception) -> NoReturn:
    """Exits, because the others do not answer and no step is possible without them."""
    print_error(error)
    processes.leave(PREEMPTED if self._mark in (BEFORE, AFTER) else 1)
