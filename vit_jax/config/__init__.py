"""The experiment schema, and recipes that fill it."""

from vit_jax.config.durations import Duration
from vit_jax.config.evals import Eval, lower_is_better, worth
from vit_jax.config.recipes import as_flag, from_flags, recipe, update
from vit_jax.config.schema import (
  Augment,
  Checkpoint,
  Data,
  Distill,
  Experiment,
  Limits,
  Log,
  Loss,
  Mesh,
  Model,
  Optim,
  resolve,
)

__all__ = [
  'Augment',
  'Checkpoint',
  'Data',
  'Distill',
  'Duration',
  'Eval',
  'Experiment',
  'Limits',
  'Log',
  'Loss',
  'Mesh',
  'Model',
  'Optim',
  'as_flag',
  'from_flags',
  'lower_is_better',
  'recipe',
  'resolve',
  'update',
  'worth',
]
