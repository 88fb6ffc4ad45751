"""The experiment schema, and recipes that fill it."""

from vit_jax.config.durations import Duration
from vit_jax.config.evals import Eval, TranslationEval, lower_is_better, worth
from vit_jax.config.images import Augment, ImageData
from vit_jax.config.optimization import Group, Optim, Spikes
from vit_jax.config.pairs import PairData
from vit_jax.config.recipes import as_flag, from_flags, recipe, update
from vit_jax.config.resolving import resolve
from vit_jax.config.schema import (
  Checkpoint,
  Distill,
  Experiment,
  Limits,
  Log,
  Loss,
  Mesh,
  Model,
)

__all__ = [
  'Augment',
  'Checkpoint',
  'Distill',
  'Duration',
  'Eval',
  'Experiment',
  'Group',
  'ImageData',
  'Limits',
  'Log',
  'Loss',
  'Mesh',
  'Model',
  'Optim',
  'PairData',
  'Spikes',
  'TranslationEval',
  'as_flag',
  'from_flags',
  'lower_is_better',
  'recipe',
  'resolve',
  'update',
  'worth',
]
