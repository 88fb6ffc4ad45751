"""What `vit_jax predict` refuses: places, arrays, flags, weights."""

import numpy as np
import pytest

from tests.evaluate.predicting import NUM_CLASSES, save_array, write_weights
from vit_jax import commands


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
