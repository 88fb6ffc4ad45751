"""Published layouts: trees with their names and shapes load with nothing left, and come back."""

import jax
import numpy as np
import pytest

from tests.weights.made_up import check_published, fit, read, tiny
from vit_jax.errors import UserError
from vit_jax.layouts import files, layout, registry
from vit_jax.trees import flatten_variables, unflatten_variables


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
  check_published(published, model, 16, word)


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
    'classifier.weight': np.ones((5, 64), np.float32),
    'classifier.bias': np.zeros(5, np.float32),
  }
  files.write(tmp_path / 'a.safetensors', arrays)
  found = read(tmp_path / 'a.safetensors', tmp_path)
  assert 'Hugging Face DINOv2' in found.where
  _, line = fit(found, model, 16)
  assert 'dinov2.embeddings.mask_token ignored' in line
  assert line.endswith('its classifier, which also sees the mean of the patches, is left out')
  del arrays['classifier.weight'], arrays['classifier.bias']
  files.write(tmp_path / 'a.safetensors', arrays)
  assert fit(read(tmp_path / 'a.safetensors', tmp_path), model, 16)[1].endswith('token ignored')


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
