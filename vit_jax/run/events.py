"""The event log of a run: when it started, where its seconds went, how it ended.

`RUN/events.jsonl`, appended by process 0, one JSON object per line, `time` in Unix seconds:
  {"event": "start", "time": t, "step": resumed step, "processes": n, "devices": n}
  {"event": "spent", "time": t, "step": s, "seconds": {"data": .., "step": .., ...}}
  {"event": "skipped", "time": t, "step": s, "loss": "nan", "grad_norm": "inf", "in_a_row": n}
  {"event": "rollback", "time": t, "step": s, "source": step of the checkpoint}
  {"event": "upload", "time": t, "step": s, "bytes": n, "took": seconds}
  {"event": "end", "time": t, "step": s, "code": exit code}

The seconds of a `spent` line are those since the previous line, by what the main thread was doing;
they add up to the time between the two lines. A process that was killed leaves no end. Step s of a
skipped line is that after the update; its loss is the mean, and both are text, for JSON has no NaN.
An upload is that of a checkpoint to a store, beside training.
"""

import json
import threading
import time
from pathlib import Path
from typing import Any

from vit_jax.parallel.watchdog import Watchdog
from vit_jax.reads import content
from vit_jax.run.files import is_number, read_lines


def read_events(path: Path, faults: list[str]) -> list[dict[str, Any]]:
  """The events of a log, in order of time."""
  return read_lines(path, _is_event, faults)


def _is_event(line: dict[str, Any]) -> bool:
  seconds = line.get('seconds', None if line.get('event') == 'spent' else {})
  if 'event' not in line or not isinstance(seconds, dict):
    return False
  sizes = (line.get('bytes'), line.get('took')) if line['event'] == 'upload' else ()
  return all(map(is_number, (line.get('time'), line.get('step'), *seconds.values(), *sizes)))


class EventLog:
  """Writes nothing before `start`, whose line has the time at which the run began."""

  def __init__(self, path: Path, watch: Watchdog):
    self._path, self._watch = path, watch
    self._epoch = time.time() - time.perf_counter()
    self._told: dict[str, float] = {}
    self._file: Any = None
    self._lock = threading.Lock()  # a run may be ended by another thread

  def start(self, step: int, processes: int, devices: int) -> None:
    """Appends to the file, after removing a last line that a crash cut short."""
    if self._path.exists():
      text = content(self._path)
      with open(self._path, 'r+b') as file:
        file.truncate(text.rfind(b'\n') + 1)
    self._file = open(self._path, 'a')
    self._write('start', self._watch.began, step, processes=processes, devices=devices)

  def spent(self, step: int) -> None:
    """Writes the time since the last line."""
    with self._lock:
      if self._file is not None:
        self._spent(step)

  def note(self, event: str, step: int, **words: Any) -> None:
    with self._lock:
      if self._file is not None:
        self._write(event, time.perf_counter(), step, **words)

  def end(self, step: int, code: int) -> None:
    with self._lock:
      if self._file is not None:
        self._write('end', self._spent(step), step, code=code)
        self._file.close()
        self._file = None

  def _spent(self, step: int) -> float:
    now, booked = self._watch.booked()
    seconds = {name: round(booked[name] - self._told.get(name, 0.0), 6) for name in booked}
    self._told = booked
    self._write('spent', now, step, seconds={name: s for name, s in seconds.items() if s})
    return now

  def _write(self, event: str, clock: float, step: int, **words: Any) -> None:
    line = {'event': event, 'time': round(self._epoch + clock, 6), 'step': step, **words}
    self._file.write(json.dumps(line) + '\n')
    self._file.flush()
