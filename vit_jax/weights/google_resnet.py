"""ResNets in Google's files: the one below a hybrid, and BiT.

Names as in google-research/vision_transformer (vit_jax/models_resnet.py) and in the .npz files of
google-research/big_transfer.
"""

from __future__ import annotations

from collections.abc import Iterable

from vit_jax.weights.layout import Row
from vit_jax.weights.timm_resnet import PLACES


def _pair(ours: str, theirs: str, scale: str = 'scale', bias: str = 'bias') -> list[Row]:
  return [
    Row(f'{ours}/scale', 'D', f'{theirs}/{scale}', 'D'),  # (1, 1, 1, D) in old files
    Row(f'{ours}/bias', 'D', f'{theirs}/{bias}', 'D'),
  ]


def _kernel(ours: str, theirs: str) -> Row:
  return Row(f'{ours}/kernel', 'hwCD', f'{theirs}/kernel', 'hwCD')


def hybrid() -> Iterable[Row]:
  """What a hybrid has more than a ViT."""
  ours = 'embedding/resnet/'
  yield _kernel(f'{ours}stem/conv', 'conv_root')
  yield from _pair(f'{ours}stem/norm', 'gn_root')
  for unit, i, j in PLACES:
    for part in ('1', '2', '3', '_proj'):
      theirs = f'block{i + 1}/unit{j + 1}/'
      yield _kernel(f'{ours}{unit}conv{part}', f'{theirs}conv{part}')
      yield from _pair(f'{ours}{unit}norm{part}', f'{theirs}gn{part}')


def bit() -> Iterable[Row]:
  yield _kernel('stem/conv', 'root_block/standardized_conv2d')
  for unit, i, j in PLACES:
    theirs = f'block{i + 1}/unit{j + 1:02}/'
    for k, part in enumerate('abc', 1):
      yield _kernel(f'{unit}conv{k}', f'{theirs}{part}/standardized_conv2d')
      yield from _pair(f'{unit}norm{k}', f'{theirs}{part}/group_norm', 'gamma', 'beta')
    yield _kernel(f'{unit}conv_proj', f'{theirs}a/proj/standardized_conv2d')
  yield from _pair('norm', 'group_norm', 'gamma', 'beta')
  yield Row('head/kernel', 'DK', 'head/conv2d/kernel', '11DK')
  yield Row('head/bias', 'K', 'head/conv2d/bias', 'K')
