"""timm's ViT, DeiT, DeiT III and DINOv2 (vision_transformer.py, deit.py), as state dicts."""

from __future__ import annotations

from vit_jax.weights.layout import Row

_BLOCKS = 'encoder/blocks/'
ROWS = (
  Row('cls', '11D', 'cls_token', '11D'),
  Row('dist', '11D', 'dist_token', '11D'),
  Row('registers', '1RD', 'reg_token', '1RD'),
  Row('pos_embedding', '1ND', 'pos_embed', '1ND'),
  Row('embedding/kernel', 'hwCD', 'patch_embed.proj.weight', 'DChw'),
  Row('embedding/bias', 'D', 'patch_embed.proj.bias', 'D'),
  Row(_BLOCKS + 'norm1/scale', 'LD', 'blocks.{L}.norm1.weight', 'D'),
  Row(_BLOCKS + 'norm1/bias', 'LD', 'blocks.{L}.norm1.bias', 'D'),
  Row(_BLOCKS + 'attention/qkv/kernel', 'LD3AE', 'blocks.{L}.attn.qkv.weight', '(3AE)D'),
  Row(_BLOCKS + 'attention/qkv/bias', 'L3(AE)', 'blocks.{L}.attn.qkv.bias', '(3AE)'),
  Row(_BLOCKS + 'attention/q_norm/scale', 'LE', 'blocks.{L}.attn.q_norm.weight', 'E'),
  Row(_BLOCKS + 'attention/q_norm/bias', 'LE', 'blocks.{L}.attn.q_norm.bias', 'E'),
  Row(_BLOCKS + 'attention/k_norm/scale', 'LE', 'blocks.{L}.attn.k_norm.weight', 'E'),
  Row(_BLOCKS + 'attention/k_norm/bias', 'LE', 'blocks.{L}.attn.k_norm.bias', 'E'),
  Row(_BLOCKS + 'attention/out/kernel', 'LAED', 'blocks.{L}.attn.proj.weight', 'D(AE)'),
  Row(_BLOCKS + 'attention/out/bias', 'LD', 'blocks.{L}.attn.proj.bias', 'D'),
  Row(_BLOCKS + 'scale1', 'LD', 'blocks.{L}.ls1.gamma', 'D'),
  Row(_BLOCKS + 'norm2/scale', 'LD', 'blocks.{L}.norm2.weight', 'D'),
  Row(_BLOCKS + 'norm2/bias', 'LD', 'blocks.{L}.norm2.bias', 'D'),
  Row(
    (_BLOCKS + 'mlp/gate/kernel', _BLOCKS + 'mlp/up/kernel'),
    'LDF',
    'blocks.{L}.mlp.fc1.weight',
    '(2F)D',
  ),
  Row(
    (_BLOCKS + 'mlp/gate/bias', _BLOCKS + 'mlp/up/bias'), 'LF', 'blocks.{L}.mlp.fc1.bias', '(2F)'
  ),
  Row(_BLOCKS + 'mlp/up/kernel', 'LDF', 'blocks.{L}.mlp.fc1.weight', 'FD'),
  Row(_BLOCKS + 'mlp/up/bias', 'LF', 'blocks.{L}.mlp.fc1.bias', 'F'),
  Row(_BLOCKS + 'mlp/down/kernel', 'LFD', 'blocks.{L}.mlp.fc2.weight', 'DF'),
  Row(_BLOCKS + 'mlp/down/bias', 'LD', 'blocks.{L}.mlp.fc2.bias', 'D'),
  Row(_BLOCKS + 'scale2', 'LD', 'blocks.{L}.ls2.gamma', 'D'),
  Row('encoder/norm/scale', 'D', 'norm.weight', 'D'),
  Row('encoder/norm/bias', 'D', 'norm.bias', 'D'),
  Row('map_head/probe', '11D', 'attn_pool.latent', '11D'),
  Row('map_head/attention/query/kernel', 'D1AE', 'attn_pool.q.weight', '(AE)D'),
  Row('map_head/attention/query/bias', '1(AE)', 'attn_pool.q.bias', '(AE)'),
  Row('map_head/attention/kv/kernel', 'D2AE', 'attn_pool.kv.weight', '(2AE)D'),
  Row('map_head/attention/kv/bias', '2(AE)', 'attn_pool.kv.bias', '(2AE)'),
  Row('map_head/attention/out/kernel', 'AED', 'attn_pool.proj.weight', 'D(AE)'),
  Row('map_head/attention/out/bias', 'D', 'attn_pool.proj.bias', 'D'),
  Row('map_head/norm/scale', 'D', 'attn_pool.norm.weight', 'D'),
  Row('map_head/norm/bias', 'D', 'attn_pool.norm.bias', 'D'),
  Row('map_head/mlp/up/kernel', 'DF', 'attn_pool.mlp.fc1.weight', 'FD'),
  Row('map_head/mlp/up/bias', 'F', 'attn_pool.mlp.fc1.bias', 'F'),
  Row('map_head/mlp/down/kernel', 'FD', 'attn_pool.mlp.fc2.weight', 'DF'),
  Row('map_head/mlp/down/bias', 'D', 'attn_pool.mlp.fc2.bias', 'D'),
  Row('pre_logits/kernel', 'DR', 'pre_logits.fc.weight', 'RD'),
  Row('pre_logits/bias', 'R', 'pre_logits.fc.bias', 'R'),
  Row('head/kernel', 'DK', 'head.weight', 'KD'),
  Row('head/bias', 'K', 'head.bias', 'K'),
  Row('head_dist/kernel', 'DK', 'head_dist.weight', 'KD'),
  Row('head_dist/bias', 'K', 'head_dist.bias', 'K'),
)
