"""timm's CaiT (cait.py), which is the layout of facebookresearch/deit too, as state dicts."""

from __future__ import annotations

from vit_jax.weights.layout import Row

_BLOCKS, _CLASS = 'encoder/blocks/', 'class_blocks/'


def _shared(ours: str, theirs: str) -> tuple[Row, ...]:
  """What both kinds of block have."""
  return (
    Row(f'{ours}norm1/scale', 'LD', f'{theirs}norm1.weight', 'D'),
    Row(f'{ours}norm1/bias', 'LD', f'{theirs}norm1.bias', 'D'),
    Row(f'{ours}attention/out/kernel', 'LAED', f'{theirs}attn.proj.weight', 'D(AE)'),
    Row(f'{ours}attention/out/bias', 'LD', f'{theirs}attn.proj.bias', 'D'),
    Row(f'{ours}scale1', 'LD', f'{theirs}gamma_1', 'D'),
    Row(f'{ours}norm2/scale', 'LD', f'{theirs}norm2.weight', 'D'),
    Row(f'{ours}norm2/bias', 'LD', f'{theirs}norm2.bias', 'D'),
    Row(f'{ours}mlp/up/kernel', 'LDF', f'{theirs}mlp.fc1.weight', 'FD'),
    Row(f'{ours}mlp/up/bias', 'LF', f'{theirs}mlp.fc1.bias', 'F'),
    Row(f'{ours}mlp/down/kernel', 'LFD', f'{theirs}mlp.fc2.weight', 'DF'),
    Row(f'{ours}mlp/down/bias', 'LD', f'{theirs}mlp.fc2.bias', 'D'),
    Row(f'{ours}scale2', 'LD', f'{theirs}gamma_2', 'D'),
  )


_CLASS_KV = tuple(f'blocks_token_only.{{L}}.attn.{name}' for name in 'kv')
ROWS = (
  Row('cls', '11D', 'cls_token', '11D'),
  Row('pos_embedding', '1ND', 'pos_embed', '1ND'),
  Row('embedding/kernel', 'hwCD', 'patch_embed.proj.weight', 'DChw'),
  Row('embedding/bias', 'D', 'patch_embed.proj.bias', 'D'),
  *_shared(_BLOCKS, 'blocks.{L}.'),
  Row(_BLOCKS + 'attention/qkv/kernel', 'LD3AE', 'blocks.{L}.attn.qkv.weight', '(3AE)D'),
  Row(_BLOCKS + 'attention/qkv/bias', 'L3(AE)', 'blocks.{L}.attn.qkv.bias', '(3AE)'),
  Row(_BLOCKS + 'attention/proj_logits/kernel', 'LST', 'blocks.{L}.attn.proj_l.weight', 'TS'),
  Row(_BLOCKS + 'attention/proj_logits/bias', 'LT', 'blocks.{L}.attn.proj_l.bias', 'T'),
  Row(_BLOCKS + 'attention/proj_weights/kernel', 'LST', 'blocks.{L}.attn.proj_w.weight', 'TS'),
  Row(_BLOCKS + 'attention/proj_weights/bias', 'LT', 'blocks.{L}.attn.proj_w.bias', 'T'),
  *_shared(_CLASS, 'blocks_token_only.{L}.'),
  Row(_CLASS + 'attention/query/kernel', 'LD1AE', 'blocks_token_only.{L}.attn.q.weight', '(AE)D'),
  Row(_CLASS + 'attention/query/bias', 'L1(AE)', 'blocks_token_only.{L}.attn.q.bias', '(AE)'),
  Row(_CLASS + 'attention/kv/kernel', 'LD2AE', tuple(f'{n}.weight' for n in _CLASS_KV), '(AE)D'),
  Row(_CLASS + 'attention/kv/bias', 'L2(AE)', tuple(f'{n}.bias' for n in _CLASS_KV), '(AE)'),
  Row('norm/scale', 'D', 'norm.weight', 'D'),
  Row('norm/bias', 'D', 'norm.bias', 'D'),
  Row('head/kernel', 'DK', 'head.weight', 'KD'),
  Row('head/bias', 'K', 'head.bias', 'K'),
)
