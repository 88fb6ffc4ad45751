"""Models by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from vit_jax.errors import UserError, nearest
from vit_jax.models.embedding import PatchEmbedding
from vit_jax.models.options import check_options
from vit_jax.models.output import Output
from vit_jax.models.sizes import SIZES, Size
from vit_jax.models.vit import ViT

__all__ = ['MODELS', 'SIZES', 'Output', 'build']


def build_vit(size: Size, patch: int, num_classes: int, options: dict[str, Any]) -> ViT:
  """A plain ViT; `options` are fields of `vit.ViT` and override `size`."""
  options = size._asdict() | options
  check_options(ViT, options, fixed=('num_classes', 'embedding'))
  width, heads = options['width'], options['heads']
  if width % heads:
    raise UserError(f'model option heads is {heads}, which does not divide width {width}')
  if options.get('posemb') == 'sincos2d' and width % 4:
    raise UserError(f"model option posemb is 'sincos2d', which needs a width divisible by 4, not "
                    f'{width}')
  dtype = options.get('dtype', ViT.dtype)
  return ViT(num_classes, PatchEmbedding(patch, width, jnp.dtype(dtype)), **options)


# What stands before the slash of a name; after it stands the patch.
MODELS: dict[str, Callable[[int, int, dict[str, Any]], nn.Module]] = {
    **{name: functools.partial(build_vit, size) for name, size in SIZES.items()},
}


def build(name: str, num_classes: int, **options: Any) -> nn.Module:
  """The model `name`, such as 'B/16': a size and any patch.

  Args:
    num_classes: 0 for a model without a head.
    **options: fields of the model, such as those of `vit.ViT`; a size's own too (width=128).

  Raises:
    UserError: the name or an option is unknown, or a value does not fit.
  """
  base, _, patch = name.partition('/')
  if base not in MODELS:
    known = [f'{base}/{patch or 16}' for base in MODELS]
    other_case = [model for model in known if model.lower() == name.lower()]
    raise UserError(f'model {name!r} is unknown; {nearest(name, other_case or known)}')
  if not patch.isdecimal() or int(patch) < 1:
    raise UserError(f'model {name!r} lacks a patch size in pixels; {base}/16 would have one')
  return MODELS[base](int(patch), num_classes, options)
