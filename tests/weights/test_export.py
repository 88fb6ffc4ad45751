"""`layouts.write`: what is written opens again as it was, and in the home of its layout."""

import re
from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.weights.made_up import TINY, random_variables
from vit_jax import commands, layouts, models
from vit_jax.data.view import View
from vit_jax.errors import UserError
from vit_jax.layouts import registry
from vit_jax.models import Inputs
from vit_jax.run import Run
from vit_jax.weights import load
from vit_jax.weights import open as open_weights

SIZE = (16, 24)
INPUTS = Inputs(SIZE, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), 0.9, class_names=('ant', 'bee', 'cat'))


def make(name: str = 'Ti/8', num_classes: int = 3, **options):
  """(a small model with random weights, its variables)."""
  inputs = replace(INPUTS, class_names=INPUTS.class_names[:num_classes])
  model = models.build(name, num_classes, inputs=inputs, **TINY | options)
  return model, random_variables(model, SIZE)


def images(channels: int = 3) -> np.ndarray:
  return np.random.default_rng(1).normal(size=(2, *SIZE, channels)).astype(np.float32)


def outputs(model, variables):
  with jax.default_matmul_precision('float32'):
    return model.apply(variables, images(), train=False)


CASES = [
  ({}, 'google big_vision timm hf'),
  (dict(exact_gelu=True), 'google big_vision timm hf'),
  (dict(pool='mean'), 'google big_vision timm'),
  (dict(pool='map'), 'big_vision timm'),
  (dict(posemb='sincos2d'), 'google big_vision timm hf'),
  (dict(pool='mean', posemb='sincos2d'), 'google big_vision timm'),
  (dict(posemb='none'), 'timm'),
  (dict(posemb_class=False), 'google big_vision timm hf'),
  (dict(registers=2), 'google big_vision timm'),
  (dict(registers=2, pool='mean'), 'google big_vision timm'),
  (dict(qk_norm=True, layerscale=0.1), 'timm'),
  (dict(layerscale=0.1, registers=1, num_classes=0), 'timm hf'),
  (dict(layerscale=0.1, mlp_kind='swiglu', num_classes=0), 'timm hf'),
  (dict(representation=True), 'google big_vision timm hf'),
  (dict(distilled=True), 'timm hf'),
]


@pytest.mark.parametrize('options, families', CASES, ids=[str(options) for options, _ in CASES])
def test_what_is_written_opens_as_it_was(options, families, tmp_path):
  model, variables = make(**options)
  expected = outputs(model, variables)
  for family in registry.FAMILIES:
    path = tmp_path / f'{family}.safetensors'
    if family not in families.split():
      with pytest.raises(UserError, match=f'--layout={family} has no '):
        layouts.write(path, model, variables, family, {'model': 'Ti/8'})
      assert not path.exists()
      continue
    layouts.write(path, model, variables, family, {'model': 'Ti/8'})
    opened = open_weights(path, data_dir=tmp_path)
    assert '0 resized, 0 fresh' in opened.line or '1 resized, 0 fresh' in opened.line
    assert 'assumed' not in opened.line and opened.name == 'Ti/8'
    assert opened.model.inputs == model.inputs and opened.view == View(SIZE, 3, 0.9)
    got = outputs(opened.model, opened.variables)
    if model.num_classes:
      np.testing.assert_allclose(got.logits_BK, expected.logits_BK, atol=1e-6)
    np.testing.assert_allclose(got.features_BD, expected.features_BD, atol=1e-6)


@pytest.mark.parametrize(
  'seen', [dict(crop=0.8, aspect='change'), dict(interpolation='bilinear', antialias=False)]
)
def test_how_images_are_seen_is_kept(seen, tmp_path):
  model, variables = make()
  model = model.clone(inputs=replace(model.inputs, **seen))
  layouts.write(tmp_path / 'a.npz', model, variables, notes={'model': 'Ti/8'})
  opened = open_weights(tmp_path / 'a.npz', data_dir=tmp_path)
  assert opened.model.inputs == model.inputs and opened.view == View.of(model.inputs)
  assert 'sees images as its metadata: 16x24' in opened.line


def test_class_names_that_do_not_fit_into_an_npz(tmp_path):
  names = tuple(f'a class of some length {k}' for k in range(4000))
  model = models.build('mu/8', 4000, inputs=replace(INPUTS, class_names=names))
  variables = random_variables(model, SIZE)
  for suffix, kept in (('.npz', ()), ('.safetensors', names)):
    layouts.write(tmp_path / f'a{suffix}', model, variables, notes={'model': 'mu/8'})
    opened = open_weights(tmp_path / f'a{suffix}', data_dir=tmp_path)
    assert opened.class_names == kept and opened.model.options == model.options


def test_without_a_name_the_sizes_are_those_of_the_name_that_is_given(tmp_path):
  model, variables = make()
  layouts.write(tmp_path / 'a.npz', model, variables)
  with pytest.raises(UserError, match='--model is missing'):
    open_weights(tmp_path / 'a.npz', data_dir=tmp_path)
  opened = open_weights(tmp_path / 'a.npz', model='Ti/8', options=TINY, data_dir=tmp_path)
  assert opened.model.options == model.options


THERE = [options for options, families in CASES if 'timm' in families]


@pytest.mark.slow
@pytest.mark.parametrize('options', THERE, ids=map(str, THERE))
def test_timm_gives_the_same_numbers(options, tmp_path):
  """The call that the sentence has builds the model, and takes the file."""
  from safetensors.torch import load_file

  from tests.weights import timm_models

  model, variables = make(**options)
  path = tmp_path / 'a.safetensors'
  line = layouts.write(path, model, variables, 'timm')
  call = re.search(r'timm\.create_model\(.*\)', line)
  if options.keys() & {'distilled', 'mlp_kind', 'representation'}:
    assert call is None
    return
  assert call
  rival = eval(call[0], {'timm': timm_models.import_timm()}).eval()
  rival.load_state_dict(load_file(path))
  output = outputs(model, variables)
  expected = np.asarray(output.logits_BK if model.num_classes else output.features_BD)
  difference = np.abs(timm_models.output_of(rival, images()) - expected).max()
  print(f'timm, {options}: max abs difference {difference:.1e}')
  assert np.abs(expected[0] - expected[1]).max() > 1000 * difference
  assert difference <= 1e-5


@pytest.mark.slow
def test_a_trained_run_in_timm(finished_run, tmp_path):
  from safetensors.torch import load_file

  from tests.weights import timm_models

  path = tmp_path / 'a.safetensors'
  assert commands.main(['convert', f'--from={finished_run}@best', f'--to={path}']) == 0
  line = Run(finished_run).export(tmp_path / 'b.safetensors', 'timm', 'best')
  assert (tmp_path / 'b.safetensors').read_bytes() == path.read_bytes()
  call = re.search(r'timm\.create_model\(.*\)', line)
  assert call and "act_layer='gelu_tanh'" in call[0]
  rival = eval(call[0], {'timm': timm_models.import_timm()}).eval()
  rival.load_state_dict(load_file(path))
  model, variables = load(f'{finished_run}@best')
  assert np.abs(variables['params']['head']['bias']).max() > 1e-4
  images_BHWC = timm_models.images(16)
  with jax.default_matmul_precision('float32'):
    expected = np.asarray(model.apply(variables, images_BHWC, train=False).logits_BK)
  difference = np.abs(timm_models.output_of(rival, images_BHWC) - expected).max()
  print(f'timm, a trained run: max abs difference {difference:.1e}')
  assert np.abs(expected[0] - expected[1]).max() > 1000 * difference
  assert difference <= 1e-5


@pytest.mark.slow
def test_a_trained_run_in_transformers(finished_run, tmp_path):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  line = Run(finished_run).export(tmp_path / 'model.safetensors', 'hf', 'best')
  call = re.search(r'transformers\.ViTConfig\(.*\)', line)
  assert call
  eval(call[0], {'transformers': transformers}).save_pretrained(tmp_path)
  rival = transformers.ViTForImageClassification.from_pretrained(tmp_path).eval()
  model, variables = load(f'{finished_run}@best')
  images_BHWC = np.random.default_rng(0).normal(0, 1, (4, 16, 16, 3)).astype(np.float32)
  with jax.default_matmul_precision('float32'):
    expected = np.asarray(model.apply(variables, images_BHWC, train=False).logits_BK)
  with torch.no_grad():
    got = rival(torch.from_numpy(images_BHWC.transpose(0, 3, 1, 2).copy())).logits.numpy()
  difference = np.abs(got - expected).max()
  print(f'transformers, a trained run: max abs difference {difference:.1e}')
  assert np.abs(expected[0] - expected[1]).max() > 1000 * difference
  assert difference <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize('options', [{}, dict(exact_gelu=True), dict(posemb_class=False)])
def test_transformers_gives_the_same_numbers(options, tmp_path):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  model, variables = make(**options)
  line = layouts.write(tmp_path / 'model.safetensors', model, variables, 'hf')
  call = re.search(r'transformers\.ViTConfig\(.*\)', line)
  assert call
  config = eval(call[0], {'transformers': transformers})
  config.save_pretrained(tmp_path)
  rival = transformers.ViTForImageClassification.from_pretrained(tmp_path).eval()
  with torch.no_grad():
    got = rival(torch.from_numpy(images().transpose(0, 3, 1, 2).copy())).logits.numpy()
  expected = np.asarray(outputs(model, variables).logits_BK)
  difference = np.abs(got - expected).max()
  print(f'transformers, {options}: max abs difference {difference:.1e}')
  assert np.abs(expected[0] - expected[1]).max() > 1000 * difference
  assert difference <= 1e-5
  opened = open_weights(tmp_path, data_dir=tmp_path)  # as it saved its own configuration
  assert opened.model.options == replace(model.options, posemb_class=True)


@pytest.mark.slow
@pytest.mark.parametrize(
  'kind, its, field',
  [
    ('ViTForImageClassification', 'ViTConfig', 'logits'),
    ('DeiTForImageClassificationWithTeacher', 'DeiTConfig', 'logits'),
    ('Dinov2Model', 'Dinov2Config', 'pooler_output'),
    ('Dinov2WithRegistersModel', 'Dinov2WithRegistersConfig', 'pooler_output'),
  ],
)
def test_a_folder_that_transformers_saved(kind, its, field, tmp_path):
  """In shards, and with its own epsilon of LayerNorm, which is smaller than ours."""
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  torch.manual_seed(0)
  sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16)
  sizes |= dict(patch_size=8, intermediate_size=64, mlp_ratio=2, num_labels=3)
  rival = getattr(transformers, kind)(getattr(transformers, its)(**sizes)).eval()
  with torch.no_grad():
    for leaf in rival.parameters():
      leaf.normal_(0, 0.3)
  rival.save_pretrained(tmp_path, max_shard_size='40KB')
  assert len(list(tmp_path.glob('*.safetensors'))) > 1
  image_BHWC = np.random.default_rng(1).normal(size=(2, 16, 16, 3)).astype(np.float32)
  with torch.no_grad():
    pixels = torch.from_numpy(image_BHWC.transpose(0, 3, 1, 2).copy())
    expected = getattr(rival(pixels), field).numpy()
  opened = open_weights(tmp_path, data_dir=tmp_path)
  with jax.default_matmul_precision('float32'):
    output = opened.model.apply(opened.variables, image_BHWC, train=False)
  got = np.asarray(output.features_BD if output.logits_BK is None else output.logits_BK)
  difference = np.abs(got - expected).max()
  print(f'{kind} as {opened.name}: max abs difference {difference:.1e}')
  assert np.abs(expected[0] - expected[1]).max() > 100 * difference
  assert difference <= 1e-4
