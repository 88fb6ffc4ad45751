"""`vit_jax predict`: what goes in, and what comes out."""

import csv
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from tests.evaluate.predicting import NUM_CLASSES, predict, save_array, write_weights
from tests.weights.made_up import random_variables
from tests.weights.made_up_run import CLASSES, MEAN, STD
from vit_jax import commands, models, weights
from vit_jax.data import imagenet
from vit_jax.data.view import View
from vit_jax.errors import UserError
from vit_jax.evaluate.predict import predict as predict_images
from vit_jax.models import Inputs


def test_an_array_goes_in_as_it_is(model, variables, file, tmp_path, capsys):
  images_NHWC = np.random.default_rng(1).normal(size=(9, 32, 32, 3)).astype(np.float32)
  place = save_array(tmp_path, images_NHWC)
  out = predict(file, place, tmp_path, '--model=mu/16', '--batch=8', '--top=2')
  expected = model.apply(variables, images_NHWC, train=False)
  assert out['logits'].shape == (9, NUM_CLASSES) and out['logits'].dtype == np.float32
  assert out['features'].shape == (9, 32) and out['features'].dtype == np.float32
  np.testing.assert_allclose(out['logits'], expected.logits_BK, atol=1e-5)
  np.testing.assert_allclose(out['features'], expected.features_BD, atol=1e-5)
  assert out['files'].tolist() == [f'{place}[{i}]' for i in range(9)]
  first, *lines = capsys.readouterr().out.splitlines()
  assert 'leaves matched, 0 resized, 0 fresh' in first and len(lines) == 9
  share_K = np.asarray(jax.nn.softmax(expected.logits_BK[0]))
  best, second = np.argsort(-share_K)[:2]
  assert lines[0] == (
    f'{place}[0]: class {best} {share_K[best]:.1%}, class {second} {share_K[second]:.1%}'
  )


def central(path: Path, size: int, crop: float) -> np.ndarray:
  """timm's evaluation of an image file, step by step."""
  image = Image.open(path).convert('RGB')
  shorter, (width, height) = math.floor(size / crop), image.size
  if width < height:
    new = shorter, int(shorter * height / width)
  else:
    new = int(shorter * width / height), shorter
  image = image.resize(new, Image.Resampling.BICUBIC)
  left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
  return np.asarray(image.crop((left, top, left + size, top + size)))


def test_a_folder_in_order_through_the_models_preprocessing(
  model, variables, file, pictures, tmp_path
):
  out = predict(file, pictures, tmp_path, '--model=mu/16', '--batch=2')
  found = [pictures / name for name in ('a.png', 'b.jpg', 'below/c.png')]
  assert out['files'].tolist() == list(map(str, found))
  pixels_NHWC = np.stack([central(path, 32, 0.9) for path in found])[[0, 2]]  # not the JPEG:
  images_NHWC = np.float32((pixels_NHWC / 255 - 0.5) / 0.5)  # decoders differ by a bit
  expected = model.apply(variables, images_NHWC, train=False)
  np.testing.assert_allclose(out['logits'][[0, 2]], expected.logits_BK, atol=1e-4)


def test_another_image_size_and_no_head(file, pictures, tmp_path, capsys):
  out = predict(
    file,
    pictures / 'a.png',
    tmp_path,
    '--model=mu/16',
    '--num_classes=0',
    '--image_size',
    '48',
    '64',
  )
  assert out['logits'].shape == (1, 0) and out['features'].shape == (1, 32)
  assert '1 resized' in capsys.readouterr().out


def test_imagenet_classes_have_names(tmp_path, pictures, capsys):
  assert len(imagenet.names()) == len(set(imagenet.wordnet_ids())) == 1000
  variables = random_variables(models.build('mu/16', 1000), 32)
  variables['params']['head']['bias'][207] = 100
  predict(
    write_weights(tmp_path / 'mu.npz', variables),
    pictures / 'a.png',
    tmp_path,
    '--model=mu/16',
    '--top=1',
  )
  assert f'{pictures / "a.png"}: golden retriever 100.0%' in capsys.readouterr().out


def test_a_run_sees_images_as_it_did(run, pictures, tmp_path, capsys):
  """Through the view of its recipe, and with its names of classes."""
  out = predict(run, pictures, tmp_path, '--top=1')
  images_NHWC = np.zeros((3, 16, 24, 3), np.uint8)
  for path, image_HWC in zip(out['files'], images_NHWC, strict=True):
    View((16, 24), 3, crop=0.8)(Path(path).read_bytes(), image_HWC)
  seen_NHWC = np.float32((images_NHWC / 255 - np.array(MEAN)) / np.array(STD))
  model, variables = weights.load(run)
  expected_NK = model.apply(variables, seen_NHWC, train=False).logits_BK
  np.testing.assert_allclose(out['logits'], expected_NK, atol=1e-4)
  share_NK = np.asarray(jax.nn.softmax(out['logits']))
  for path, share_K, line in zip(
    out['files'], share_NK, capsys.readouterr().out.splitlines()[3:], strict=True
  ):
    assert line == f'{path}: {CLASSES[share_K.argmax()]} {share_K.max():.1%}'


def test_the_library_predicts_the_same(run, pictures, tmp_path):
  out = predict(run, pictures, tmp_path)
  model, variables = weights.load(run)
  found = predict_images(model, variables, [pictures / 'a.png', pictures / 'below'])
  assert found.files == (str(pictures / 'a.png'), str(pictures / 'below' / 'c.png'))
  np.testing.assert_allclose(found.logits, out['logits'][[0, 2]], atol=1e-6)
  np.testing.assert_allclose(found.features, out['features'][[0, 2]], atol=1e-6)
  assert predict_images(model, variables, str(pictures)).files == tuple(out['files'])


def test_the_library_predicts_arrays(model, variables):
  pixels_NHWC = np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), np.uint8)
  sized = model.clone(inputs=Inputs((32, 32)))
  floats_NHWC = np.float32(pixels_NHWC / 255 * 2 - 1)
  found, same = (predict_images(sized, variables, a) for a in (pixels_NHWC, floats_NHWC))
  np.testing.assert_allclose(found.logits, same.logits, atol=1e-5)
  with pytest.raises(UserError, match=r'shape \(32, 32, 3\), but the model takes \(64, 64, 3\)'):
    predict_images(model.clone(inputs=Inputs((64, 64))), variables, pixels_NHWC)


def test_images_that_cannot_be_read_are_passed_over(run, pictures, tmp_path, capsys):
  (tmp_path / 'empty.png').write_bytes(b'')
  (tmp_path / 'notes.png').write_text('not an image')
  flags = [str(tmp_path / 'empty.png'), str(tmp_path / 'notes.png'), '--batch=1']
  out = predict(run, pictures / 'a.png', tmp_path, *flags)
  assert out['files'].tolist() == [str(pictures / 'a.png')] and len(out['logits']) == 1
  first, second = capsys.readouterr().out.splitlines()[-2:]
  assert first.startswith(str(tmp_path / 'empty.png')) and 'cannot be read' in first
  assert second.startswith(str(tmp_path / 'notes.png'))


def test_a_row_for_each_image_that_is_given(run, pictures, tmp_path, capsys):
  (tmp_path / 'empty.png').write_bytes(b'')
  inputs = ['--input', str(tmp_path / 'empty.png'), str(pictures)]
  for suffix in ('.csv', '.jsonl'):
    argv = ['predict', f'--weights={run}', f'--output={tmp_path}/out{suffix}', *inputs]
    assert commands.main(argv) == 0
  said = capsys.readouterr().out.splitlines()
  assert sum('left out' in line for line in said) == 4 and 'empty.png' in said[-1]
  logits_NK = predict(run, pictures, tmp_path)['logits']
  share_NK = np.asarray(jax.nn.softmax(logits_NK))
  with open(tmp_path / 'out.csv', newline='') as file:
    *rows, bad = csv.DictReader(file)
  lines = [json.loads(line) for line in (tmp_path / 'out.jsonl').read_text().splitlines()]
  assert 'empty.png' in bad['error'] and lines[-1] == {'error': bad['error']}
  for row, line, share_K in zip(rows, lines, share_NK, strict=False):
    assert row['file'] == line['file'] and Path(row['file']).is_file()
    assert row['class'] == line['class'] == CLASSES[share_K.argmax()]
    np.testing.assert_allclose([float(row[f'p({name})']) for name in CLASSES], share_K, atol=1e-5)
    np.testing.assert_allclose(list(line['probabilities'].values()), share_K, atol=1e-5)
  assert len(rows) == len(lines) - 1 == 3
