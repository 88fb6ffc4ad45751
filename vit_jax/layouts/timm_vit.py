"""timm's ViT, DeiT, DeiT III and DINOv2 (vision_transformer.py, deit.py), as state dicts."""

from vit_jax.layouts.layout import Pair
from vit_jax.layouts.modules import affine, norm
from vit_jax.models.options import Inputs, ViTOptions

_OURS, _THEIRS = 'encoder/blocks/', 'blocks.{L}.'
_GATED = f'{_OURS}mlp/gate', f'{_OURS}mlp/up'
PAIRS = (
  Pair('cls', '11D', 'cls_token', '11D'),
  Pair('dist', '11D', 'dist_token', '11D'),
  Pair('registers', '1RD', 'reg_token', '1RD'),
  Pair('pos_embedding', '1ND', 'pos_embed', '1ND'),
  *affine('embedding', ('hwCD', 'D'), 'patch_embed.proj', ('DChw', 'D')),
  *norm(f'{_OURS}norm1', f'{_THEIRS}norm1', 'L'),
  *affine(f'{_OURS}attention/qkv', ('LD3AE', 'L3(AE)'), f'{_THEIRS}attn.qkv', ('(3AE)D', '(3AE)')),
  *norm(f'{_OURS}attention/q_norm', f'{_THEIRS}attn.q_norm', 'L'),
  *norm(f'{_OURS}attention/k_norm', f'{_THEIRS}attn.k_norm', 'L'),
  *affine(f'{_OURS}attention/out', ('LAED', 'LD'), f'{_THEIRS}attn.proj', ('D(AE)', 'D')),
  Pair(f'{_OURS}scale1', 'LD', f'{_THEIRS}ls1.gamma', 'D'),
  *norm(f'{_OURS}norm2', f'{_THEIRS}norm2', 'L'),
  *affine(_GATED, ('LDF', 'LF'), f'{_THEIRS}mlp.fc1', ('(2F)D', '(2F)')),
  *affine(f'{_OURS}mlp/up', ('LDF', 'LF'), f'{_THEIRS}mlp.fc1', ('FD', 'F')),
  *affine(f'{_OURS}mlp/down', ('LFD', 'LD'), f'{_THEIRS}mlp.fc2', ('DF', 'D')),
  Pair(f'{_OURS}scale2', 'LD', f'{_THEIRS}ls2.gamma', 'D'),
  *norm('encoder/norm', 'norm'),
  Pair('map_head/probe', '11D', 'attn_pool.latent', '11D'),
  *affine('map_head/attention/query', ('D1AE', '1(AE)'), 'attn_pool.q', ('(AE)D', '(AE)')),
  *affine('map_head/attention/kv', ('D2AE', '2(AE)'), 'attn_pool.kv', ('(2AE)D', '(2AE)')),
  *affine('map_head/attention/out', ('AED', 'D'), 'attn_pool.proj', ('D(AE)', 'D')),
  *norm('map_head/norm', 'attn_pool.norm'),
  *affine('map_head/mlp/up', ('DF', 'F'), 'attn_pool.mlp.fc1', ('FD', 'F')),
  *affine('map_head/mlp/down', ('FD', 'D'), 'attn_pool.mlp.fc2', ('DF', 'D')),
  *affine('pre_logits', ('DR', 'R'), 'pre_logits.fc', ('RD', 'R')),
  *affine('head', ('DK', 'K'), 'head', ('KD', 'K')),
  *affine('head_dist', ('DK', 'K'), 'head_dist', ('KD', 'K')),
)


def create_model(o: ViTOptions, inputs: Inputs, num_classes: int) -> str:
  """The call of timm that builds this ViT; '' where its arguments do not."""
  if o.distilled or o.mlp_kind != 'gelu' or o.representation:
    return ''
  settings = dict(img_size=inputs.size, patch_size=o.patch, in_chans=len(inputs.mean))
  settings |= dict(num_classes=num_classes, embed_dim=o.width, depth=o.depth, num_heads=o.heads)
  settings |= dict(mlp_ratio=o.mlp / o.width)
  for differs, those in (
    (not o.exact_gelu, dict(act_layer='gelu_tanh')),
    (o.pool != 'cls', dict(class_token=False)),
    (o.pool == 'mean', dict(global_pool='avg', fc_norm=False)),
    (o.pool == 'map', dict(global_pool='map')),
    (o.posemb == 'none', dict(pos_embed='none')),
    (o.pool != 'cls' or not o.posemb_class, dict(no_embed_class=True)),
    (o.registers, dict(reg_tokens=o.registers)),
    (o.layerscale, dict(init_values=o.layerscale)),
    (o.qk_norm, dict(qk_norm=True)),
  ):
    settings |= those if differs else {}
  words = ', '.join(f'{name}={value!r}' for name, value in settings.items())
  return f"timm.create_model('vit_tiny_patch16_224', {words})"
