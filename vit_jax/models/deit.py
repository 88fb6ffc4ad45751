"""DeiT, DeiT III and DINOv2: Vision Transformers by other recipes, each a few options of `vit.ViT`.

DeiT (Touvron et al. 2021, arXiv:2012.12877) distils through a token; DeiT III (Touvron et al. 2022,
arXiv:2204.07118) has LayerScale and no position for the class token; DINOv2 (Oquab et al. 2023,
arXiv:2304.07193) is made for features, without a head unless there are classes.
"""

from __future__ import annotations

import functools
from typing import Any

from vit_jax.models.names import IMAGENET_MEAN, IMAGENET_STD, Entry, Inputs
from vit_jax.models.sizes import SIZES, Size
from vit_jax.models.vit import ViT, build_vit

DEIT = dict(exact_gelu=True)
# facebookresearch/deit models_v2.py
DEIT3 = dict(exact_gelu=True, layerscale=1e-4, posemb_class=False, stochastic_depth_rule='constant')
DINOV2 = dict(exact_gelu=True, layerscale=1e-5)
# arXiv:2304.07193 section 6 (ViT-g): not the g of Zhai et al.; the hidden units are SwiGLU's.
GIANT = Size(1536, 40, 4096, 24)
VARIANTS: dict[str, dict[str, Any]] = {
  '': {},
  'distilled': dict(distilled=True),
  # arXiv:2309.16588. A position of the class token would be one more vector added to it.
  'reg4': dict(registers=4, posemb_class=False),
}


def build(
  size: Size,
  family: dict[str, Any],
  patch: int,
  variant: str,
  num_classes: int,
  options: dict[str, Any],
) -> ViT:
  """A ViT of this family and variant; `options` override both."""
  return build_vit(size, patch, '', num_classes, family | VARIANTS[variant] | options)


def _entry(size: Size, family: dict[str, Any], **keys: Any) -> Entry:
  return Entry(functools.partial(build, size, family), **keys)


_INPUTS = Inputs(224, IMAGENET_MEAN, IMAGENET_STD)
_DEIT3 = dict(inputs=_INPUTS._replace(crop=1.0))
_DINOV2 = dict(patches=(14,), variants=('reg4',), inputs=_INPUTS._replace(size=518, crop=1.0))

MODELS: dict[str, Entry] = {
  **{
    f'DeiT-{size}': _entry(SIZES[size], DEIT, variants=('distilled',), inputs=_INPUTS)
    for size in ('Ti', 'S', 'B')
  },
  **{f'DeiT3-{size}': _entry(SIZES[size], DEIT3, **_DEIT3) for size in ('S', 'M', 'B', 'L')},
  'DeiT3-H': _entry(SIZES['H'], DEIT3, patches=(14,), **_DEIT3),
  **{f'DINOv2-{size}': _entry(SIZES[size], DINOV2, **_DINOV2) for size in ('S', 'B', 'L')},
  'DINOv2-g': _entry(GIANT, DINOV2 | dict(mlp_kind='swiglu'), **_DINOV2),
}
