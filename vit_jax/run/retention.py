"""Which checkpoints stay when there are more than a recipe keeps."""

from collections.abc import Callable, Mapping
from typing import Any

from vit_jax import config


class Retention:
  """The last checkpoints stay, and the best ones: an Orbax preservation policy.

  Metrics are stored beside the state, and not in a file of Orbax's: where that is damaged, Orbax
  does not even list the steps.
  """

  def __init__(
    self, options: config.Checkpoint, read_metrics: Callable[[int], Mapping[str, float]]
  ):
    self._options, self._read = options, read_metrics
    self._worth: dict[int, float | None] = {}  # by step; None: not measured

  def add(self, step: int, metrics: Mapping[str, float]) -> None:
    best = self._options.best
    self._worth[step] = config.worth(best, metrics[best]) if best and best in metrics else None

  def by_worth(self, steps: list[int]) -> list[int]:
    """Those that were measured, the best one last, of equals the later one."""
    for step in steps:
      if step not in self._worth:
        try:
          self.add(step, self._read(step))
        except Exception:  # whatever the reader makes of damaged files
          self._worth[step] = None
    measured = [(worth, step) for step in steps if (worth := self._worth[step]) is not None]
    return [step for _, step in sorted(measured)]

  def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
    steps = sorted(checkpoint.step for checkpoint in checkpoints)
    kept = {*steps[-self._options.keep_last :]}
    if self._options.keep_best:
      kept |= {*self.by_worth(steps)[-self._options.keep_best :]}
    return [checkpoint.step in kept for checkpoint in checkpoints]
