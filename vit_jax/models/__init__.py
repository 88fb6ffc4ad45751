"""Models by name. Importing this reads names and options only, without jax and flax."""

import importlib
from typing import TYPE_CHECKING, Any

from vit_jax.errors import UserError
from vit_jax.models.inputs import Inputs
from vit_jax.models.names import MODELS, all_names, find, option_types, options_of, reads_text
from vit_jax.models.sizes import SIZES
from vit_jax.models.texts import Texts

if TYPE_CHECKING:
  from flax import linen as nn

__all__ = [
  'MODELS',
  'SIZES',
  'Inputs',
  'Texts',
  'all_names',
  'build',
  'example',
  'find',
  'inputs_of',
  'option_types',
  'options_of',
  'reads_text',
  'variable_shapes',
]


def build(
  name: str,
  num_classes: int,
  options: Any = None,
  inputs: Inputs | Texts | None = None,
  **keys: Any,
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
  options = options_of(name, keys) if options is None else options
  return getattr(module, cls)(num_classes, options, inputs or entry.inputs_at(name))


def inputs_of(name: str, size: tuple[int, int] | None = None) -> Inputs:
  """What published weights of the model expect of an image, at a size or the usual one.

  Raises:
    UserError: the name is unknown, or the model reads sentences.
  """
  inputs = find(name)[0].inputs_at(name, size)
  if isinstance(inputs, Texts):
    raise UserError(f'model {name!r} translates sentences; name one that looks at images')
  return inputs


def example(shape: tuple[int, ...], batch: int = 1) -> Any:
  """What a model reads, as shapes and dtypes, of `batch` examples.

  Args:
    shape: (H, W, C) of an image, or (S, T) of a pair of sentences.
  """
  import jax  # here for the reason in `build`
  import jax.numpy as jnp

  from vit_jax.models.output import Pair

  if len(shape) == 3:
    return jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
  sides: Any = (jax.ShapeDtypeStruct((batch, length), jnp.int32) for length in shape)
  return Pair(*sides)


def variable_shapes(model: 'nn.Module', shape: tuple[int, ...]) -> dict[str, Any]:
  """The shapes of the model's variables, for an example of a shape as `example` takes it."""
  import jax

  return jax.eval_shape(
    lambda inputs: model.init(jax.random.key(0), inputs, train=False), example(shape)
  )
