"""How published weights see images: as timm's transform does, in every command."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.data.made_up_source import Memory
from tests.golden.make_view_fixtures import CHECKPOINTS, STRIDE
from tests.weights.made_up import random_variables
from tests.weights.made_up_folder import hf_folder
from vit_jax import commands, layouts, models, weights
from vit_jax.config import ImageData
from vit_jax.data.loader import Loader
from vit_jax.data.view import data_for
from vit_jax.evaluate import predict as predicting
from vit_jax.evaluate.images import open_images
from vit_jax.layouts import files, layout, preprocessing, published, registry
from vit_jax.transfer.candidates import network
from vit_jax.trees import flatten_variables

pytestmark = pytest.mark.usefixtures('no_downloads')
GOLDEN = Path(__file__).parents[1] / 'golden'
SMALL = dict(width=32, depth=1, heads=2, mlp=64)


def test_every_name_of_timm_has_timms_preprocessing():
  """Its pretrained_cfg, but for the weights that the table does not know."""
  known = 0
  for group in json.loads((GOLDEN / 'timm_pretrained_cfgs.json').read_text())['groups']:
    expected, remarks = preprocessing.of_timm(group)
    assert not remarks
    for name in group['names']:
      found = published.find(name)
      assert found is not None and found.inputs == expected, name
      assert found.inputs.source == f"timm's {name}"
      models.options_of(found.model, found.options)
      known += 1
  assert known > 200


@pytest.fixture(scope='module')
def golden():
  with np.load(GOLDEN / 'views.npz') as arrays:
    return dict(arrays)


class Pictures(Memory):
  """The pictures of the fixture, as a data set."""

  def __init__(self, records):
    super().__init__(len(records))
    self.records = records

  def read(self, indices):
    return [(self.records[i], 0) for i in indices]


@pytest.mark.parametrize('name', CHECKPOINTS)
def test_the_pixels_of_timm_in_every_command(name, golden, tmp_path):
  """In predict, transfer and evaluate, and in the loop, by a recipe that says the same."""
  records = [golden[f'picture/{k}'].tobytes() for k in (0, 1)]
  expected = [golden[f'{name}/{k}'] for k in (0, 1)]
  found = published.find(name)
  assert found is not None
  model = models.build('mu/16', 0, inputs=found.inputs)

  paths = [tmp_path / f'{k}.jpg' for k in (0, 1)]
  for path, record in zip(paths, records, strict=True):
    path.write_bytes(record)
  (batch,) = predicting._batches(open_images(paths), model.inputs, 2)

  opened = weights.Opened('', 'mu/16', model, {}, '')
  backbone = network('x', opened, whole=False, batch=1)
  judged = backbone._loader(Pictures(records)).batch(0)['image'][:2]

  data = data_for(ImageData(image_size=found.inputs.size), found.inputs)
  loop = Loader(Pictures(records), data, seed=0, batch_size=2, train=False).batch(0)['image']
  for seen_BHWC in (batch.images_BHWC, judged, loop):
    for image_HWC, wanted_HWC in zip(seen_BHWC, expected, strict=True):
      some_HWC = image_HWC[::STRIDE, ::STRIDE]
      assert np.abs(some_HWC.astype(int) - wanted_HWC).max() <= 1
  assert expected[0].std() > 20


@pytest.mark.parametrize(
  'name, model, words',
  [
    ('deit_small_patch16_224-cd65a155.safetensors', 'DeiT-S/16', '224x224, crop 0.875, bicubic'),
    ('deit_base_patch16_384-8de9b5d1', 'DeiT-B/16', '384x384, crop 1,'),
    ('deit_3_base_224_1k', 'DeiT3-B/16', 'crop 1,'),
    ('S24_224', 'CaiT-S24', '224x224, crop 1,'),
    ('dinov2_vits14_reg4_pretrain', 'DINOv2-S/14-reg4', '518x518, crop 1,'),
    ('facebook/dinov2-base', 'DINOv2-B/14', 'crop 0.875, bicubic'),
    ('google/vit-base-patch16-384', 'B/16', '384x384, crop 1, bilinear, aspect changed'),
    ('hf://facebook/deit-tiny-distilled-patch16-224', 'DeiT-Ti/16-distilled', 'aspect changed'),
    (
      'https://x.org/B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-'
      'steps_20k-lr_0.03-res_384.npz#sha256=ab',
      'B/16',
      '384x384, crop 1, bicubic, mean 0.5, std 0.5',
    ),
    ('dir/S_32-i21k-300ep-lr_0.001-aug_none-wd_0.1-do_0.0-sd_0.0.npz', 'S/32', '224x224, crop 0.9'),
    ('R50_L_32-i21k-300ep-lr_0.001--imagenet2012-res_224.npz', 'R50+L/32', 'crop 0.9'),
    ('BiT-M-R50x1-ILSVRC2012.npz', 'BiT-R50x1', '448x448, crop 1, bilinear, mean 0.5'),
    ('BiT-M-R152x4.npz', 'BiT-R152x4', '224x224, crop 0.875, bilinear'),
    ('resnet50-0676ba61', 'ResNet-50', 'crop 0.875, bilinear, mean 0.485,0.456,0.406'),
    ('resnet101-cd907fc2', 'ResNet-101', 'crop 0.9655, bilinear'),
  ],
)
def test_names_of_the_authors(name, model, words):
  found = published.find(name)
  assert found is not None and found.model == model and words in found.inputs.words


@pytest.mark.parametrize('name', ['', 'model.safetensors', 'B/16', 'cait_m24_384', 'vit_base'])
def test_names_that_nothing_was_published_by(name):
  assert published.find(name) is None


@pytest.mark.parametrize(
  'name, size, words',
  [
    ('B/16', 224, "timm's B/16: 224x224, crop 0.9, bicubic, mean 0.5"),
    ('R26+S/32', 384, "timm's R26+S/32: 384x384, crop 1, bicubic, mean 0.5"),
    ('DeiT-S/16', 224, "facebook's DeiT-S/16: 224x224, crop 0.875, bicubic, mean 0.485"),
    ('DeiT-S/16', 384, "facebook's DeiT-S/16: 384x384, crop 1, bicubic"),
    ('DeiT3-S/16', 224, "facebook's DeiT3-S/16: 224x224, crop 1, bicubic"),
    ('CaiT-S24', 384, 'crop 1, bicubic'),
    ('DINOv2-S/14', 98, 'crop 1, bicubic'),
    ('BiT-R50x1', 224, 'crop 0.875, bilinear'),
    ('BiT-R50x1', 448, 'crop 1, bilinear'),
    ('ResNet-50', 224, "torchvision's ResNet-50: 224x224, crop 0.875, bilinear"),
  ],
)
def test_what_is_assumed_of_a_name_at_a_size(name, size, words):
  inputs = models.inputs_of(name, (size, size))
  assert words in f'{inputs.source}: {inputs.words}'


GAP = dict(pool='mean', layerscale=1e-6, qkv_bias=False, exact_gelu=True)


def test_a_published_name_is_a_model_with_its_options(tmp_path, capsys):
  """vit_medium_patch16_gap_240: mean pooling, LayerScale, no bias of queries, keys and values."""
  found = published.find('vit_medium_patch16_gap_240.sw_in12k')
  assert found is not None and found.model == 'M/16'
  model = models.build('M/16', 3, inputs=found.inputs, **SMALL, **GAP)
  variables = random_variables(model, 240)
  assert 'bias' not in variables['params']['encoder']['blocks']['attention']['qkv']
  arrays = layout.to_published(registry.LAYOUTS['timm'], flatten_variables(variables))
  path = tmp_path / 'x.safetensors'
  files.write(path, arrays)
  keys = [f'--option={key}={value}' for key, value in SMALL.items()]
  cv2.imwrite(str(tmp_path / 'x.png'), np.full((20, 30, 3), 90, np.uint8))
  argv = ['predict', f'--weights={path}', f'--input={tmp_path / "x.png"}', *keys]
  for name in ('vit_medium_patch16_gap_240', 'vit_medium_patch16_gap_240.sw_in12k'):
    assert commands.main([*argv, f'--model={name}']) == 0
    said = capsys.readouterr().out
    assert "sees images as timm's vit_medium_patch16_gap_240" in said
    assert '240x240, crop 0.95, bicubic, mean 0.5, std 0.5' in said and '0 fresh' in said
  opened = weights.open(path, model='M/16', options=SMALL)  # the leaves tell the same
  images_BHWC = np.random.default_rng(0).normal(size=(2, 240, 240, 3)).astype(np.float32)
  expected, got = (
    a.apply(b, images_BHWC, train=False).logits_BK
    for a, b in ((model, variables), (opened.model, opened.variables))
  )
  np.testing.assert_allclose(got, expected, atol=1e-6)
  target = tmp_path / 'b.npz'  # a layout with biases gets zeros
  weights.convert(path, tmp_path / 'b.safetensors', model='M/16', options=SMALL)
  model = model.clone(options=replace(model.options, layerscale=0.0))
  del variables['params']['encoder']['blocks']['scale1']
  del variables['params']['encoder']['blocks']['scale2']
  layouts.write(target, model, variables, 'google', {'model': 'M/16'})
  opened = weights.open(target)
  assert opened.model.options.qkv_bias
  expected = model.apply(variables, images_BHWC, train=False).logits_BK
  got = opened.model.apply(opened.variables, images_BHWC, train=False).logits_BK
  np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_file_named_as_it_was_published(tmp_path):
  """Says which model it holds; but a size is told by the positions."""
  model = models.build('DeiT-Ti/16', 3)
  for side, crop in ((224, 0.9), (64, 0.9), (384, 1.0)):
    leaves = flatten_variables(random_variables(model, side))
    path = tmp_path / 'deit_tiny_patch16_224.safetensors'
    files.write(path, layout.to_published(registry.LAYOUTS['timm'], leaves))
    opened = weights.open(path)
    assert opened.name == 'DeiT-Ti/16' and opened.model.inputs.size == (side, side)
    assert opened.model.inputs.crop == crop
    assert "as timm's deit_tiny_patch16_224" in opened.line
  assert weights.open(path, model='DeiT-Ti/16', image_size=(224, 224)).model.inputs.crop == 0.9


def test_a_folder_of_timm_brings_along_options_too(tmp_path):
  model = models.build('M/16', 3, **GAP | dict(depth=12))
  hf_folder(tmp_path, 'timm', model, size=(240, 240))
  cfg = dict(input_size=[3, 240, 240], crop_pct=0.8)
  config = dict(architecture='vit_medium_patch16_gap_240', pretrained_cfg=cfg)
  (tmp_path / 'config.json').write_text(json.dumps(config))
  opened = weights.open(tmp_path)
  assert opened.name == 'M/16' and opened.model.options == model.options
  assert 'sees images as its pretrained_cfg: 240x240, crop 0.8' in opened.line


def test_starting_from_weights_that_saw_otherwise_is_said(run, tmp_path):
  kept = weights.open(run)
  ours = kept.model.clone(inputs=replace(kept.model.inputs, crop=0.9, interpolation='bilinear'))
  keys = dict(image_size=kept.model.inputs.size, data_dir=tmp_path)
  _, line, _ = weights.start_from(str(run), ours, kept.variables, **keys)
  assert 'they saw images as its recipe: 16x24, crop 0.8, bicubic' in line
  assert 'this run evaluates at 16x24, crop 0.9, bilinear' in line
  assert 'saw' not in weights.start_from(str(run), kept.model, kept.variables, **keys)[1]


def test_starting_from_a_published_file_says_how_it_is_evaluated(tmp_path):
  model = models.build('Ti/16', 3)
  variables = random_variables(model, 224)
  path = tmp_path / 'vit_tiny_patch16_224.augreg_in21k.safetensors'
  files.write(path, layout.to_published(registry.LAYOUTS['timm'], flatten_variables(variables)))
  ours = model.clone(inputs=replace(models.inputs_of('Ti/16'), crop=0.875))
  _, line, _ = weights.start_from(str(path), ours, variables, image_size=(224, 224))
  assert "as timm's vit_tiny_patch16_224.augreg_in21k: 224x224, crop 0.9, bicubic" in line
  assert 'this run evaluates at 224x224, crop 0.875' in line
  assert 'saw' not in weights.start_from(str(path), model, variables, image_size=(224, 224))[1]
