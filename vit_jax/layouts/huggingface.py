"""Hugging Face's ViT, DeiT and DINOv2 (transformers modeling_{vit,deit,dinov2}.py).

A model for classification puts its family's name before the names of the bare model.
"""

from vit_jax.layouts.layout import Pair
from vit_jax.layouts.modules import affine, norm
from vit_jax.models.inputs import Inputs
from vit_jax.models.options import ViTOptions

_OURS = 'encoder/blocks/'
_LAYER = 'encoder.layer.{L}.'


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


def dinov2(prefix: str, swiglu: bool) -> tuple[Pair, ...]:
  """DINOv2, with registers or without; the giant one has a gated MLP."""
  layer = prefix + _LAYER
  if swiglu:
    gated = f'{_OURS}mlp/gate', f'{_OURS}mlp/up'
    up = affine(gated, ('LDF', 'LF'), f'{layer}mlp.weights_in', ('(2F)D', '(2F)'))
  else:
    up = affine(f'{_OURS}mlp/up', ('LDF', 'LF'), f'{layer}mlp.fc1', ('FD', 'F'))
  down = 'weights_out' if swiglu else 'fc2'
  return (
    *_body(prefix),
    Pair('registers', '1RD', f'{prefix}embeddings.register_tokens', '1RD'),
    *norm(f'{_OURS}norm1', f'{layer}norm1', 'L'),
    *norm(f'{_OURS}norm2', f'{layer}norm2', 'L'),
    Pair(f'{_OURS}scale1', 'LD', f'{layer}layer_scale1.lambda1', 'D'),
    Pair(f'{_OURS}scale2', 'LD', f'{layer}layer_scale2.lambda1', 'D'),
    *up,
    *affine(f'{_OURS}mlp/down', ('LFD', 'LD'), f'{layer}mlp.{down}', ('DF', 'D')),
  )


def vit_config(o: ViTOptions, inputs: Inputs, num_classes: int) -> str:
  """The configuration of transformers for this ViT."""
  settings = dict(
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
  words = ', '.join(f'{name}={value!r}' for name, value in settings.items())
  return f'transformers.ViTConfig({words})'
