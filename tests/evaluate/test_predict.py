"""`vit_jax predict`: what goes in, what comes out, and what is refused."""

import csv
import json
import math
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from tests.weights.made_up import random_variables
from tests.weights.made_up_run import CLASSES, MEAN, STD, write_run
from vit_jax import commands, models, weights
from vit_jax.data import imagenet
from vit_jax.data.view import View
from vit_jax.errors import UserError
from vit_jax.evaluate.features import answers_fn, attention_fn
from vit_jax.evaluate.predict import predict as predict_images
from vit_jax.layouts import files, layout, registry
from vit_jax.models import Inputs
from vit_jax.report.attention import attention_maps
from vit_jax.trees import flatten_variables

NUM_CLASSES = 5
SMALL = dict(width=32, depth=2, heads=2, mlp=64)
HALF = (0.5, 0.5, 0.5)


def write_weights(path: Path, variables, **changes: np.ndarray) -> Path:
  ours = flatten_variables(variables) | changes
  files.write(path, layout.to_published(registry.LAYOUTS['timm'], ours))
  return path


@pytest.fixture(scope='module')
def model():
  return models.build('mu/16', NUM_CLASSES, exact_gelu=True)  # as timm's are


@pytest.fixture(scope='module')
def variables(model):
  return random_variables(model, 32)


@pytest.fixture(scope='module')
def file(variables, tmp_path_factory) -> Path:
  """Of a ViT of width 32 and depth 1, for images of 32 pixels."""
  return write_weights(tmp_path_factory.mktemp('weights') / 'mu.safetensors', variables)


@pytest.fixture(scope='module')
def pictures(tmp_path_factory) -> Path:
  """Three files of different shapes and kinds, one below a folder; and two that do not count."""
  folder = tmp_path_factory.mktemp('pictures')
  (folder / 'below').mkdir()
  rng = np.random.default_rng(0)
  for name, shape in (('a.png', (40, 60, 3)), ('b.jpg', (70, 50, 3)), ('below/c.png', (32, 32))):
    cv2.imwrite(str(folder / name), rng.integers(0, 256, shape, np.uint8))
  (folder / 'notes.txt').write_text('not an image')
  (folder / '.hidden.png').write_text('not an image either')
  return folder


def predict(source: Path, place, tmp_path: Path, *flags: str) -> dict[str, np.ndarray]:
  out = tmp_path / 'out.npz'
  argv = ['predict', f'--weights={source}', f'--output={out}', '--input', str(place), *flags]
  assert commands.main(argv) == 0
  with np.load(out, allow_pickle=False) as stored:
    return dict(stored)


def save_array(tmp_path: Path, array: np.ndarray) -> Path:
  np.save(tmp_path / 'images.npy', array)
  return tmp_path / 'images.npy'


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


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Path:
  """A run folder with a random model for images of 16 x 24 pixels."""
  model = models.build('Ti/8', 3, **SMALL)
  folder = tmp_path_factory.mktemp('run') / 'made_up'
  write_run(folder, {3: (random_variables(model, (16, 24)), 0.5)})
  return folder


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


def test_features_of_any_number_of_images(model, variables):
  pixels_NHWC = np.random.default_rng(2).integers(0, 256, (9, 32, 32, 3), np.uint8)
  answers = answers_fn(model, variables, HALF, HALF, batch_size=3)
  images_NHWC = np.float32(pixels_NHWC / 255 * 2 - 1)
  expected_ND = np.asarray(model.apply(variables, images_NHWC, train=False).features_BD)
  for count in (0, 1, 8, 9):
    found_ND = answers(pixels_NHWC[:count]).features_ND
    assert found_ND.shape == (count, 32)
    np.testing.assert_allclose(found_ND, expected_ND[:count], atol=1e-5)
  np.testing.assert_allclose(answers(images_NHWC).features_ND, expected_ND, atol=1e-5)


@pytest.mark.parametrize(
  'name, options, stacks',
  [
    ('Ti/8', {}, {'encoder/blocks': (3, 2, 17, 17)}),
    (
      'Ti/8',
      dict(pool='map', registers=2),
      {'encoder/blocks': (3, 2, 18, 18), 'map_head': (3, 1, 1, 16)},
    ),
    (
      'CaiT-XXS24',
      dict(patch=8),
      {'encoder/blocks': (3, 2, 16, 16), 'class_blocks': (3, 2, 1, 17)},
    ),
  ],
)
def test_attention_of_every_layer(name, options, stacks):
  model = models.build(name, 0, **SMALL, **options)
  images_NHWC = np.random.default_rng(3).normal(size=(3, 32, 32, 3)).astype(np.float32)
  found = attention_fn(model, random_variables(model, 32), HALF, HALF)(images_NHWC)
  assert {stack: array.shape for stack, array in found.items()} == stacks
  for weights_BLNT in found.values():
    np.testing.assert_allclose(weights_BLNT.sum(-1), 1, atol=1e-5)
    assert weights_BLNT.min() >= 0 and weights_BLNT.std() > 1e-3


def test_attention_is_drawn(run, tiny_folder, tmp_path, capsys):
  picture = tmp_path / 'attention.png'
  predict(run, tiny_folder / 'test', tmp_path, f'--attention={picture}', '--rollout')
  assert (
    'class token, rollout over depth, mean of heads; 12 of 21 images' in capsys.readouterr().out
  )
  assert min(Image.open(picture).size) > 300


def refused(argv: list[str], capsys) -> str:
  assert commands.main(['predict', *argv]) == 2
  error = capsys.readouterr().err
  assert error.startswith('vit_jax: ') and error.count('\n') == 1
  return error


@pytest.mark.parametrize(
  'place, sentence',
  [
    ('nowhere', 'there is no file or folder'),
    ('empty', 'holds no image'),
    ('notes.txt', 'notes.txt cannot be read as an image: it is damaged'),
  ],
)
def test_bad_places(file, pictures, tmp_path, capsys, place, sentence):
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'notes.txt').write_text('not an image')
  argv = ['--model=mu/16', f'--weights={file}', f'--input={tmp_path / place}']
  assert sentence in refused(argv, capsys)


@pytest.mark.parametrize(
  'array, sentence',
  [
    (np.zeros((2, 32, 32, 3)), 'float64 of shape (2, 32, 32, 3); it should be'),
    (np.zeros((32, 32, 3), np.float32), 'of shape (32, 32, 3); it should be'),
    (np.zeros((0, 32, 32, 3), np.float32), 'of shape (0, 32, 32, 3)'),
    (np.zeros((1, 32, 32, 1), np.float32), 'shape (32, 32, 1), but the model takes (32, 32, 3)'),
    (np.zeros((1, 33, 32, 3), np.float32), '32x32 would'),
    (np.full((1, 32, 32, 3), np.nan, np.float32), 'images.npy[0] holds a number'),
    (np.array([None]), 'is damaged or no array'),  # a pickle
  ],
  ids=['dtype', 'axes', 'empty', 'channels', 'size', 'nan', 'pickle'],
)
def test_bad_arrays(file, tmp_path, capsys, array, sentence):
  place = save_array(tmp_path, array)
  argv = ['--model=mu/16', f'--weights={file}', f'--input={place}']
  assert sentence in refused(argv, capsys)


def test_a_truncated_array(file, tmp_path, capsys):
  place = save_array(tmp_path, np.zeros((2, 32, 32, 3), np.float32))
  place.write_bytes(place.read_bytes()[:-5])
  assert 'is damaged' in refused(['--model=mu/16', f'--weights={file}', f'--input={place}'], capsys)


@pytest.mark.parametrize(
  'flags, sentence',
  [
    (['--model=mu/16', '--num_classes=7'], 'has a head of 5 classes'),
    (['--model=Ti/16'], 'does not fit the model'),
    (['--model=mu/17x'], "'mu/17x'"),
    ([], '--model is missing'),
    (['--model=mu/16', '--top=0'], 'no whole number from 1 to'),
    (['--model=mu/16', '--image_size', '1', '2', '3'], 'one side, or height and width'),
    (['--model=mu/16', '--output=out.txt'], 'must be a .npz or .csv or .jsonl file'),
    (['--model=mu/16', '--attention=nowhere/a.png'], 'in a folder that exists'),
    (['--model=mu/16', '--rollout'], 'add --attention'),
  ],
)
def test_bad_flags(file, pictures, capsys, flags, sentence):
  argv = [f'--weights={file}', f'--input={pictures / "a.png"}', *flags]
  assert sentence in refused(argv, capsys)


def test_weights_that_are_not_finite(variables, pictures, tmp_path, capsys):
  bad = np.full(NUM_CLASSES, np.nan, np.float32)
  path = write_weights(tmp_path / 'nan.safetensors', variables, **{'head/bias': bad})
  argv = ['--model=mu/16', f'--weights={path}', f'--input={pictures}']
  assert 'not finite in head.bias' in refused(argv, capsys)


def test_a_run_of_another_model(run, pictures, capsys):
  argv = ['--model=mu/16', f'--weights={run}', f'--input={pictures}']
  assert 'holds Ti/8; leave --model out' in refused(argv, capsys)


def test_a_model_without_attention():
  model = models.build('ResNet-18', 0, width=8, stages=(1,))
  stacks = attention_fn(model, random_variables(model, 32), HALF, HALF)(
    np.zeros((1, 32, 32, 3), np.float32)
  )
  with pytest.raises(UserError, match='no attention to draw'):
    attention_maps(stacks, model.grid((32, 32)), False, False)
