"""What Orbax logs while checkpoints are open: each file it touches, and why a save failed."""

import logging


class OrbaxLog(logging.Filter):
  """Drops it, and keeps the error of a save that failed.

  The future of a save has that error as well, but where there are several processes only when
  all of them are through with the save: never, as they wait for the one that failed.
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
    self._users += 1
    logging.getLogger('absl').addFilter(self)

  def leave(self) -> None:
    self._users -= 1
    if not self._users:
      logging.getLogger('absl').removeFilter(self)


orbax_log = OrbaxLog()
