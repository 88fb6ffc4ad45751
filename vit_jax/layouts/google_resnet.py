"""ResNets in Google's files: the one below a hybrid, and BiT.

Names as in google-research/vision_transformer (vit_jax/models_resnet.py) and in the .npz files of
google-research/big_transfer.
"""

from collections.abc import Iterable

from vit_jax.layouts.google import affine, norm
from vit_jax.layouts.layout import Pair
from vit_jax.layouts.timm_resnet import PLACES

BIT = '/gamma', '/beta'


def _kernel(ours: str, theirs: str) -> Pair:
  return Pair(f'{ours}/kernel', 'hwCD', f'{theirs}/kernel', 'hwCD')


def hybrid() -> Iterable[Pair]:
  """What a hybrid has more than a ViT."""
  ours = 'embedding/resnet/'
  yield _kernel(f'{ours}stem/conv', 'conv_root')
  yield from norm(f'{ours}stem/norm', 'gn_root')
  for unit, i, j in PLACES:
    for part in ('1', '2', '3', '_proj'):
      theirs = f'block{i + 1}/unit{j + 1}/'
      yield _kernel(f'{ours}{unit}conv{part}', f'{theirs}conv{part}')
      yield from norm(f'{ours}{unit}norm{part}', f'{theirs}gn{part}')  # (1, 1, 1, D) in old files


def bit() -> Iterable[Pair]:
  yield _kernel('stem/conv', 'root_block/standardized_conv2d')
  for unit, i, j in PLACES:
    theirs = f'block{i + 1}/unit{j + 1:02}/'
    for k, part in enumerate('abc', 1):
      yield _kernel(f'{unit}conv{k}', f'{theirs}{part}/standardized_conv2d')
      yield from norm(f'{unit}norm{k}', f'{theirs}{part}/group_norm', leaves=BIT)
    yield _kernel(f'{unit}conv_proj', f'{theirs}a/proj/standardized_conv2d')
  yield from norm('norm', 'group_norm', leaves=BIT)
  yield from affine('head', ('DK', 'K'), 'head/conv2d', ('11DK', 'K'))
