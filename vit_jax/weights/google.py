"""Google's ViT: the .npz of vision_transformer, old and new numbering, and of big_vision.

Names as in google-research/vision_transformer (vit_jax/models_vit.py) and google-research/
big_vision (models/vit.py), flattened with '/'. Published files carry the numbers of the library
before Flax Linen, which counted all submodules of a block together.
"""

from __future__ import annotations

from typing import NamedTuple

from vit_jax.weights.layout import Row


class Numbering(NamedTuple):
  """What the parts of a block are called: 'LayerNorm_0' and so on."""

  norm1: int
  attention: int
  norm2: int
  mlp: int


PRE_LINEN = Numbering(0, 1, 2, 3)
LINEN = Numbering(0, 0, 1, 0)  # big_vision's too

_QKV = ('query', 'key', 'value')
_PARTS = (
  Row('cls', '11D', 'cls', '11D'),
  Row('registers', '1RD', 'reg', '1RD'),
  Row('embedding/kernel', 'hwCD', 'embedding/kernel', 'hwCD'),
  Row('embedding/bias', 'D', 'embedding/bias', 'D'),
  Row('encoder/norm/scale', 'D', 'Transformer/encoder_norm/scale', 'D'),
  Row('encoder/norm/bias', 'D', 'Transformer/encoder_norm/bias', 'D'),
  Row('pre_logits/kernel', 'DR', 'pre_logits/kernel', 'DR'),
  Row('pre_logits/bias', 'R', 'pre_logits/bias', 'R'),
  Row('head/kernel', 'DK', 'head/kernel', 'DK'),
  Row('head/bias', 'K', 'head/bias', 'K'),
)


def vit(n: Numbering) -> tuple[Row, ...]:
  """vision_transformer's, in one numbering."""
  position = Row('pos_embedding', '1ND', 'Transformer/posembed_input/pos_embedding', '1ND')
  return *_PARTS, position, *_block_rows(n, 'Transformer/encoderblock_{L}/', '')


def big_vision(scanned: bool) -> tuple[Row, ...]:
  """big_vision's; `scanned` where the layers are stacked already.

  The second names are those of its first years and of ViT-G while it was developed.
  """
  blocks = (
    _block_rows(LINEN, 'Transformer/encoderblock/', 'L')
    if scanned
    else _block_rows(LINEN, 'Transformer/encoderblock_{L}/', '')
  )
  return (
    *_PARTS,
    *blocks,
    *(
      Row('pos_embedding', '1ND', name, '1ND')
      for name in ('pos_embedding', 'Transformer/pos_embedding')
    ),
    *_map_head_rows('MAPHead_0/'),
    *_map_head_rows(''),
  )


def _block_rows(n: Numbering, theirs: str, L: str) -> list[Row]:
  ours, attention = 'encoder/blocks/', f'{theirs}MultiHeadDotProductAttention_{n.attention}/'
  out = []
  for name, number in (('norm1', n.norm1), ('norm2', n.norm2)):
    out += [
      Row(f'{ours}{name}/{leaf}', 'LD', f'{theirs}LayerNorm_{number}/{leaf}', f'{L}D')
      for leaf in ('scale', 'bias')
    ]
  out += [
    Row(
      f'{ours}attention/qkv/kernel',
      'LD3AE',
      tuple(f'{attention}{name}/kernel' for name in _QKV),
      f'{L}DAE',
    ),
    Row(
      f'{ours}attention/qkv/bias',
      'L3(AE)',
      tuple(f'{attention}{name}/bias' for name in _QKV),
      f'{L}AE',
    ),
    Row(f'{ours}attention/out/kernel', 'LAED', f'{attention}out/kernel', f'{L}AED'),
    Row(f'{ours}attention/out/bias', 'LD', f'{attention}out/bias', f'{L}D'),
  ]
  mlp = f'{theirs}MlpBlock_{n.mlp}/'
  out += [
    Row(f'{ours}mlp/up/kernel', 'LDF', f'{mlp}Dense_0/kernel', f'{L}DF'),
    Row(f'{ours}mlp/up/bias', 'LF', f'{mlp}Dense_0/bias', f'{L}F'),
    Row(f'{ours}mlp/down/kernel', 'LFD', f'{mlp}Dense_1/kernel', f'{L}FD'),
    Row(f'{ours}mlp/down/bias', 'LD', f'{mlp}Dense_1/bias', f'{L}D'),
  ]
  return out


def _map_head_rows(theirs: str) -> list[Row]:
  """Attention pooling, which only big_vision has."""
  ours, attention = 'map_head/', f'{theirs}MultiHeadDotProductAttention_0/'
  mlp, norm = f'{theirs}MlpBlock_0/', f'{theirs}LayerNorm_0/'
  return [
    Row(f'{ours}probe', '11D', f'{theirs}probe', '11D'),
    Row(f'{ours}attention/query/kernel', 'D1AE', f'{attention}query/kernel', 'DAE'),
    Row(f'{ours}attention/query/bias', '1(AE)', f'{attention}query/bias', 'AE'),
    Row(
      f'{ours}attention/kv/kernel',
      'D2AE',
      (f'{attention}key/kernel', f'{attention}value/kernel'),
      'DAE',
    ),
    Row(
      f'{ours}attention/kv/bias', '2(AE)', (f'{attention}key/bias', f'{attention}value/bias'), 'AE'
    ),
    Row(f'{ours}attention/out/kernel', 'AED', f'{attention}out/kernel', 'AED'),
    Row(f'{ours}attention/out/bias', 'D', f'{attention}out/bias', 'D'),
    Row(f'{ours}norm/scale', 'D', f'{norm}scale', 'D'),
    Row(f'{ours}norm/bias', 'D', f'{norm}bias', 'D'),
    Row(f'{ours}mlp/up/kernel', 'DF', f'{mlp}Dense_0/kernel', 'DF'),
    Row(f'{ours}mlp/up/bias', 'F', f'{mlp}Dense_0/bias', 'F'),
    Row(f'{ours}mlp/down/kernel', 'FD', f'{mlp}Dense_1/kernel', 'FD'),
    Row(f'{ours}mlp/down/bias', 'D', f'{mlp}Dense_1/bias', 'D'),
  ]
