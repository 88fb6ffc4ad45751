"""Google's .npz: ViT and hybrids of vision_transformer, old and new numbering; big_vision; BiT.

Names as in google-research/vision_transformer (vit_jax/models_vit.py, models_resnet.py), google-
research/big_vision (models/vit.py) and google-research/big_transfer, flattened with '/'. Published
ViTs carry the numbers of the library before Flax Linen, which counted all submodules of a block
together.
"""

from functools import partial

from vit_jax.layouts import modules
from vit_jax.layouts.layout import Pair

# The numbers of norm1, attention, norm2 and mlp in a block: 'LayerNorm_0' and so on.
Numbers = tuple[int, int, int, int]
PRE_LINEN: Numbers = (0, 1, 2, 3)
LINEN: Numbers = (0, 0, 1, 0)  # big_vision's too

affine = partial(modules.affine, leaves=('/kernel', '/bias'))
norm = partial(modules.norm, leaves=('/scale', '/bias'))
_conv = partial(modules.conv, leaf='/kernel', axes='hwCD')

_PARTS = (
  Pair('cls', '11D', 'cls', '11D'),
  Pair('registers', '1RD', 'reg', '1RD'),
  *affine('embedding', ('hwCD', 'D'), 'embedding', ('hwCD', 'D')),
  *norm('encoder/norm', 'Transformer/encoder_norm'),
  *affine('pre_logits', ('DR', 'R'), 'pre_logits', ('DR', 'R')),
  *affine('head', ('DK', 'K'), 'head', ('DK', 'K')),
)


def vit(numbers: Numbers) -> tuple[Pair, ...]:
  """vision_transformer's, and its hybrids."""
  position = Pair('pos_embedding', '1ND', 'Transformer/posembed_input/pos_embedding', '1ND')
  parts = {part: (f'conv{part}', f'gn{part}') for part in ('1', '2', '3', '_proj')}
  backbone = modules.resnet(
    'embedding/resnet/', ('conv_root', 'gn_root'), 'block{I}/unit{J}/', parts, _conv, norm
  )
  return *_PARTS, position, *_block(numbers, 'Transformer/encoderblock_{L}/', ''), *backbone


def bit() -> tuple[Pair, ...]:
  gamma = partial(modules.norm, leaves=('/gamma', '/beta'))
  parts = {'1': 'a', '2': 'b', '3': 'c'}
  parts = {k: (f'{abc}/standardized_conv2d', f'{abc}/group_norm') for k, abc in parts.items()}
  parts['_proj'] = 'a/proj/standardized_conv2d', ''
  return (
    *modules.resnet(
      '', ('root_block/standardized_conv2d', ''), 'block{I}/unit{J:02}/', parts, _conv, gamma
    ),
    *gamma('norm', 'group_norm'),
    *affine('head', ('DK', 'K'), 'head/conv2d', ('11DK', 'K')),
  )


def big_vision(scanned: bool) -> tuple[Pair, ...]:
  """big_vision's; `scanned` if the layers are stacked already.

  The second names are those of its first years and of ViT-G during its development.
  """
  name, L = ('encoderblock', 'L') if scanned else ('encoderblock_{L}', '')
  return (
    *_PARTS,
    *_block(LINEN, f'Transformer/{name}/', L),
    Pair('pos_embedding', '1ND', 'pos_embedding', '1ND'),
    Pair('pos_embedding', '1ND', 'Transformer/pos_embedding', '1ND'),
    *_map_head('MAPHead_0/'),
    *_map_head(''),
  )


def _block(numbers: Numbers, theirs: str, L: str) -> list[Pair]:
  norm1, attn, norm2, mlp = numbers
  ours, attention = 'encoder/blocks/', f'{theirs}MultiHeadDotProductAttention_{attn}/'
  qkv = tuple(attention + name for name in ('query', 'key', 'value'))
  dense = f'{theirs}MlpBlock_{mlp}/Dense_'
  return [
    *norm(f'{ours}norm1', f'{theirs}LayerNorm_{norm1}', 'L', their_L=L),
    *norm(f'{ours}norm2', f'{theirs}LayerNorm_{norm2}', 'L', their_L=L),
    *affine(f'{ours}attention/qkv', ('LD3AE', 'L3(AE)'), qkv, (f'{L}DAE', f'{L}AE')),
    *affine(f'{ours}attention/out', ('LAED', 'LD'), f'{attention}out', (f'{L}AED', f'{L}D')),
    *affine(f'{ours}mlp/up', ('LDF', 'LF'), f'{dense}0', (f'{L}DF', f'{L}F')),
    *affine(f'{ours}mlp/down', ('LFD', 'LD'), f'{dense}1', (f'{L}FD', f'{L}D')),
  ]


def _map_head(theirs: str) -> list[Pair]:
  """Attention pooling, which only big_vision has."""
  ours, attention = 'map_head/', f'{theirs}MultiHeadDotProductAttention_0/'
  kv, mlp = (f'{attention}key', f'{attention}value'), f'{theirs}MlpBlock_0/Dense_'
  return [
    Pair(f'{ours}probe', '11D', f'{theirs}probe', '11D'),
    *affine(f'{ours}attention/query', ('D1AE', '1(AE)'), f'{attention}query', ('DAE', 'AE')),
    *affine(f'{ours}attention/kv', ('D2AE', '2(AE)'), kv, ('DAE', 'AE')),
    *affine(f'{ours}attention/out', ('AED', 'D'), f'{attention}out', ('AED', 'D')),
    *norm(f'{ours}norm', f'{theirs}LayerNorm_0'),
    *affine(f'{ours}mlp/up', ('DF', 'F'), f'{mlp}0', ('DF', 'F')),
    *affine(f'{ours}mlp/down', ('FD', 'D'), f'{mlp}1', ('FD', 'D')),
  ]
