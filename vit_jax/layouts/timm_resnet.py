"""timm's ResNets (resnet.py, which is pytorch/vision's layout too), BiT (resnetv2.py) and hybrids
(vision_transformer_hybrid.py), as state dicts."""

from collections.abc import Iterable

from vit_jax.layouts import timm_vit
from vit_jax.layouts.layout import Pair
from vit_jax.layouts.modules import affine, batch_norm, conv, norm

STAGES, UNITS = 4, 36  # as many as any published network has
# Counters of a BatchNorm, which serve an average that no published network uses.
IGNORED = (r'(.*\.)?num_batches_tracked',)
PLACES = [(f'stage{i + 1}/unit{j + 1}/', i, j) for i in range(STAGES) for j in range(UNITS)]


def resnet() -> Iterable[Pair]:
  yield from conv('stem/conv', 'conv1')
  yield from batch_norm('stem/norm', 'bn1')
  for unit, i, j in PLACES:
    theirs = f'layer{i + 1}.{j}.'
    for k in (1, 2, 3):
      yield from conv(f'{unit}conv{k}', f'{theirs}conv{k}')
      yield from batch_norm(f'{unit}norm{k}', f'{theirs}bn{k}')
    yield from conv(f'{unit}conv_proj', f'{theirs}downsample.0')
    yield from batch_norm(f'{unit}norm_proj', f'{theirs}downsample.1')
  yield from affine('head', ('DK', 'K'), 'fc', ('KD', 'K'))


def _v2(ours: str, theirs: str) -> Iterable[Pair]:
  """What BiT and the networks below hybrids have; the table of a ResNetV2 without its ends."""
  yield from conv(f'{ours}stem/conv', f'{theirs}stem.conv')
  yield from norm(f'{ours}stem/norm', f'{theirs}stem.norm')
  for unit, i, j in PLACES:
    block = f'{theirs}stages.{i}.blocks.{j}.'
    for k in (1, 2, 3):
      yield from conv(f'{ours}{unit}conv{k}', f'{block}conv{k}')
      yield from norm(f'{ours}{unit}norm{k}', f'{block}norm{k}')
    yield from conv(f'{ours}{unit}conv_proj', f'{block}downsample.conv')
    yield from norm(f'{ours}{unit}norm_proj', f'{block}downsample.norm')


def bit() -> Iterable[Pair]:
  yield from _v2('', '')
  yield from norm('norm', 'norm')
  yield from affine('head', ('DK', 'K'), 'head.fc', ('KD11', 'K'))


def hybrid() -> Iterable[Pair]:
  yield from timm_vit.PAIRS
  yield from _v2('embedding/resnet/', 'patch_embed.backbone.')


def hybrid_without_stages() -> Iterable[Pair]:
  """R+Ti/16, whose backbone is the stem itself."""
  yield from timm_vit.PAIRS
  yield from conv('embedding/resnet/stem/conv', 'patch_embed.backbone.conv')
  yield from norm('embedding/resnet/stem/norm', 'patch_embed.backbone.norm')
