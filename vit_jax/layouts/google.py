"""Google's ViT: the .npz of vision_transformer, old and new numbering, and of big_vision.

Names as in google-research/vision_transformer (vit_jax/models_vit.py) and google-research/
big_vision (models/vit.py), flattened with '/'. Published files carry the numbers of the library
before Flax Linen, which counted all submodules of a block together.
"""

from functools import partial
from typing import NamedTuple

from vit_jax.layouts import modules
from vit_jax.layouts.layout import Pair


class Numbering(NamedTuple):
  """What the parts of a block are called: 'LayerNorm_0' and so on."""

  norm1: int
  attention: int
  norm2: int
  mlp: int


PRE_LINEN = Numbering(0, 1, 2, 3)
LINEN = Numbering(0, 0, 1, 0)  # big_vision's too

FLAX = '/kernel', '/bias'
affine = partial(modules.affine, leaves=FLAX)
norm = partial(modules.norm, leaves=('/scale', '/bias'))

_PARTS = (
  Pair('cls', '11D', 'cls', '11D'),
  Pair('registers', '1RD', 'reg', '1RD'),
  *affine('embedding', ('hwCD', 'D'), 'embedding', ('hwCD', 'D')),
  *norm('encoder/norm', 'Transformer/encoder_norm'),
  *affine('pre_logits', ('DR', 'R'), 'pre_logits', ('DR', 'R')),
  *affine('head', ('DK', 'K'), 'head', ('DK', 'K')),
)


def vit(n: Numbering) -> tuple[Pair, ...]:
  """vision_transformer's, in one numbering."""
  position = Pair('pos_embedding', '1ND', 'Transformer/posembed_input/pos_embedding', '1ND')
  return *_PARTS, position, *_block(n, 'Transformer/encoderblock_{L}/', '')


def big_vision(scanned: bool) -> tuple[Pair, ...]:
  """big_vision's; `scanned` where the layers are stacked already.

  The second names are those of its first years and of ViT-G while it was developed.
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


def _block(n: Numbering, theirs: str, L: str) -> list[Pair]:
  ours, attention = 'encoder/blocks/', f'{theirs}MultiHeadDotProductAttention_{n.attention}/'
  qkv = tuple(attention + name for name in ('query', 'key', 'value'))
  mlp = f'{theirs}MlpBlock_{n.mlp}/Dense_'
  return [
    *norm(f'{ours}norm1', f'{theirs}LayerNorm_{n.norm1}', 'L', their_L=L),
    *norm(f'{ours}norm2', f'{theirs}LayerNorm_{n.norm2}', 'L', their_L=L),
    *affine(f'{ours}attention/qkv', ('LD3AE', 'L3(AE)'), qkv, (f'{L}DAE', f'{L}AE')),
    *affine(f'{ours}attention/out', ('LAED', 'LD'), f'{attention}out', (f'{L}AED', f'{L}D')),
    *affine(f'{ours}mlp/up', ('LDF', 'LF'), f'{mlp}0', (f'{L}DF', f'{L}F')),
    *affine(f'{ours}mlp/down', ('LFD', 'LD'), f'{mlp}1', (f'{L}FD', f'{L}D')),
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
