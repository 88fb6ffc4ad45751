"""Hugging Face's ViT, DeiT and DINOv2 (transformers modeling_{vit,deit,dinov2}.py).

A model for classification puts its family's name before the names of the bare model.
"""

from __future__ import annotations

from vit_jax.weights.layout import Row

_OURS = 'encoder/blocks/'
_LAYER = 'encoder.layer.{L}.'


def _affine(
  ours: str,
  our_axes: tuple[str, str],
  theirs: str,
  their_axes: tuple[str, str],
  weight: str = 'kernel',
) -> list[Row]:
  """Weight and bias of a layer."""
  return [
    Row(f'{ours}/{weight}', our_axes[0], f'{theirs}.weight', their_axes[0]),
    Row(f'{ours}/bias', our_axes[1], f'{theirs}.bias', their_axes[1]),
  ]


def _norm(ours: str, theirs: str, L: str = '') -> list[Row]:
  return _affine(ours, (f'{L}D', f'{L}D'), theirs, ('D', 'D'), weight='scale')


def _body(prefix: str) -> list[Row]:
  """What the three families share."""
  embeddings = f'{prefix}embeddings.'
  attention = f'{prefix}{_LAYER}attention.'
  qkv = [f'{attention}attention.{name}' for name in ('query', 'key', 'value')]
  return [
    Row('cls', '11D', f'{embeddings}cls_token', '11D'),
    Row('pos_embedding', '1ND', f'{embeddings}position_embeddings', '1ND'),
    *_affine('embedding', ('hwCD', 'D'), f'{embeddings}patch_embeddings.projection', ('DChw', 'D')),
    Row(f'{_OURS}attention/qkv/kernel', 'LD3AE', tuple(f'{name}.weight' for name in qkv), '(AE)D'),
    Row(f'{_OURS}attention/qkv/bias', 'L3(AE)', tuple(f'{name}.bias' for name in qkv), '(AE)'),
    *_affine(f'{_OURS}attention/out', ('LAED', 'LD'), f'{attention}output.dense', ('D(AE)', 'D')),
    *_norm('encoder/norm', f'{prefix}layernorm'),
  ]


def vit(prefix: str) -> tuple[Row, ...]:
  """ViT; the pooler of the bare model is our `pre_logits`."""
  layer = prefix + _LAYER
  return (
    *_body(prefix),
    *_norm(f'{_OURS}norm1', f'{layer}layernorm_before', 'L'),
    *_norm(f'{_OURS}norm2', f'{layer}layernorm_after', 'L'),
    *_affine(f'{_OURS}mlp/up', ('LDF', 'LF'), f'{layer}intermediate.dense', ('FD', 'F')),
    *_affine(f'{_OURS}mlp/down', ('LFD', 'LD'), f'{layer}output.dense', ('DF', 'D')),
    *_affine('pre_logits', ('DR', 'R'), f'{prefix}pooler.dense', ('RD', 'R')),
    *_affine('head', ('DK', 'K'), 'classifier', ('KD', 'K')),
  )


def deit(prefix: str) -> tuple[Row, ...]:
  """Distilled DeiT."""
  return (
    Row('dist', '11D', f'{prefix}embeddings.distillation_token', '11D'),
    *_affine('head', ('DK', 'K'), 'cls_classifier', ('KD', 'K')),
    *_affine('head_dist', ('DK', 'K'), 'distillation_classifier', ('KD', 'K')),
    *vit(prefix),
  )


def dinov2(prefix: str, swiglu: bool) -> tuple[Row, ...]:
  """DINOv2, with registers or without; the giant one has a gated MLP."""
  layer = prefix + _LAYER
  if swiglu:
    up = [
      Row(tuple(f'{_OURS}mlp/{name}/{leaf}' for name in ('gate', 'up')), *axes)
      for leaf, *axes in (
        ('kernel', 'LDF', f'{layer}mlp.weights_in.weight', '(2F)D'),
        ('bias', 'LF', f'{layer}mlp.weights_in.bias', '(2F)'),
      )
    ]
  else:
    up = _affine(f'{_OURS}mlp/up', ('LDF', 'LF'), f'{layer}mlp.fc1', ('FD', 'F'))
  down = 'weights_out' if swiglu else 'fc2'
  return (
    *_body(prefix),
    Row('registers', '1RD', f'{prefix}embeddings.register_tokens', '1RD'),
    *_norm(f'{_OURS}norm1', f'{layer}norm1', 'L'),
    *_norm(f'{_OURS}norm2', f'{layer}norm2', 'L'),
    Row(f'{_OURS}scale1', 'LD', f'{layer}layer_scale1.lambda1', 'D'),
    Row(f'{_OURS}scale2', 'LD', f'{layer}layer_scale2.lambda1', 'D'),
    *up,
    *_affine(f'{_OURS}mlp/down', ('LFD', 'LD'), f'{layer}mlp.{down}', ('DF', 'D')),
  )
