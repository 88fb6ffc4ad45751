"""ResNets, BiT and hybrids in the layouts of timm and Google: all names, both ways, bit by bit."""

import numpy as np
import pytest

from tests.weights.made_up import random_variables
from vit_jax import models
from vit_jax.layouts import registry
from vit_jax.layouts.layout import to_ours, to_published
from vit_jax.trees import flatten_variables

NARROW = dict(width=32, heads=2, mlp=64, resnet_width=32)


def there_and_back(name: str, word: str, **options) -> dict[str, np.ndarray]:
  """Published leaves of a small model; asserts that they are recognized and come back."""
  model = models.build(name, 5, **options)
  ours = flatten_variables(random_variables(model, 64))
  table = registry.LAYOUTS[word]
  published = to_published(table, ours)
  assert registry.recognize(published, 'here') == (word, table.prefixes[0])
  bare = {key.removeprefix(table.prefixes[0]): leaf for key, leaf in published.items()}
  reading = to_ours(table, bare, {key: leaf.shape for key, leaf in ours.items()})
  assert not reading.faults and not reading.left and set(reading.ours) == set(ours)
  for key, leaf in ours.items():
    np.testing.assert_array_equal(reading.ours[key], leaf)
  return bare


def google_hybrid_names(depth: int, stages: tuple[int, ...]) -> set[str]:
  """As google-research/vision_transformer writes them, before Linen."""
  names = {
    'cls',
    'embedding/kernel',
    'embedding/bias',
    'head/kernel',
    'head/bias',
    'Transformer/posembed_input/pos_embedding',
    'Transformer/encoder_norm/scale',
    'Transformer/encoder_norm/bias',
    'conv_root/kernel',
    'gn_root/scale',
    'gn_root/bias',
  }
  for i, units in enumerate(stages, 1):
    for j in range(1, units + 1):
      for part in ('1', '2', '3', *(['_proj'] if j == 1 else [])):
        unit = f'block{i}/unit{j}'
        names |= {f'{unit}/conv{part}/kernel', f'{unit}/gn{part}/scale', f'{unit}/gn{part}/bias'}
  attention = 'MultiHeadDotProductAttention_1'
  parts = (
    'LayerNorm_0',
    'LayerNorm_2',
    'MlpBlock_3/Dense_0',
    'MlpBlock_3/Dense_1',
    *(f'{attention}/{name}' for name in ('query', 'key', 'value', 'out')),
  )
  for layer in range(depth):
    for part in parts:
      first = 'scale' if part.startswith('LayerNorm') else 'kernel'
      names |= {f'Transformer/encoderblock_{layer}/{part}/{leaf}' for leaf in (first, 'bias')}
  return names


@pytest.mark.parametrize(
  'name, depth, stages, leaves',
  [
    ('R+Ti/16', 12, (), 203),
    ('R26+S/32', 12, (2, 2, 2, 2), 287),
    ('R50+B/16', 12, (3, 4, 9), 356),
    ('R50+L/32', 24, (3, 4, 6, 3), 551),
  ],
)
def test_google_hybrids(name, depth, stages, leaves):
  published = there_and_back(name, 'google', depth=depth, **NARROW)
  assert set(published) == google_hybrid_names(depth, stages) and len(published) == leaves


def test_old_files_with_group_norms_of_four_axes():
  model = models.build('R26+S/8', 5, stages=(1, 1), depth=1, **NARROW)
  ours = flatten_variables(random_variables(model, 32))
  table = registry.LAYOUTS['google']
  published = {
    key: leaf.reshape(1, 1, 1, -1) if '/gn' in f'/{key}' else leaf
    for key, leaf in to_published(table, ours).items()
  }
  assert sum(leaf.shape[:3] == (1, 1, 1) and leaf.ndim == 4 for leaf in published.values()) == 18
  reading = to_ours(table, published, {key: leaf.shape for key, leaf in ours.items()})
  assert not reading.faults and not reading.left
  for key, leaf in ours.items():
    np.testing.assert_array_equal(reading.ours[key], leaf)


@pytest.mark.parametrize(
  'name, word, options, some',
  [
    (
      'ResNet-18',
      'timm-resnet',
      dict(stages=(1, 2), width=32),
      {
        'conv1.weight',
        'bn1.running_var',
        'layer2.0.downsample.0.weight',
        'layer2.1.bn2.bias',
        'fc.weight',
      },
    ),
    ('ResNet-50', 'timm-resnet', dict(stages=(1,), width=32), {'layer1.0.conv3.weight'}),
    (
      'BiT-R50x1',
      'timm-bit',
      dict(stages=(1, 2), width=32),
      {
        'stem.conv.weight',
        'stages.1.blocks.0.downsample.conv.weight',
        'norm.bias',
        'stages.1.blocks.1.norm3.weight',
        'head.fc.weight',
      },
    ),
    (
      'BiT-R50x1',
      'google-bit',
      dict(stages=(1, 2), width=32),
      {
        'root_block/standardized_conv2d/kernel',
        'block2/unit01/a/proj/standardized_conv2d/kernel',
        'block2/unit02/c/group_norm/gamma',
        'group_norm/beta',
        'head/conv2d/kernel',
      },
    ),
    (
      'R26+S/8',
      'timm-hybrid',
      dict(stages=(1, 1), depth=1, **NARROW),
      {
        'patch_embed.backbone.stem.conv.weight',
        'patch_embed.proj.bias',
        'patch_embed.backbone.stages.1.blocks.0.downsample.norm.weight',
      },
    ),
    (
      'R+Ti/4',
      'timm-hybrid-stem',
      dict(depth=1, **NARROW),
      {'patch_embed.backbone.conv.weight', 'patch_embed.backbone.norm.bias'},
    ),
  ],
  ids=lambda value: value if isinstance(value, str) else None,
)
def test_other_layouts(name, word, options, some):
  assert some <= set(there_and_back(name, word, **options))
