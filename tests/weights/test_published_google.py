"""Google's layouts: trees with their names and shapes load with nothing left, and come back."""

import math

import numpy as np
import pytest

from tests.weights.made_up import check_published, shapes, tiny
from vit_jax import models
from vit_jax.layouts import layout, registry
from vit_jax.trees import flatten_variables

ATTENTION = 'MultiHeadDotProductAttention'


def google_names(
  width: int,
  depth: int,
  mlp: int,
  heads: int,
  patch: int,
  tokens: int,
  classes: int,
  numbers: tuple[int, int, int, int],
  positions: str,
) -> dict[str, tuple[int, ...]]:
  """Names and shapes as google-research/vision_transformer and big_vision publish them."""
  norm1, attention, norm2, block = numbers
  head = width // heads
  out: dict[str, tuple[int, ...]] = {
    'cls': (1, 1, width),
    'embedding/kernel': (patch, patch, 3, width),
    'embedding/bias': (width,),
    positions: (1, tokens, width),
    'Transformer/encoder_norm/scale': (width,),
    'Transformer/encoder_norm/bias': (width,),
    'head/kernel': (width, classes),
    'head/bias': (classes,),
  }
  for layer in range(depth):
    at = f'Transformer/encoderblock_{layer}'
    for number in (norm1, norm2):
      out |= {f'{at}/LayerNorm_{number}/{leaf}': (width,) for leaf in ('scale', 'bias')}
    for name in ('query', 'key', 'value'):
      out[f'{at}/{ATTENTION}_{attention}/{name}/kernel'] = (width, heads, head)
      out[f'{at}/{ATTENTION}_{attention}/{name}/bias'] = (heads, head)
    out[f'{at}/{ATTENTION}_{attention}/out/kernel'] = (heads, head, width)
    out[f'{at}/{ATTENTION}_{attention}/out/bias'] = (width,)
    for dense, (into, to) in enumerate(((width, mlp), (mlp, width))):
      out[f'{at}/MlpBlock_{block}/Dense_{dense}/kernel'] = (into, to)
      out[f'{at}/MlpBlock_{block}/Dense_{dense}/bias'] = (to,)
  return out


NUMBERINGS = {
  'google': ((0, 1, 2, 3), 'Transformer/posembed_input/pos_embedding'),
  'google-linen': ((0, 0, 1, 0), 'Transformer/posembed_input/pos_embedding'),
  'big_vision': ((0, 0, 1, 0), 'pos_embedding'),
}


@pytest.mark.parametrize('word', NUMBERINGS)
@pytest.mark.parametrize('name, depth, count', [('Ti/16', 12, 5_717_416), ('S/32', 12, 22_878_952)])
def test_google_numberings_at_full_size(word, name, depth, count):
  numbers, positions = NUMBERINGS[word]
  size = models.SIZES[name.split('/')[0]]
  patch = int(name.split('/')[1])
  published = google_names(
    size.width,
    depth,
    size.mlp,
    size.heads,
    patch,
    (224 // patch) ** 2 + 1,
    1000,
    numbers,
    positions,
  )
  assert sum(map(math.prod, published.values())) == count
  check_published(published, models.build(name, 1000), 224, word)


@pytest.mark.parametrize(
  'name, leaves, count',
  [('B/16', 200, 86_567_656), ('L/16', 392, 304_326_632), ('H/14', 520, 632_045_800)],
)
def test_google_counts_without_weights(name, leaves, count):
  """Large models by their shapes: published names, their number and the parameters in them."""
  size, patch = models.SIZES[name[0]], int(name[2:])
  published = google_names(*size, patch, (224 // patch) ** 2 + 1, 1000, *NUMBERINGS['google'])
  assert len(published) == leaves and sum(map(math.prod, published.values())) == count
  wanted = {
    name: leaf.shape
    for name, leaf in flatten_variables(shapes(models.build(name, 1000), 224)).items()
  }
  assert sum(map(math.prod, wanted.values())) == count
  table = registry.LAYOUTS['google']
  named = {
    theirs
    for row in table.pairs
    if set(row.our_names) <= set(wanted)
    for theirs in row.their_names(size.depth)
  }
  assert set(published) <= named and not layout.unnamed(table, wanted)


def resnet_names(stages: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
  """The ResNet below a hybrid; old files store a GroupNorm as (1, 1, 1, C)."""
  out: dict[str, tuple[int, ...]] = {'conv_root/kernel': (7, 7, 3, 64)}
  norms, channels = {'gn_root': 64}, 64
  for i, units in enumerate(stages):
    width = 64 * 2**i
    for j in range(units):
      at = f'block{i + 1}/unit{j + 1}/'
      convs = {
        'conv1': (1, 1, channels, width),
        'conv2': (3, 3, width, width),
        'conv3': (1, 1, width, 4 * width),
      }
      if j == 0:
        convs['conv_proj'] = 1, 1, channels, 4 * width
      out |= {f'{at}{name}/kernel': shape for name, shape in convs.items()}
      norms |= {f'{at}gn{name.removeprefix("conv")}': shape[-1] for name, shape in convs.items()}
      channels = 4 * width
  return out | {
    f'{name}/{leaf}': (1, 1, 1, size) for name, size in norms.items() for leaf in ('scale', 'bias')
  }


@pytest.mark.parametrize(
  'name, stages, patch, tokens, leaves, count',
  [
    ('R+Ti/16', (), 8, 50, 203, 6_337_704),
    ('R26+S/32', (2, 2, 2, 2), 1, 50, 287, 36_431_912),
    ('R26+B/32', (2, 2, 2, 2), 1, 50, 287, 101_383_976),
    ('R50+B/16', (3, 4, 9), 1, 197, 356, 98_659_112),
    ('R50+L/32', (3, 4, 6, 3), 1, 50, 551, 328_994_856),
  ],
)
@pytest.mark.parametrize('word', ['google', 'google-linen'])
def test_google_hybrids(word, name, stages, patch, tokens, leaves, count):
  """All names are read, with nothing left, into just the leaves of the model."""
  size = models.SIZES[name.split('+')[1].split('/')[0]]
  published = google_names(*size, patch, tokens, 1000, *NUMBERINGS[word])
  below = 256 * 2 ** (len(stages) - 1) if stages else 64
  published['embedding/kernel'] = patch, patch, below, size.width
  published |= resnet_names(stages)
  assert len(published) == leaves and sum(map(math.prod, published.values())) == count
  assert registry.recognize(published, 'a file') == (word, '')
  # One byte each: it is the names and shapes that matter here.
  arrays = {theirs: np.broadcast_to(np.int8(1), shape) for theirs, shape in published.items()}
  wanted = {
    ours: leaf.shape
    for ours, leaf in flatten_variables(shapes(models.build(name, 1000), 224)).items()
  }
  reading = layout.to_ours(registry.LAYOUTS[word], arrays, wanted)
  assert not reading.faults and not reading.left
  assert {ours: leaf.shape for ours, leaf in reading.ours.items()} == wanted


def test_big_vision_scanned_with_map_head_and_representation():
  """big_vision's scan stacks the layers; MAPHead_0 pools, and positions have no class slot."""
  plain = google_names(32, 2, 64, 2, 8, 4, 5, *NUMBERINGS['big_vision'])
  del plain['cls']
  scanned = {}
  for name, shape in plain.items():
    if '_1/' in name and 'encoderblock_1' in name:
      continue
    scanned[name.replace('encoderblock_0', 'encoderblock')] = (
      (2, *shape) if 'encoderblock' in name else shape
    )
  head = {
    'probe': (1, 1, 32),
    'LayerNorm_0/scale': (32,),
    'LayerNorm_0/bias': (32,),
    'MlpBlock_0/Dense_0/kernel': (32, 64),
    'MlpBlock_0/Dense_0/bias': (64,),
    'MlpBlock_0/Dense_1/kernel': (64, 32),
    'MlpBlock_0/Dense_1/bias': (32,),
    f'{ATTENTION}_0/out/kernel': (2, 16, 32),
    f'{ATTENTION}_0/out/bias': (32,),
  }
  for name in ('query', 'key', 'value'):
    head |= {f'{ATTENTION}_0/{name}/kernel': (32, 2, 16), f'{ATTENTION}_0/{name}/bias': (2, 16)}
  scanned |= {f'MAPHead_0/{name}': shape for name, shape in head.items()}
  scanned |= {'pre_logits/kernel': (32, 32), 'pre_logits/bias': (32,)}
  model, _ = tiny(pool='map', representation=True)
  check_published(scanned, model, 16, 'big_vision-scanned')
  unscanned = plain | {name: shape for name, shape in scanned.items() if 'encoderblock' not in name}
  check_published(unscanned, model, 16, 'big_vision')
