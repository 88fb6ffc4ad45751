"""An image of 1 x 60,000 pixels: seen by evaluation, training and prediction, at no cost."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vit_jax.config import Augment, ImageData
from vit_jax.data import decode
from vit_jax.data.train_view import TrainView
from vit_jax.data.view import View, inputs_of

SCRIPT = """
import resource
import numpy as np
from tests.data.test_thin import shown, thin
from vit_jax.config import ImageData

record = thin(60_000)
shown(thin(1000), ImageData())  # what is imported and started counts not
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
images = [shown(record, ImageData(crop=crop)) for crop in CROPS]
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
CROPS = ('random_resized', 'inception', 'simple', 'pad', 'none')


def thin(length, transposed=False):
  """Its gray grows along it."""
  image_HW = np.linspace(0, 250, length).astype(np.uint8)[:, None]
  file = io.BytesIO()
  Image.fromarray(image_HW.T if transposed else image_HW).save(file, 'png')
  return file.getvalue()


def shown(record, data):
  """As training and as an evaluation show it."""
  view = View.of(inputs_of(data))
  trained_HWC, judged_HWC = np.zeros((2, *view.image_shape), np.uint8)
  train_view = TrainView(data, Augment(), view)
  train_view(record, trained_HWC, np.random.default_rng(0).random(train_view.count))
  view(record, judged_HWC)
  return trained_HWC, judged_HWC


def test_it_takes_less_than_100_mb():
  script = SCRIPT.replace('CROPS', repr(CROPS))
  out = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
  assert float(out.stdout) < 100


@pytest.mark.parametrize('transposed', [False, True])
@pytest.mark.parametrize('crop', CROPS)
def test_its_middle_is_seen(crop, transposed):
  trained_HWC, judged_HWC = shown(thin(60_000, transposed), ImageData(crop=crop))
  assert 120 <= judged_HWC.min() <= judged_HWC.max() <= 130
  assert 0 < trained_HWC.max()


@pytest.mark.parametrize(
  'keys', [{}, {'interpolation': 'bilinear'}, {'antialias': False, 'interpolation': 'bilinear'}]
)
def test_a_part_alone_is_as_of_the_whole_image(keys, monkeypatch):
  noise_HWC = np.random.default_rng(0).integers(0, 256, (40, 400, 3), np.uint8)
  view = View((64, 64), 3, **keys)
  whole_HWC, part_HWC = np.zeros((2, *view.image_shape), np.uint8)
  view(noise_HWC, whole_HWC)
  monkeypatch.setattr(decode, 'LARGEST', 1000)
  monkeypatch.setattr(decode, 'resize', None)  # the whole image is not touched
  view(noise_HWC, part_HWC)
  assert np.abs(part_HWC.astype(int) - whole_HWC).max() <= 1 and part_HWC.std() > 20
