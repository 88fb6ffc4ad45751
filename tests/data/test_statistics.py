"""`vit_jax stats`: what it measures is what numpy does, and a recipe takes it."""

import io

import numpy as np
from PIL import Image

from vit_jax import commands
from vit_jax.config import ImageData
from vit_jax.config.recipes import from_flags
from vit_jax.data.sources import open_source
from vit_jax.data.statistics import measure
from vit_jax.run import Run


def test_the_mean_and_deviation_of_all_pixels(tmp_path, capsys):
  rng, pixels = np.random.default_rng(0), []
  for name in 'ab':
    (tmp_path / name).mkdir()
    for i in range(40):
      image_HWC = rng.integers(0, 60 * (i % 4) + 60, (10 + i, 12, 5), np.uint8)
      np.save(tmp_path / name / f'{i}.npy', image_HWC)
  (tmp_path / 'a' / 'bad.npy').write_bytes(b'\x93NUMPY')
  source = open_source(ImageData(name=f'folder:{tmp_path}', channels=5), 'train')
  for file in source.files:
    if 'bad' not in file:
      pixels.append(np.load(tmp_path / file).reshape(-1, 5) / 255)
  expected_N5 = np.concatenate(pixels)
  assert commands.main(['stats', f'folder:{tmp_path}', '--config.data.channels=5']) == 0
  lines = capsys.readouterr().out.splitlines()
  keys = from_flags([line for line in lines if line.startswith('--config')])
  np.testing.assert_allclose(keys['data.mean'], expected_N5.mean(0), atol=1e-4)
  np.testing.assert_allclose(keys['data.std'], expected_N5.std(0), atol=1e-4)
  assert ' 5 ' not in lines[0] and '2 classes' in lines[0]
  some = measure(source, ImageData(channels=5), 10)
  assert some.images + some.unreadable == 10 and some.widths == (12, 12, 12)


def test_a_model_learns_from_five_channels(tmp_path, tiny_recipe, capsys):
  rng = np.random.default_rng(0)
  for k, name in enumerate('ab'):
    (tmp_path / 'images' / name).mkdir(parents=True)
    for i in range(40):
      image_HWC = rng.integers(0, 200, (16, 16, 5), np.uint16)
      image_HWC[..., 3] += np.uint16(40 * k)  # the classes differ in the fourth
      np.save(tmp_path / 'images' / name / f'{i}.npy', image_HWC)
  argv = [
    'train', f'--config={tiny_recipe}', f'--workdir={tmp_path / "run"}', '--config.steps=40',
    f'--config.data.name=folder:{tmp_path / "images"}', '--config.data.channels=5',
    '--config.data.mean=(0.4,0.4,0.4,0.5,0.4)', '--config.data.std=(0.3,0.3,0.3,0.3,0.3)',
    '--config.evals={"test": {}}', '--config.augment.mixup=0.0', '--config.data.crop=none',
    '--config.checkpoint.every.steps=40',
  ]  # fmt: skip
  assert commands.main(argv) == 0
  run = Run(tmp_path / 'run')
  assert run.result('test')['top1'] > 0.9
  image = io.BytesIO()
  Image.new('RGB', (16, 16)).save(image, 'png')
  (tmp_path / 'color.png').write_bytes(image.getvalue())
  capsys.readouterr()
  inputs = ['--input', str(tmp_path / 'images' / 'b'), str(tmp_path / 'color.png')]
  assert commands.main(['predict', f'--weights={tmp_path / "run"}', *inputs]) == 0
  said = capsys.readouterr().out.splitlines()
  assert sum(': b ' in line for line in said) > 30
  assert 'color.png' in said[-1] and '3 channels' in said[-1]
