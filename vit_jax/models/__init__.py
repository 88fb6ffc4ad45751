"""Models by name. Importing this reads names and options only, without jax and flax."""

import importlib
from typing import TYPE_CHECKING, Any

from vit_jax.models.names import MODELS, all_names, find, option_types, options_of
from vit_jax.models.options import Inputs
from vit_jax.models.sizes import SIZES

if TYPE_CHECKING:
  from flax import linen as nn

__all__ = [
  'MODELS',
  'SIZES',
  'Inputs',
  'all_names',
  'build',
  'find',
  'inputs_of',
  'option_types',
  'options_of',
  'variable_shapes',
]


def build(
  name: str, num_classes: int, options: Any = None, inputs: Inputs | None = None, **keys: Any
) -> 'nn.Module':
  """The model `name`, such as 'B/16': a size and any patch.

  Args:
    num_classes: 0 for a model without a head.
    options: those of this name, as `options_of` gives them.
    inputs: the images that its weights expect, if not the published ones.
    **keys: single options, in place of `options` (width=128).

  Raises:
    UserError: the name or an option is unknown, or a value does not fit.
  """
  entry, _ = find(name)
  file, _, cls = entry.module.partition('.')
  # Imported here because flax and jax take 2 s, and some commands only read names and options.
  module = importlib.import_module(f'vit_jax.models.{file}')
  return getattr(module, cls)(
    num_classes, options_of(name, keys) if options is None else options, inputs or entry.inputs
  )


def inputs_of(name: str) -> Inputs:
  """What published weights of the model expect of an image; raises a UserError if it is unknown."""
  return find(name)[0].inputs


def variable_shapes(model: 'nn.Module', image_shape: tuple[int, int, int]) -> dict[str, Any]:
  """The shapes of the model's variables, for images of shape (H, W, C)."""
  import jax  # here for the reason in `build`
  import jax.numpy as jnp

  images_1HWC = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  return jax.eval_shape(
    lambda images_1HWC: model.init(jax.random.key(0), images_1HWC, train=False), images_1HWC
  )
