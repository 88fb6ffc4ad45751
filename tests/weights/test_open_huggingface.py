"""`weights.open`: folders and repositories of Hugging Face, of transformers and of timm."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tests.weights.made_up import TINY
from tests.weights.made_up_folder import hf_config, hf_folder, same
from tests.weights.made_up_run import CLASSES
from vit_jax import models, weights
from vit_jax.data.view import View
from vit_jax.errors import UserError
from vit_jax.layouts import files
from vit_jax.weights import huggingface

pytestmark = pytest.mark.usefixtures('no_downloads')


def test_a_vit_of_transformers(tmp_path):
  options = TINY | dict(exact_gelu=True)
  preprocessor = dict(
    size=dict(height=16, width=16), image_mean=[0.1] * 3, image_std=[0.2] * 3, do_normalize=True
  )
  variables = hf_folder(
    tmp_path / 'vit', 'hf', models.build('Ti/8', 3, **options), preprocessor=preprocessor,
    id2label={'1': 'bee', '0': 'ant', '2': 'cat'}, layer_norm_eps=1e-12,
  )  # fmt: skip
  opened = weights.open(tmp_path / 'vit')
  assert same(opened.variables, variables) and opened.class_names == CLASSES
  assert opened.model.options == models.options_of('S/8', options)
  assert (opened.mean, opened.std) == ((0.1,) * 3, (0.2,) * 3)
  assert opened.view == View.whole((16, 16), 3)  # as transformers has it by default
  assert '1e-12' in opened.line and 'assumed' not in opened.line
  assert weights.open(tmp_path / 'vit', model='Ti/8', options=TINY).name == 'Ti/8'


@pytest.mark.parametrize(
  'name, word, config, view',
  [
    (
      'DeiT-S/8-distilled',
      'hf-deit',
      dict(model_type='deit'),
      (dict(size=dict(height=20, width=20), crop_size=16), View((16, 16), 3, 0.8, aspect='change')),
    ),
    (
      'DINOv2-S/8',
      'hf-dinov2',
      dict(model_type='dinov2', mlp_ratio=2, intermediate_size=None),
      (dict(size=dict(shortest_edge=32), crop_size=dict(height=16, width=16)), 0.5),
    ),
    (
      'DINOv2-S/8-reg4',
      'hf-dinov2',
      dict(model_type='dinov2_with_registers', mlp_ratio=2, num_register_tokens=2),
      None,
    ),
  ],
)
def test_families_of_transformers(name, word, config, view, tmp_path):
  options = TINY | (dict(registers=2) if 'reg4' in name else {})
  classes = 3 if word == 'hf-deit' else 0
  model = models.build(name, classes, **options, **dict(posemb_class=True) if classes == 0 else {})
  config = {key: value for key, value in config.items() if value is not None}
  if 'mlp_ratio' in config:
    config['intermediate_size'] = 64
  variables = hf_folder(tmp_path, word, model, preprocessor=view and view[0], **config)
  opened = weights.open(tmp_path)
  assert opened.name == name and opened.model.num_classes == classes
  images_BHWC = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
  expected, got = (
    a.apply(b, images_BHWC, train=False).features_BD
    for a, b in ((model, variables), (opened.model, opened.variables))
  )
  np.testing.assert_allclose(got, expected, atol=1e-6)
  if view is None:
    assert f"as timm's {name}: 16x16, crop 1, bicubic, mean 0.485,0.456,0.406" in opened.line
  else:
    wanted = View((16, 16), 3, view[1]) if isinstance(view[1], float) else view[1]
    assert opened.view == wanted


def test_sizes_that_have_a_name():
  large = hf_config(
    hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
  )
  assert huggingface._of_transformers(large)[0] == 'L/8'
  giant = dict(
    model_type='dinov2', hidden_size=1536, num_hidden_layers=40, num_attention_heads=24,
    mlp_ratio=4, use_swiglu_ffn=True, patch_size=14,
  )  # fmt: skip
  name, options = huggingface._of_transformers(giant)
  assert name == 'DINOv2-g/14' and options['mlp'] == 4096


@pytest.mark.parametrize('config', [dict(model_type='clip'), dict(hidden_act='relu')])
def test_a_model_that_is_none_of_ours_needs_a_name(config, tmp_path):
  hf_folder(tmp_path, 'hf', models.build('Ti/8', 3, **TINY), **config)
  with pytest.raises(UserError, match='--model is missing: .* does not say'):
    weights.open(tmp_path)
  assert weights.open(tmp_path, model='Ti/8', options=TINY).name == 'Ti/8'


@pytest.mark.parametrize(
  'architecture, name',
  [
    ('vit_base_patch16_224', 'B/16'),
    ('vit_small_patch14_reg4_dinov2', 'DINOv2-S/14-reg4'),
    ('deit3_medium_patch16_224', 'DeiT3-M/16'),
    ('deit_tiny_distilled_patch16_224', 'DeiT-Ti/16-distilled'),
    ('cait_xxs24_224', 'CaiT-XXS24'),
    ('resnet50', 'ResNet-50'),
    ('resnetv2_50x1_bit', 'BiT-R50x1'),
    ('vit_base_patch16_clip_224', ''),
    ('cait_m24_384', ''),
  ],
)
def test_architectures_of_timm(architecture, name):
  assert huggingface._of_timm({'architecture': architecture})[0] == name
  changed = {'architecture': architecture, 'model_args': {'embed_dim': 32}}
  assert huggingface._of_timm(changed)[0] == ''
  if name:
    models.options_of(name)


def test_a_folder_of_timm(tmp_path):
  """As timm's repositories at Hugging Face are."""
  cfg = dict(mean=[0.1] * 3, std=[0.2] * 3, input_size=[3, 32, 32], crop_pct=0.95)
  config = dict(architecture='resnet18', num_classes=3, pretrained_cfg=cfg, label_names=CLASSES)
  variables = hf_folder(tmp_path, 'timm-resnet', models.build('ResNet-18', 3), size=(32, 32))
  (tmp_path / 'config.json').write_text(json.dumps(config))
  opened = weights.open(tmp_path)
  assert same(opened.variables, variables) and opened.name == 'ResNet-18'
  assert opened.view == View((32, 32), 3, 0.95) and opened.class_names == CLASSES
  assert opened.mean == (0.1,) * 3


@pytest.fixture
def shards(tmp_path) -> tuple[Path, dict]:
  """A folder whose weights are in two files."""
  folder = tmp_path / 'shards'
  variables = hf_folder(folder, 'hf', models.build('Ti/8', 3, **TINY))
  arrays = files.read(folder / 'model.safetensors')
  (folder / 'model.safetensors').unlink()
  weight_map = {}
  for i, name in enumerate(sorted(arrays)):
    weight_map[name] = f'model-0000{1 + i % 2}-of-00002.safetensors'
  for shard in set(weight_map.values()):
    part = {name: array for name, array in arrays.items() if weight_map[name] == shard}
    safetensors.numpy.save_file(part, folder / shard)
  index = folder / 'model.safetensors.index.json'
  index.write_text(json.dumps({'metadata': {}, 'weight_map': weight_map}))
  return folder, variables


def test_shards(shards):
  folder, variables = shards
  assert same(weights.open(folder).variables, variables)
  (folder / 'model-00002-of-00002.safetensors').unlink()
  with pytest.raises(UserError, match='has no model-00002-of-00002.safetensors'):
    weights.open(folder)


def test_a_shard_without_its_leaf_and_one_elsewhere(shards):
  folder, _ = shards
  index = folder / 'model.safetensors.index.json'
  known = json.loads(index.read_text())
  index.write_text(json.dumps({'weight_map': known['weight_map'] | {'x': '../a.safetensors'}}))
  with pytest.raises(UserError, match='has no ../a.safetensors'):
    weights.open(folder)
  shard = 'model-00001-of-00002.safetensors'
  index.write_text(json.dumps({'weight_map': known['weight_map'] | {'x': shard}}))
  with pytest.raises(UserError, match='x is not in model-00001'):
    weights.open(folder)


def test_a_folder_with_pickles_alone(tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(hf_config()))
  (tmp_path / 'pytorch_model.bin').write_bytes(b'')
  with pytest.raises(UserError, match='weights in pickles are not read'):
    weights.open(tmp_path)


@pytest.mark.parametrize(
  'source, words',
  [
    ('vit_tiny_patch16_224', 'hf://timm/vit_tiny_patch16_224.TAG'),
    ('vit_tiny_patch16_224.augreg_in21k', 'are hf://timm/vit_tiny_patch16_224.augreg_in21k'),
    ('facebook/dinov2-small', 'are hf://facebook/dinov2-small'),
  ],
)
def test_a_published_name_says_where_its_weights_are(source, words):
  with pytest.raises(UserError, match='there is no run folder or file') as caught:
    weights.open(source)
  assert words in str(caught.value)


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.', 'model.'])
def test_prefixes_that_torch_leaves(prefix, tmp_path):
  variables = hf_folder(tmp_path / 'a', 'timm', models.build('Ti/8', 3, **TINY))
  leaves = safetensors.numpy.load_file(tmp_path / 'a' / 'model.safetensors')
  path = tmp_path / 'a.safetensors'
  safetensors.numpy.save_file({f'{prefix}{name}': leaf for name, leaf in leaves.items()}, path)
  opened = weights.open(path, model='Ti/8', options=TINY, image_size=(16, 16))
  assert same(opened.variables, variables) and f'{prefix} taken off' in opened.line
