"""Models by name."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models import cait, convnets, deit, hybrid, names, resnet, vit
from vit_jax.models.names import Entry, Inputs
from vit_jax.models.output import Output
from vit_jax.models.sizes import SIZES

__all__ = ['MODELS', 'SIZES', 'Output', 'build', 'inputs_of', 'variable_shapes']

# By what stands before the slash of a name.
MODELS: dict[str, Entry] = {
  **vit.MODELS,
  **deit.MODELS,
  **cait.MODELS,
  **hybrid.MODELS,
  **resnet.MODELS,
  **convnets.MODELS,
}


def build(name: str, num_classes: int, **options: Any) -> nn.Module:
  """The model `name`, such as 'B/16': a size and any patch.

  Args:
    num_classes: 0 for a model without a head.
    **options: fields of the model, such as those of `vit.ViT`; a size's own too (width=128).

  Raises:
    UserError: the name or an option is unknown, or a value does not fit.
  """
  base, patch, variant = names.parse(name, MODELS)
  return MODELS[base].build(patch, variant, num_classes, options)


def inputs_of(name: str) -> Inputs:
  """What published weights of the model `name` expect of an image.

  Raises:
    UserError: the name is unknown.
  """
  return MODELS[names.parse(name, MODELS)[0]].inputs


def variable_shapes(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, Any]:
  """The model's variables as shapes, for images of shape (H, W, C); nothing is allocated."""
  images_1HWC = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  return jax.eval_shape(
    lambda images_1HWC: model.init(jax.random.key(0), images_1HWC, train=False), images_1HWC
  )
