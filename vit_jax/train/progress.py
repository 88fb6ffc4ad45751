"""What a person sees while a run runs: a bar on a terminal, logged lines elsewhere."""

import logging
import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

log = logging.getLogger(__name__)


class Progress:
  """Counts steps; shows loss, images/s, the fraction of peak and the time left."""

  def __init__(self, start: int, steps: int, quiet: bool = False):
    self._steps, self._quiet = steps, quiet
    self._first, self._began = start, time.perf_counter()
    self._bar = None
    if not quiet and sys.stderr.isatty():
      self._bar = tqdm(total=steps, initial=start, unit='step', dynamic_ncols=True)

  def advance(self) -> None:
    if self._bar is not None:
      self._bar.update()

  def show(self, step: int, row: Mapping[str, float]) -> None:
    """Shows a row of training metrics."""
    words = (
      f'loss {row["train/loss"]:.4f}  {row["train/images_per_second"]:,.0f} img/s  '
      f'{row["train/fraction_of_peak"]:.0%} of peak'
    )
    if self._bar is not None:
      self._bar.set_postfix_str(words)
      return
    done = max(step - self._first, 1)
    left = round((time.perf_counter() - self._began) / done * (self._steps - step))
    hours, minutes, seconds = left // 3600, left // 60 % 60, left % 60
    clock = f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'
    self.say(f'step {step}/{self._steps}  {words}  {clock} left')

  def say(self, line: str) -> None:
    """Logs one line without tearing the bar."""
    if self._quiet:
      return
    if self._bar is not None:
      self._bar.write(line)
    else:
      log.info(line)

  def close(self) -> None:
    if self._bar is not None:
      self._bar.close()
