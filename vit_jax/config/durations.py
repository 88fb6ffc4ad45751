"""Lengths of training and cadences."""

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

from vit_jax.errors import UserError
from vit_jax.fields import MOST, bounded

EXAMPLES = 10**12  # most of a length
LENGTHS = ('steps', 'epochs', 'examples')  # the fields of a `Duration`, and of an `Experiment`


@dataclass(frozen=True)
class Duration:
  """A length of training or a cadence: at most one of the three is set; none: zero, or 'never'."""

  ONE_OF: ClassVar[bool] = True

  steps: int = bounded(0, 0)
  epochs: float = bounded(0.0, 0)
  examples: int = bounded(0, 0, EXAMPLES)

  def __post_init__(self):
    given = [f.name for f in dataclasses.fields(self) if getattr(self, f.name)]
    if len(given) > 1:
      raise UserError(f'{" and ".join(given)} are both set, but a length is given once')

  def to_steps(self, batch_size: float, num_examples: int) -> int:
    """In optimizer steps, rounded up; raises a UserError for more than a run can count."""
    if self.steps:
      return self.steps
    examples = self.examples or self.epochs * num_examples
    if examples / batch_size > MOST:
      what = f'{self.examples} examples' if self.examples else f'{self.epochs:g} epochs'
      raise UserError(
        f'a length of {what} of {num_examples} examples means {examples / batch_size:.3g} steps of '
        f'{batch_size:g}; it must be at most {MOST} steps'
      )
    return math.ceil(examples / batch_size - 1e-9)
