"""Weights from a run, a file or elsewhere, as the variables of a model."""

from vit_jax.weights.open import Opened, convert, digest, load, open, start_from
from vit_jax.weights.sources import inputs_of, is_translation

__all__ = [
  'Opened',
  'convert',
  'digest',
  'inputs_of',
  'is_translation',
  'load',
  'open',
  'start_from',
]
