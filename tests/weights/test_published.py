"""Published layouts: trees with their names and shapes load with nothing left, and come back."""

import math

import jax
import numpy as np
import pytest

from tests.weights.made_up import fit, read, shapes, tiny
from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.layouts import files, layout, registry
from vit_jax.trees import flatten_variables, unflatten_variables

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


def check(published: dict[str, tuple[int, ...]], model, size: int, word: str) -> layout.Reading:
  """Reads a tree of these names and shapes; nothing may be left, and it comes back as it was."""
  rng = np.random.default_rng(0)
  leaves = {name: rng.normal(size=shape).astype(np.float32) for name, shape in published.items()}
  assert registry.recognize(leaves, 'a file') == (word, '')
  wanted = {name: leaf.shape for name, leaf in flatten_variables(shapes(model, size)).items()}
  table = registry.LAYOUTS[word]
  reading = layout.to_ours(table, leaves, wanted)
  assert not reading.faults and not reading.left
  assert {name: leaf.shape for name, leaf in reading.ours.items()} == wanted
  back = layout.to_published(table, reading.ours)
  assert set(back) == set(leaves)
  assert all(np.array_equal(back[name], leaves[name]) for name in leaves)
  return reading


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
  check(published, models.build(name, 1000), 224, word)


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
  check(scanned, model, 16, 'big_vision-scanned')
  unscanned = plain | {name: shape for name, shape in scanned.items() if 'encoderblock' not in name}
  check(unscanned, model, 16, 'big_vision')


def hf_names(
  prefix: str, tokens: int, norms: tuple[str, str], mlp: dict[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
  """Names and shapes as huggingface/transformers publishes them, of width 32 and depth 2."""
  out: dict[str, tuple[int, ...]] = {
    'embeddings.cls_token': (1, 1, 32),
    'embeddings.position_embeddings': (1, tokens, 32),
    'embeddings.patch_embeddings.projection.weight': (32, 3, 8, 8),
    'embeddings.patch_embeddings.projection.bias': (32,),
    'layernorm.weight': (32,),
    'layernorm.bias': (32,),
  }
  for layer in range(2):
    at = f'encoder.layer.{layer}.'
    for name in ('attention.query', 'attention.key', 'attention.value', 'output.dense'):
      out |= {f'{at}attention.{name}.weight': (32, 32), f'{at}attention.{name}.bias': (32,)}
    out |= {f'{at}{name}.{leaf}': (32,) for name in norms for leaf in ('weight', 'bias')}
    out |= {f'{at}{name}': shape for name, shape in mlp.items()}
  return {prefix + name: shape for name, shape in out.items()}


VIT_NORMS = ('layernorm_before', 'layernorm_after')
VIT_MLP = {
  'intermediate.dense.weight': (64, 32),
  'intermediate.dense.bias': (64,),
  'output.dense.weight': (32, 64),
  'output.dense.bias': (32,),
}
SCALES = {'layer_scale1.lambda1': (32,), 'layer_scale2.lambda1': (32,)}
GELU = {
  'mlp.fc1.weight': (64, 32),
  'mlp.fc1.bias': (64,),
  'mlp.fc2.weight': (32, 64),
  'mlp.fc2.bias': (32,),
}
SWIGLU = {
  'mlp.weights_in.weight': (128, 32),
  'mlp.weights_in.bias': (128,),
  'mlp.weights_out.weight': (32, 64),
  'mlp.weights_out.bias': (32,),
}


def classifier(name: str) -> dict[str, tuple[int, ...]]:
  return {f'{name}.weight': (5, 32), f'{name}.bias': (5,)}


@pytest.mark.parametrize(
  'published, word, options',
  [
    (hf_names('vit.', 5, VIT_NORMS, VIT_MLP) | classifier('classifier'), 'hf', {}),
    (
      hf_names('', 5, VIT_NORMS, VIT_MLP)
      | {'pooler.dense.weight': (32, 32), 'pooler.dense.bias': (32,)},
      'hf-vit-bare',
      dict(num_classes=0, representation=True),
    ),
    (
      hf_names('deit.', 6, VIT_NORMS, VIT_MLP)
      | classifier('cls_classifier')
      | classifier('distillation_classifier')
      | {'deit.embeddings.distillation_token': (1, 1, 32)},
      'hf-deit',
      dict(distilled=True),
    ),
    (
      hf_names('', 5, ('norm1', 'norm2'), GELU | SCALES),
      'hf-dinov2',
      dict(num_classes=0, layerscale=1.0),
    ),
    (
      hf_names('', 5, ('norm1', 'norm2'), SWIGLU | SCALES)
      | {'embeddings.register_tokens': (1, 4, 32)},
      'hf-dinov2-swiglu',
      dict(num_classes=0, layerscale=1.0, mlp_kind='swiglu', registers=4),
    ),
  ],
  ids=['vit', 'bare vit', 'deit', 'dinov2', 'dinov2 giant'],
)
def test_hugging_face(published, word, options):
  model, _ = tiny(**options)
  check(published, model, 16, word)


PREFIXED = [('params/', 'google-linen'), ('opt/target/', 'google'), ('params/img/', 'big_vision')]


@pytest.mark.parametrize('prefix, word', PREFIXED)
def test_prefixes_are_taken_off_and_what_is_outside_is_reported(prefix, word, tmp_path):
  model, ours = tiny()
  published = layout.to_published(registry.LAYOUTS[word], ours)
  arrays = {prefix + name: leaf for name, leaf in published.items()}
  arrays['opt/state/step'] = np.asarray(7)
  files.write(tmp_path / 'a.npz', arrays)
  found = read(tmp_path / 'a.npz', tmp_path)
  variables, line = fit(found, model, 16)
  again = flatten_variables(variables)
  assert all(np.array_equal(again[name], ours[name]) for name in ours)
  assert f'{len(ours)} leaves matched, 0 resized, 0 fresh' in line
  assert line.endswith(f'1 leaves outside {prefix} ignored')


def test_prefixes_of_dinov2_and_what_is_ignored(tmp_path):
  model, ours = tiny(num_classes=0, layerscale=1.0)
  published = layout.to_published(registry.LAYOUTS['hf-dinov2'], ours)
  arrays = {f'dinov2.{name}': leaf for name, leaf in published.items()}
  arrays |= {
    'dinov2.embeddings.mask_token': np.zeros((1, 32), np.float32),
    'classifier.weight': np.zeros((5, 64), np.float32),
  }
  files.write(tmp_path / 'a.safetensors', arrays)
  found = read(tmp_path / 'a.safetensors', tmp_path)
  assert 'Hugging Face DINOv2' in found.where
  _, line = fit(found, model, 16)
  assert line.endswith('embeddings.mask_token ignored, 1 leaves outside dinov2. ignored')


@pytest.mark.parametrize(
  'family, suffix, name, options',
  [
    ('google', '.npz', 'Ti/8', {}),
    ('google-linen', '.npz', 'Ti/8', dict(representation=True)),
    ('big_vision', '.npz', 'Ti/8', dict(pool='map')),
    ('big_vision-scanned', '.npz', 'Ti/8', dict(pool='mean')),
    ('timm', '.safetensors', 'Ti/8', dict(qk_norm=True, registers=2)),
    ('timm', '.npz', 'DeiT-Ti/8-distilled', {}),
    ('timm', '.safetensors', 'DeiT3-S/8', {}),
    ('timm', '.safetensors', 'DINOv2-g/8', dict(num_classes=0)),
    ('timm', '.safetensors', 'Ti/8', dict(pool='map')),
    ('google', '.npz', 'R26+S/8', dict(stages=(1, 1), resnet_width=32)),
    ('timm', '.safetensors', 'R26+S/8', dict(stages=(1, 1), resnet_width=32)),
    ('timm', '.safetensors', 'CaiT-XXS24', dict(patch=8)),
    ('hf', '.safetensors', 'DINOv2-S/8', dict(num_classes=0)),
    ('hf', '.safetensors', 'DeiT-Ti/8-distilled', {}),
  ],
)
def test_saved_and_loaded_bit_by_bit(family, suffix, name, options, tmp_path):
  model, ours = tiny(name, **options)
  path = tmp_path / f'weights{suffix}'
  files.write(path, layout.to_published(registry.layout_for([family], ours), ours))
  variables, line = fit(read(path, tmp_path), model, 16)
  assert f'{len(ours)} leaves matched, 0 resized, 0 fresh' in line
  again = flatten_variables(variables)
  assert all(np.array_equal(again[name], ours[name]) for name in ours)
  assert all(leaf.dtype == np.float32 for leaf in again.values())


def test_unknown_names_are_answered_with_the_layouts():
  with pytest.raises(UserError) as error:
    registry.recognize(['features.0.weight', 'classifier.6.bias'], 'vgg.npz')
  assert str(error.value).startswith("vgg.npz has names of no known layout, such as 'classifier.6.")
  assert 'Google ViT, ' in str(error.value) and 'timm ViT' in str(error.value)


def test_layouts_that_lack_a_name_say_which():
  _, ours = tiny(distilled=True)
  with pytest.raises(UserError, match='--layout=google has no name for dist'):
    registry.layout_for(['google'], ours)
  with pytest.raises(UserError, match="--layout=tim is unknown; did you mean 'timm'"):
    registry.layout_for(['tim'], ours)


def test_same_numbers_in_every_layout():
  """A forward pass is the same whichever way the weights went."""
  model, ours = tiny()
  images_BHWC = np.random.default_rng(1).normal(size=(2, 16, 16, 3)).astype(np.float32)
  forward = jax.jit(lambda variables: model.apply(variables, images_BHWC, train=False).logits_BK)
  wanted = {name: leaf.shape for name, leaf in ours.items()}
  logits = [
    forward(
      unflatten_variables(layout.to_ours(table, layout.to_published(table, ours), wanted).ours)
    )
    for table in registry.LAYOUTS.values()
    if not layout.unnamed(table, ours)
  ]
  assert len(logits) >= 7
  assert all(np.array_equal(other, logits[0]) for other in logits[1:])
