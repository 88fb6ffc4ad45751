"""Which processes of a run still answer.

JAX has heartbeats of its own, but aborts all processes with a stack of its runtime, and does not
name the silent one. These come first: a process that was stopped, or whose host is gone, is named.
"""

import threading
import time
from typing import Any

EVERY = 0.1  # of the limit: from one beat to the next
SLACK = 2  # JAX's own limit over ours


class Heartbeats:
  """Beats of this process, and of the others, in the coordinator's key-value store.

  Args:
    key: below which they are.
    limit: seconds without a beat, after which a process is silent.
  """

  def __init__(self, client: Any, key: str, index: int, limit: float):
    self._client, self._key, self._index, self._limit = client, key, index, limit
    self._beats: dict[int, str] = {}
    self._heard: dict[int, float] = {}
    self._answered = self._asked = time.monotonic()
    threading.Thread(target=self._beat, name='heartbeat', daemon=True).start()

  def silent(self) -> list[int]:
    """The processes that have been silent for too long, of those that ever were heard."""
    now = time.monotonic()
    if now - self._asked > max(1.0, self._limit / 4):  # this process itself was stopped
      self._answered = now
      self._heard = dict.fromkeys(self._heard, now)
    self._asked = now
    if now - self._answered > self._limit:
      return [0]  # the coordinator, who has the store
    return sorted(i for i, heard in self._heard.items() if now - heard > self._limit)

  def _beat(self) -> None:
    number = 0
    while True:
      number += 1
      try:
        self._client.key_value_set(f'{self._key}/{self._index}', str(number), True)
        beats = dict(self._client.key_value_dir_get(f'{self._key}/'))
      except RuntimeError:
        pass  # the coordinator is silent, or has ended
      else:
        self._answered = now = time.monotonic()
        for key, beat in beats.items():
          index = int(key.rpartition('/')[2])
          if self._beats.get(index) != beat:
            self._beats[index], self._heard[index] = beat, now
      time.sleep(EVERY * self._limit)
