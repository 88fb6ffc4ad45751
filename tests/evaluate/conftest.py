"""What tests of `vit_jax predict` share: a model, its file, a run, and pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.evaluate.predicting import NUM_CLASSES, SMALL, write_weights
from tests.weights.made_up import random_variables
from tests.weights.made_up_run import write_run
from vit_jax import models


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


@pytest.fixture(scope='module')
def run(tmp_path_factory) -> Path:
  """A run folder with a random model for images of 16 x 24 pixels."""
  model = models.build('Ti/8', 3, **SMALL)
  folder = tmp_path_factory.mktemp('run') / 'made_up'
  write_run(folder, {3: (random_variables(model, (16, 24)), 0.5)})
  return folder
