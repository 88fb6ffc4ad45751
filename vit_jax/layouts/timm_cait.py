"""timm's CaiT (cait.py), which is the layout of facebookresearch/deit too, as state dicts."""

from vit_jax.layouts.layout import Pair
from vit_jax.layouts.modules import affine, norm

_SELF, _CLASS = 'encoder/blocks/attention/', 'class_blocks/attention/'
_SELFS, _CLASSES = 'blocks.{L}.attn.', 'blocks_token_only.{L}.attn.'


def _block(ours: str, theirs: str) -> list[Pair]:
  """What both kinds of block have."""
  return [
    *norm(f'{ours}norm1', f'{theirs}norm1', 'L'),
    *affine(f'{ours}attention/out', ('LAED', 'LD'), f'{theirs}attn.proj', ('D(AE)', 'D')),
    Pair(f'{ours}scale1', 'LD', f'{theirs}gamma_1', 'D'),
    *norm(f'{ours}norm2', f'{theirs}norm2', 'L'),
    *affine(f'{ours}mlp/up', ('LDF', 'LF'), f'{theirs}mlp.fc1', ('FD', 'F')),
    *affine(f'{ours}mlp/down', ('LFD', 'LD'), f'{theirs}mlp.fc2', ('DF', 'D')),
    Pair(f'{ours}scale2', 'LD', f'{theirs}gamma_2', 'D'),
  ]


PAIRS = (
  Pair('cls', '11D', 'cls_token', '11D'),
  Pair('pos_embedding', '1ND', 'pos_embed', '1ND'),
  *affine('embedding', ('hwCD', 'D'), 'patch_embed.proj', ('DChw', 'D')),
  *_block('encoder/blocks/', 'blocks.{L}.'),
  *affine(f'{_SELF}qkv', ('LD3AE', 'L3(AE)'), f'{_SELFS}qkv', ('(3AE)D', '(3AE)')),
  *affine(f'{_SELF}proj_logits', ('LST', 'LT'), f'{_SELFS}proj_l', ('TS', 'T')),
  *affine(f'{_SELF}proj_weights', ('LST', 'LT'), f'{_SELFS}proj_w', ('TS', 'T')),
  *_block('class_blocks/', 'blocks_token_only.{L}.'),
  *affine(f'{_CLASS}query', ('LD1AE', 'L1(AE)'), f'{_CLASSES}q', ('(AE)D', '(AE)')),
  *affine(f'{_CLASS}kv', ('LD2AE', 'L2(AE)'), (f'{_CLASSES}k', f'{_CLASSES}v'), ('(AE)D', '(AE)')),
  *norm('norm', 'norm'),
  *affine('head', ('DK', 'K'), 'head', ('KD', 'K')),
)
