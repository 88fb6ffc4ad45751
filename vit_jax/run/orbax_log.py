"""The log of Orbax while checkpoints are open."""

import functools
import logging
import sys
from typing import Any


class OrbaxLog(logging.Filter):
  """Drops every line, and keeps the error of a save that failed.

  The future of a save has that error too, but with several processes only after all have ended the
  save, which they never do: they wait for the one that failed.
  """

  def __init__(self):
    super().__init__()
    self.failure: BaseException | None = None
    self._users = 0

  def filter(self, record: logging.LogRecord) -> bool:
    if record.exc_info:
      self.failure = record.exc_info[1]
    return False

  def use(self) -> None:
    _drop_left_reads()
    self._users += 1
    logging.getLogger('absl').addFilter(self)
    logging.getLogger().addFilter(_is_not_of_layout)

  def leave(self) -> None:
    self._users -= 1
    if not self._users:
      logging.getLogger('absl').removeFilter(self)
      logging.getLogger().removeFilter(_is_not_of_layout)


def _is_not_of_layout(record: logging.LogRecord) -> bool:
  """Orbax warns of a checkpoint of one file per shard that it holds no database."""
  return not str(record.msg).startswith('TensorStore data files not found')


@functools.cache
def _drop_left_reads() -> None:
  """Once a file of a checkpoint cannot be read, which is reported, Orbax leaves the other reads.

  asyncio then logs a traceback for each of them, some of them much later.
  """
  logging.getLogger('asyncio').addFilter(
    lambda record: 'exception was never retrieved' not in record.getMessage()
  )
  usual = sys.unraisablehook

  def hook(unraisable: Any) -> None:
    if str(unraisable.exc_value) != 'Event loop is closed':
      usual(unraisable)

  sys.unraisablehook = hook


orbax_log = OrbaxLog()
