"""`weights.open`: runs and files, and what is said of them."""

import shutil

import numpy as np
import pytest

from tests.weights.made_up import TINY, tiny
from tests.weights.made_up_folder import SIZE, made_up, same
from tests.weights.made_up_run import CLASSES, MEAN, STD
from vit_jax import layouts, models, weights
from vit_jax.data import imagenet
from vit_jax.data.view import View
from vit_jax.errors import UserError
from vit_jax.layouts import files, layout, registry
from vit_jax.run import Run
from vit_jax.trees import flatten_variables

pytestmark = pytest.mark.usefixtures('no_downloads')


@pytest.mark.parametrize(
  'end, checkpoint, step',
  [('', 'last', 5), ('@best', 'last', 2), ('@2', 'last', 2), ('', 'best', 2), ('@5', '5', 5)],
)
def test_a_run(run, end, checkpoint, step):
  opened = weights.open(f'{run}{end}', checkpoint=checkpoint)
  assert same(opened.variables, made_up(step, pool='mean'))
  assert f'{run} at step {step}: ' in opened.line and '0 resized, 0 fresh' in opened.line
  assert opened.name == 'Ti/8' and opened.class_names == CLASSES
  assert opened.model.options == models.options_of('Ti/8', TINY | dict(dropout=0.1, pool='mean'))
  assert (opened.mean, opened.std) == (MEAN, STD)
  assert opened.view == View(SIZE, 3, 0.8)
  assert weights.open(opened.source).digest() == opened.digest()
  assert weights.open(f'{run}@{7 - step}').digest() != opened.digest()


def test_an_at_sign_in_a_name(run, tmp_path):
  for name in ('a@b', 'run@best'):
    shutil.copytree(run, tmp_path / name)
    assert ' at step 5' in weights.open(tmp_path / name).line
    assert ' at step 2' in weights.open(f'{tmp_path / name}@best').line
  path = tmp_path / 'weights@best.npz'
  layouts.write(path, *weights.load(run), notes={'model': 'Ti/8'})
  assert same(weights.load(path)[1], made_up(5, pool='mean'))


@pytest.mark.parametrize(
  'source, keys, sentence',
  [
    ('{}@7', {}, "'last', 'best' or one of the steps 2, 5"),
    ('{}@best', dict(checkpoint='5'), 'names another checkpoint'),
    ('{}/nowhere', {}, 'there is no run folder or file'),
    ('{}/checkpoints', {}, 'is not a run folder'),
    ('{}', dict(model='B/16'), 'holds Ti/8; leave --model out'),
    ('{}', dict(num_classes=4), 'has a head of 3 classes'),
    ('{}', dict(options={'widht': 3}), "did you mean 'width'"),
    ('{}', dict(options={'depth': 3}), 'does not fit the model'),
    ('{}', dict(options={'representation': True}), 'it has no .*pre_logits/'),
  ],
)
def test_what_does_not_open(run, source, keys, sentence):
  with pytest.raises(UserError, match=sentence):
    weights.open(source.format(run), **keys)


@pytest.mark.parametrize('name', ['DINOv2-S/14', 'CaiT-XXS24', 'ResNet-18'])
def test_the_models_that_weights_could_be_of_are_named(name, tmp_path):
  model = models.build(name, 3)
  word = 'hf-dinov2' if 'DINO' in name else 'timm-cait' if 'CaiT' in name else 'timm-resnet'
  shapes = models.variable_shapes(model, (*model.inputs.size, 3))
  ours = {leaf: np.zeros(x.shape, np.float32) for leaf, x in flatten_variables(shapes).items()}
  known = registry.LAYOUTS[word]
  files.write(tmp_path / 'a.safetensors', layout.to_published(known, ours))
  with pytest.raises(UserError, match=f'its shapes are those of --model={name}$'):
    weights.open(tmp_path / 'a.safetensors')


def test_options_head_and_image_size(run):
  opened = weights.open(run, options={'exact_gelu': 'True'}, num_classes=0, image_size=(24, 40))
  assert opened.model.options.exact_gelu and opened.class_names == ()
  assert opened.view.image_size == (24, 40) and opened.grid == (3, 5)
  assert opened.variables['params']['pos_embedding'].shape == (1, 15, 32)
  assert 'head' not in opened.variables['params'] and '1 resized' in opened.line


def test_a_plain_file_and_what_is_assumed(tmp_path):
  ours = tiny(num_classes=1000)[1]
  arrays = layout.to_published(registry.LAYOUTS['timm'], ours)
  files.write(tmp_path / 'a.safetensors', arrays)
  with pytest.raises(UserError, match='--model is missing'):
    weights.open(tmp_path / 'a.safetensors')
  opened = weights.open(tmp_path / 'a.safetensors', model='Ti/8', options=TINY)
  assert opened.model.options.exact_gelu and opened.model.inputs.size == (16, 16)
  assert opened.class_names == imagenet.names()
  assert opened.view == View((16, 16), 3, 0.9)
  assert "sees images as timm's Ti/8: 16x16, crop 0.9, bicubic, mean 0.5, std 0.5" in opened.line
  assert 'ImageNet' in opened.line
  with pytest.raises(UserError, match='is no run folder'):
    weights.open(tmp_path / 'a.safetensors', model='Ti/8', options=TINY, checkpoint='best')
  few = weights.open(tmp_path / 'a.safetensors', model='Ti/8', options=TINY, num_classes=0)
  assert 'ImageNet' not in few.line and few.class_names == ()


def test_an_address(run, tmp_path):
  layouts.write(tmp_path / 'a.npz', *weights.load(run), notes={'model': 'Ti/8'})
  opened = weights.open(f'file://{tmp_path / "a.npz"}')
  assert same(opened.variables, made_up(5, pool='mean')) and opened.class_names == CLASSES
  assert len(list((tmp_path / 'data' / 'weights').glob('*.npz'))) == 1


def test_convert_a_run(run, tmp_path):
  line = weights.convert(f'{run}@best', tmp_path / 'a.safetensors')
  assert ' at step 2: ' in line and "act_layer='gelu_tanh'" in line
  opened, expected = weights.open(tmp_path / 'a.safetensors'), weights.open(f'{run}@best')
  assert opened.model == expected.model and same(opened.variables, expected.variables)
  line = Run(run).export(tmp_path / 'c.safetensors', layout='timm', checkpoint='best')
  assert (tmp_path / 'c.safetensors').read_bytes() == (tmp_path / 'a.safetensors').read_bytes()
  assert f'{run} at step 2: written to' in line
  weights.convert(run, tmp_path / 'b.npz', num_classes=7)
  opened = weights.open(tmp_path / 'b.npz')
  assert opened.model.num_classes == 7 and opened.class_names == ()
  assert not opened.variables['params']['head']['kernel'].any()


def test_inputs_without_reading_weights(run, tmp_path):
  assert weights.inputs_of(f'{run}@best', 'Ti/8').mean == MEAN
  layouts.write(tmp_path / 'a.npz', *weights.load(run), notes={'model': 'Ti/8'})
  assert weights.inputs_of(str(tmp_path / 'a.npz'), 'Ti/8').std == STD
  for source in ('nowhere.npz', 'hf://org/name', 'augreg:B/16'):
    assert weights.inputs_of(source, 'ResNet-50') == models.inputs_of('ResNet-50')
