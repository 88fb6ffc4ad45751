"""Hugging Face's ViT, DeiT and DINOv2 (transformers modeling_{vit,deit,dinov2}.py).

A model for classification puts its family's name before the names of the bare model.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vit_jax.layouts.layout import Pair
from vit_jax.layouts.modules import affine, norm
from vit_jax.models.inputs import Inputs
from vit_jax.models.options import ViTOptions

_OURS = 'encoder/blocks/'
_LAYER = 'encoder.layer.{L}.'
CLASSIFIER = 'classifier'


def _body(prefix: str) -> list[Pair]:
  """What the three families share."""
  embeddings = f'{prefix}embeddings.'
  attention = f'{prefix}{_LAYER}attention.'
  qkv = tuple(f'{attention}attention.{name}' for name in ('query', 'key', 'value'))
  return [
    Pair('cls', '11D', f'{embeddings}cls_token', '11D'),
    Pair('pos_embedding', '1ND', f'{embeddings}position_embeddings', '1ND'),
    *affine('embedding', ('hwCD', 'D'), f'{embeddings}patch_embeddings.projection', ('DChw', 'D')),
    *affine(f'{_OURS}attention/qkv', ('LD3AE', 'L3(AE)'), qkv, ('(AE)D', '(AE)')),
    *affine(f'{_OURS}attention/out', ('LAED', 'LD'), f'{attention}output.dense', ('D(AE)', 'D')),
    *norm('encoder/norm', f'{prefix}layernorm'),
  ]


def vit(prefix: str) -> tuple[Pair, ...]:
  """ViT; the pooler of the bare model is our `pre_logits`."""
  layer = prefix + _LAYER
  return (
    *_body(prefix),
    *norm(f'{_OURS}norm1', f'{layer}layernorm_before', 'L'),
    *norm(f'{_OURS}norm2', f'{layer}layernorm_after', 'L'),
    *affine(f'{_OURS}mlp/up', ('LDF', 'LF'), f'{layer}intermediate.dense', ('FD', 'F')),
    *affine(f'{_OURS}mlp/down', ('LFD', 'LD'), f'{layer}output.dense', ('DF', 'D')),
    *affine('pre_logits', ('DR', 'R'), f'{prefix}pooler.dense', ('RD', 'R')),
    *affine('head', ('DK', 'K'), 'classifier', ('KD', 'K')),
  )


def deit(prefix: str) -> tuple[Pair, ...]:
  """Distilled DeiT."""
  return (
    Pair('dist', '11D', f'{prefix}embeddings.distillation_token', '11D'),
    *affine('head', ('DK', 'K'), 'cls_classifier', ('KD', 'K')),
    *affine('head_dist', ('DK', 'K'), 'distillation_classifier', ('KD', 'K')),
    *vit(prefix),
  )


def dinov2(prefix: str, swiglu: bool, registers: bool = True) -> tuple[Pair, ...]:
  """DINOv2, with registers where it has some; the giant one has a gated MLP."""
  layer = prefix + _LAYER
  if swiglu:
    gated = f'{_OURS}mlp/gate', f'{_OURS}mlp/up'
    up = affine(gated, ('LDF', 'LF'), f'{layer}mlp.weights_in', ('(2F)D', '(2F)'))
  else:
    up = affine(f'{_OURS}mlp/up', ('LDF', 'LF'), f'{layer}mlp.fc1', ('FD', 'F'))
  down = 'weights_out' if swiglu else 'fc2'
  return (
    *_body(prefix),
    *([Pair('registers', '1RD', f'{prefix}embeddings.register_tokens', '1RD')] * registers),
    *norm(f'{_OURS}norm1', f'{layer}norm1', 'L'),
    *norm(f'{_OURS}norm2', f'{layer}norm2', 'L'),
    Pair(f'{_OURS}scale1', 'LD', f'{layer}layer_scale1.lambda1', 'D'),
    Pair(f'{_OURS}scale2', 'LD', f'{layer}layer_scale2.lambda1', 'D'),
    *up,
    *affine(f'{_OURS}mlp/down', ('LFD', 'LD'), f'{layer}mlp.{down}', ('DF', 'D')),
  )


def dinov2_with_head(registers: bool, swiglu: bool) -> tuple[Pair, ...]:
  """DINOv2 with its classifier, once `cut_classifier` has taken the mean of the patches away."""
  prefix = 'dinov2_with_registers.' if registers else 'dinov2.'
  return *dinov2(prefix, swiglu, registers), *affine('head', ('DK', 'K'), CLASSIFIER, ('KD', 'K'))


def complete_dinov2(leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """With the token that stands for hidden patches, and a classifier that takes the patches too.

  Nothing is hidden here, and the classifier's part for the mean of the patches is zeros.
  """
  out = dict(leaves)
  for name in leaves:
    if name.endswith('embeddings.cls_token'):
      out[name.replace('cls_token', 'mask_token')] = np.zeros_like(leaves[name][0])
  if f'{CLASSIFIER}.weight' in leaves:
    kernel_KD = leaves[f'{CLASSIFIER}.weight']
    out[f'{CLASSIFIER}.weight'] = np.concatenate([kernel_KD, np.zeros_like(kernel_KD)], axis=1)
  return out


def cut_classifier(leaves: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str]:
  """(leaves of DINOv2 whose classifier sees the class token alone or is left out, a remark)."""
  kernel, bias = f'{CLASSIFIER}.weight', f'{CLASSIFIER}.bias'
  kept = {name: leaf for name, leaf in leaves.items() if name not in (kernel, bias)}
  if len(kept) == len(leaves):
    return kept, ''
  cls_KD, mean_KD = np.split(leaves[kernel], 2, axis=1) if kernel in leaves else (None, None)
  if bias not in leaves or mean_KD is None or np.any(mean_KD):
    return kept, 'its classifier, which also sees the mean of the patches, is left out'
  return kept | {kernel: cls_KD, bias: leaves[bias]}, ''


def vit_config(o: ViTOptions, inputs: Inputs, num_classes: int) -> str:
  """The configuration of transformers for this ViT."""
  words = ', '.join(f'{k}={v!r}' for k, v in _settings(o, inputs, num_classes).items())
  return f'transformers.ViTConfig({words})'


def config_of(kind: str, architecture: str) -> Callable[[ViTOptions, Inputs, int], dict[str, Any]]:
  """The config.json of a model_type of transformers, as `Layout.config` has it.

  Args:
    kind, architecture: the model_type and its class.
  """

  def config(o: ViTOptions, inputs: Inputs, num_classes: int) -> dict[str, Any]:
    if o.representation:  # the pooler, which no class with a classifier has
      return {}
    named = {'model_type': kind, 'architectures': [architecture]}
    if o.registers:
      words = architecture.replace('Dinov2', 'Dinov2WithRegisters')
      named = {'model_type': f'{kind}_with_registers', 'architectures': [words]}
    settings = {**named, 'dtype': 'float32', **_settings(o, inputs, num_classes)}
    if kind == 'dinov2':
      gated, square = o.mlp_kind == 'swiglu', inputs.size[0] == inputs.size[1]
      ratio = o.mlp / o.width
      if gated:  # modeling_dinov2.py rounds two thirds of it up to a multiple of 8
        ratio = next((r for r in range(1, 17) if _gated(o.width, r) == o.mlp), 0.5)
      if ratio != int(ratio) or not square:
        return {}
      settings |= {'mlp_ratio': int(ratio), 'use_swiglu_ffn': gated, 'image_size': inputs.size[0]}
      settings |= {'qkv_bias': True, 'layerscale_value': o.layerscale}
      if o.registers:
        settings['num_register_tokens'] = o.registers
    return settings

  return config


def _gated(width: int, ratio: int) -> int:
  return (int(width * ratio * 2 / 3) + 7) // 8 * 8


def _settings(o: ViTOptions, inputs: Inputs, num_classes: int) -> dict[str, Any]:
  return dict(
    image_size=inputs.size,
    patch_size=o.patch,
    num_channels=len(inputs.mean),
    num_labels=num_classes,
    hidden_size=o.width,
    num_hidden_layers=o.depth,
    num_attention_heads=o.heads,
    intermediate_size=o.mlp,
    hidden_act='gelu' if o.exact_gelu else 'gelu_new',
    layer_norm_eps=1e-6,  # not theirs by default
  )
