"""How weights say that they see images: metadata, folders, exports, flags; and bad ones."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from tests.weights.made_up import TINY, random_variables, tiny
from vit_jax import commands, layouts, models, weights
from vit_jax.errors import UserError
from vit_jax.layouts import files, layout, preprocessing, registry
from vit_jax.models.inputs import changed

pytestmark = pytest.mark.usefixtures('no_downloads')


@pytest.fixture
def file(tmp_path) -> Path:
  """A tiny model of timm's names, which says nothing of itself."""
  path = tmp_path / 'a.safetensors'
  files.write(path, layout.to_published(registry.LAYOUTS['timm'], tiny('Ti/8', 5)[1]))
  return path


OPTIONS = [f'--option={key}={value}' for key, value in TINY.items()]


def test_a_size_that_is_asked_for_decides_the_crop(file):
  keys = dict(model='Ti/8', options=TINY)
  small, large = weights.open(file, **keys), weights.open(file, **keys, image_size=(384, 384))
  assert (small.model.inputs.crop, large.model.inputs.crop) == (0.9, 1.0)


def metadata(path: Path, **keys) -> Path:
  """The same weights beside what others say in the metadata."""
  values = {key: json.dumps(value) for key, value in keys.items()}
  safetensors.numpy.save_file(files.read(path), path, values)
  return path


CFG = dict(input_size=[3, 32, 32], mean=[0.1] * 3, std=[0.2] * 3, crop_pct=0.8)
PROCESSOR = dict(size=dict(shortest_edge=40), crop_size=dict(height=32, width=32), resample=2)


def cfg(**keys) -> dict:
  return dict(pretrained_cfg=CFG | keys)


@pytest.mark.parametrize(
  'keys, words',
  [
    (cfg(interpolation='bilinear'), 'its pretrained_cfg: 32x32, crop 0.8, bilinear'),
    (cfg(crop_mode='squash'), '32x32, crop 0.8, bicubic, aspect changed'),
    (cfg(interpolation='lanczos'), 'resized bicubic, not lanczos'),
    (cfg(crop_mode='border'), 'images are cropped, not border'),
    (dict(preprocessor_config=PROCESSOR), 'preprocessor_config.json: 32x32, crop 0.8, bilinear'),
  ],
)
def test_metadata_comes_along(keys, words, file):
  opened = weights.open(metadata(file, **keys), model='Ti/8', options=TINY)
  assert words in opened.line and opened.view.image_size == (32, 32)


@pytest.mark.parametrize(
  'keys, words',
  [
    (dict(crop_pct=1.5), r'crop is 1\.5; it must be between'),
    (dict(std=[0.0] * 3), 'std'),
    (dict(mean='x'), 'mean'),
    (dict(input_size=3), 'cannot be understood'),
  ],
)
def test_metadata_that_cannot_be(keys, words, file):
  with pytest.raises(UserError, match=words):
    weights.open(metadata(file, **cfg(**keys)), model='Ti/8', options=TINY)


@pytest.mark.parametrize(
  'processor, model_type, words',
  [
    (dict(image_processor_type='ViTImageProcessor'), 'vit', 'crop 1, bilinear, aspect changed'),
    (dict(size=256, crop_size=224, resample=3), 'vit', '224x224, crop 0.875, bicubic, aspect ch'),
    (dict(do_center_crop=False, size=dict(height=64, width=96)), 'deit', '64x96, crop 1, bicubic'),
    (dict(do_normalize=False), 'vit', 'mean 0, std 1'),
    (dict(size=dict(shortest_edge=256), crop_size=224), 'dinov2', 'crop 0.875, bicubic, mean'),
  ],
)
def test_processors_of_transformers(processor, model_type, words):
  inputs, remarks = preprocessing.of_hugging_face(processor, model_type)
  assert words in inputs.words and not remarks


@pytest.mark.parametrize('family, key', [('timm', 'pretrained_cfg'), ('hf', 'preprocessor_config')])
@pytest.mark.parametrize(
  'seen',
  [dict(crop=0.9), dict(crop=1.0), dict(crop=0.8, aspect='change', interpolation='bilinear')],
)
def test_what_is_exported_says_the_same_to_others(family, key, seen, tmp_path):
  inputs = models.Inputs((32, 32), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), **seen)
  model = models.build('Ti/8', 3, inputs=inputs, **TINY)
  path = tmp_path / 'a.safetensors'
  line = layouts.write(path, model, random_variables(model, 32), family, {'model': 'Ti/8'})
  with safetensors.safe_open(path, framework='numpy') as tensors:
    said = json.loads(tensors.metadata()[key])
  read = preprocessing.of_timm if family == 'timm' else preprocessing.of_hugging_face
  found, _ = read(said)
  assert replace(found, crop=inputs.crop) == inputs
  height = int(32 / inputs.crop + 1e-6)
  assert int(32 / found.crop + 1e-6) == height  # the same size before the crop
  if family == 'timm':
    assert f'create_transform(input_size=(3, 32, 32), mean={inputs.mean}' in line
  else:
    layouts.write(tmp_path / 'model.safetensors', model, random_variables(model, 32), family)
    beside = json.loads((tmp_path / 'preprocessor_config.json').read_text())
    assert preprocessing.of_hugging_face(beside)[0] == found
  assert weights.open(path, data_dir=tmp_path).model.inputs == inputs


def test_flags_say_otherwise(file, tmp_path, capsys):
  cv2.imwrite(str(tmp_path / 'x.png'), np.full((20, 30, 3), 90, np.uint8))
  flags = ['--mean=0.25', '--std=0.1,0.2,0.3', '--crop=0.7', '--interpolation=bilinear']
  argv = ['predict', f'--weights={file}', '--model=Ti/8', f'--input={tmp_path / "x.png"}']
  assert commands.main([*argv, *OPTIONS, *flags]) == 0
  line = (
    "sees images as timm's Ti/8, but for --mean, --std, --crop, --interpolation: 16x16, crop 0.7, "
    'bilinear, mean 0.25, std 0.1,0.2,0.3'
  )
  assert line in capsys.readouterr().out
  target = tmp_path / 'b.safetensors'
  argv = ['convert', f'--from={file}', '--model=Ti/8', f'--to={target}', *OPTIONS, *flags]
  assert commands.main(argv) == 0
  opened = weights.open(target)
  assert opened.model.inputs.crop == 0.7 and opened.std == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
  'flag, words',
  [
    ('--crop=1.5', '--crop is 1.5; it must be between 0.05 and 1'),
    ('--crop=x', "'x' is no finite number above 0"),
    ('--mean=0.1,0.2', '--mean has 2 numbers, but the model sees 3 channels'),
    ('--mean=a', "'a' should be a number, or one per channel"),
    ('--std=0', '--std[0] is 0.0; it must be at least 1e-06'),
    ('--mean=nan', '--mean[0] is nan'),
    ('--interpolation=cubic', "--interpolation is 'cubic'; it must be one of: bicubic, bilinear"),
  ],
)
@pytest.mark.parametrize('command', ['predict', 'convert', 'transfer'])
def test_flags_that_cannot_be(command, flag, words, file, tmp_path, capsys):
  argv = {
    'predict': ['predict', f'--weights={file}', f'--input={tmp_path}'],
    'convert': ['convert', f'--from={file}', f'--to={tmp_path / "b.npz"}'],
    'transfer': ['transfer', f'--weights={file}', '--data', 'digits'],
  }[command]
  cv2.imwrite(str(tmp_path / 'x.png'), np.full((20, 30, 3), 90, np.uint8))
  assert commands.main([*argv, '--model=Ti/8', *OPTIONS, flag]) == 2
  error = capsys.readouterr().err
  assert words in error and error.count('\n') == 1


def test_plain_bilinear_has_no_other_filter():
  with pytest.raises(UserError, match="antialias is False.*'bilinear'"):
    models.Inputs(antialias=False)
  plain = models.Inputs(interpolation='bilinear', antialias=False)
  with pytest.raises(UserError, match="--interpolation must then be 'bilinear'"):
    changed(plain, {'interpolation': 'bicubic'})
