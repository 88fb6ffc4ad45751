"""Eight fake CPU devices for every test, and a small run to train on."""

import os
import shutil
import tempfile

# Tests spend their time in the compiler: it optimizes little, and they, and the processes they
# start, share its results.
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_backend_optimization_level=0'
).strip()
_cache = tempfile.TemporaryDirectory(prefix='vit_jax_test_')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Collectives of fake devices block threads: with fewer threads than devices they may all block.
os.environ.setdefault('PJRT_NPROC', '8')
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', _cache.name)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')

import jax  # noqa: E402

jax.config.update('jax_num_cpu_devices', 8)

from pathlib import Path  # noqa: E402

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from tests import fleet  # noqa: E402
from vit_jax.models import constraints  # noqa: E402

TINY_RECIPE = """
from ml_collections import ConfigDict


def get_config():
  return ConfigDict(dict(
      name='tiny', steps=12, batch_size=16, eval_batch_size=16,
      model=dict(name='Ti/8', width=32, depth=2, heads=2, mlp=64, stochastic_depth=0.2,
                 dropout=0.1),
      data=dict(name='folder', dir={folder!r}, image_size=(16, 16), eval_crop=1.0,
                crop='random_resized', crop_area=(0.5, 1.0)),
      evals=dict(
          test=dict(split='test', every=dict(steps=5)),
          **{{kind: dict(kind=kind, data='folder:' + {folder!r}, every=dict(steps=5))
             for kind in ('few_shot', 'knn', 'linear')}}),
      augment=dict(mixup=0.2),
      loss=dict(label_smoothing=0.1),
      optim=dict(lr=3e-3, weight_decay=0.05, clip_norm=1.0, ema=0.9, warmup=dict(steps=2)),
      log=dict(every=dict(steps=3)),
      checkpoint=dict(every=dict(steps=4), minutes=0.0, best='test/top1')))
"""

LENET_RECIPE = """
from ml_collections import ConfigDict


def get_config():
  return ConfigDict(dict(
      name='lenet', steps=60, batch_size=12, eval_batch_size=12, model=dict(name='LeNet-5'),
      data=dict(name='folder', dir={folder!r}, image_size=(32, 32), channels=1, mean=(0.5,),
                std=(0.5,), eval_crop=1.0, crop_area=(0.5, 1.0), threads=1),
      optim=dict(name='adamw', lr=3e-3, ema=0.9),
      evals=dict(test=dict(split='test', every=dict(steps=6))), log=dict(every=dict(steps=1)),
      checkpoint=dict(every=dict(steps=5), minutes=0.0, best='test/top1'),
      limits=dict(data=6.0, step=60.0, barrier=60.0, save=60.0, start=120.0, heartbeat=8)))
"""


def _write_images(folder: Path, counts: dict[str, int], size: int = 20, seed: int = 0) -> None:
  """Noisy images, one mean color a class."""
  rng = np.random.default_rng(seed)
  for k, (name, count) in enumerate(counts.items()):
    (folder / name).mkdir(parents=True)
    for i in range(count):
      image_HWC = rng.normal(60 + 60 * k, 40, (size, size, 3)).clip(0, 255).astype(np.uint8)
      cv2.imwrite(str(folder / name / f'{i:03}.png'), image_HWC)


@pytest.fixture(scope='session')
def write_images():
  return _write_images


@pytest.fixture(scope='session')
def tiny_folder(tmp_path_factory) -> Path:
  """75 training and 21 test images of three classes: neither is a multiple of a batch."""
  folder = tmp_path_factory.mktemp('images')
  _write_images(folder / 'train', {'dark': 25, 'gray': 25, 'light': 25})
  _write_images(folder / 'test', {'dark': 7, 'gray': 7, 'light': 7}, seed=1)
  return folder


@pytest.fixture(scope='session')
def tiny_recipe(tiny_folder, tmp_path_factory) -> Path:
  """A recipe file that trains a ViT of width 32 and depth 2 on it."""
  path = tmp_path_factory.mktemp('recipe') / 'tiny.py'
  path.write_text(TINY_RECIPE.format(folder=str(tiny_folder)))
  return path


@pytest.fixture(scope='session')
def lenet_recipe(tiny_folder, tmp_path_factory) -> Path:
  """A recipe file that trains LeNet-5 on it: the run that starts soonest, for tests of faults."""
  path = tmp_path_factory.mktemp('recipe') / 'lenet.py'
  path.write_text(LENET_RECIPE.format(folder=str(tiny_folder)))
  return path


@pytest.fixture
def trace_for(monkeypatch):
  """A function that lets models be traced for a platform that is not here."""

  def patch(name: str) -> None:
    monkeypatch.setattr(constraints, 'platform', lambda: name)
    jax.clear_caches()

  yield patch
  jax.clear_caches()


@pytest.fixture
def readme_folder(finished_run, tiny_recipe, tmp_path, monkeypatch) -> Path:
  """The current folder, with what README's and the docs' lines of Python name."""
  (tmp_path / 'configs').mkdir()
  shutil.copy(tiny_recipe, tmp_path / 'configs' / 'earth_climate.py')
  shutil.copytree(finished_run, tmp_path / 'runs' / 'earth_climate')
  for name in ('a.jpg', 'b.jpg'):
    cv2.imwrite(str(tmp_path / name), np.full((40, 50, 3), 90, np.uint8))
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.fixture(scope='session')
def nursery():
  """Starts processes that need not import all again."""
  nursery = fleet.Nursery()
  yield nursery
  nursery.close()


@pytest.fixture(scope='session')
def finished_run(tiny_recipe, nursery, tmp_path_factory) -> Path:
  """The folder of a finished run of it, on one device. Copy it to write there."""
  folder = tmp_path_factory.mktemp('finished')
  fleet.run_to_end(
    nursery, folder / 'lives', ['train', f'--config={tiny_recipe}', f'--workdir={folder / "run"}']
  )
  return folder / 'run'
