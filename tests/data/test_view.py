"""What an evaluation sees: the pixels of each kind of view, and nothing else in an import."""

import functools
import io
import math
import subprocess
import sys

import cv2
import numpy as np
import pytest
from made_up_source import Memory, make
from PIL import Image

from vit_jax.config import ImageData
from vit_jax.data import decode
from vit_jax.data.view import View


def record(height, width, kind='PNG'):
  """A picture whose pixels differ everywhere."""
  coarse_HWC = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
  file = io.BytesIO()
  image_HWC = cv2.resize(coarse_HWC, (width, height), interpolation=cv2.INTER_CUBIC)
  Image.fromarray(image_HWC).save(file, kind)
  return file.getvalue()


def see(view, record):
  out_HWC = np.zeros(view.image_shape, np.uint8)
  view(record, out_HWC)
  return out_HWC


def timm_evaluation(record, size, crop, mode='RGB'):
  """timm's evaluation of a square size, step by step."""
  image = Image.open(io.BytesIO(record)).convert(mode)
  shorter, (width, height) = math.floor(size / crop), image.size
  if width < height:
    new = shorter, int(shorter * height / width)
  else:
    new = int(shorter * width / height), shorter
  image = image.resize(new, Image.Resampling.BICUBIC)
  left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
  return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize('size, crop', [(32, 0.875), (64, 0.9), (40, 1.0), (224, 0.875)])
@pytest.mark.parametrize('height, width', [(100, 140), (141, 75), (64, 64), (30, 37)])
def test_a_published_view_has_the_pixels_of_timm(height, width, size, crop):
  png = record(height, width)
  out_HWC = see(View.published((size, size), 3, crop), png)
  np.testing.assert_array_equal(out_HWC, timm_evaluation(png, size, crop))


def test_a_published_view_of_another_shape_is_filled():
  out_HWC = see(View.published((32, 96), 3, 0.875), record(100, 120, 'JPEG'))
  assert (out_HWC.std((0, 2)) > 0).all() and (out_HWC.std((1, 2)) > 0).all()


@pytest.mark.parametrize('channels, mode', [(1, 'L'), (3, 'RGB')])
def test_a_whole_view_is_resized_whatever_its_aspect(channels, mode):
  pixels_HWC = decode.decode(record(100, 60), channels)
  image = Image.fromarray(pixels_HWC if channels == 3 else pixels_HWC[..., 0], mode)
  expected = np.asarray(image.resize((48, 32), Image.Resampling.BILINEAR))
  out_HWC = see(View.whole((32, 48), channels), pixels_HWC)
  np.testing.assert_array_equal(out_HWC, expected.reshape(32, 48, channels))


@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_the_view_of_a_recipe_is_its_central_crop(kind):
  image = record(128, 96, kind)
  data = ImageData(image_size=(24, 32), eval_resize=40)
  expected = np.zeros((24, 32, 3), np.uint8)
  box = functools.partial(decode.central_box, target=(24, 32), shorter=40)
  decode.decode_box(image, box, expected)
  np.testing.assert_array_equal(see(View.of(data), image), expected)
  assert expected.std() > 0 and (expected != see(View.whole((24, 32), 3), image)).any()


def test_a_view_is_known_by_its_fields():
  data = ImageData(image_size=(24, 32), eval_resize=40)
  views = [View.of(data), View.published((24, 32), 3, 0.9), View.whole((24, 32), 3)]
  assert len({*views, View.of(data)}) == len({repr(view) for view in views}) == 3
  assert repr(views[0]) == (
    "View(image_size=(24, 32), channels=3, kind='central', shorter=40, crop=1.0)"
  )


@pytest.mark.parametrize('cache', ['always', 'never'])
def test_an_evaluation_sees_the_view_it_is_given(cache):
  view = View.whole((8, 10), 1)
  loader = make(Memory(5), train=False, batch_size=5, view=view, cache=cache)
  for _ in range(2):
    images_BHWC = loader.batch(0)['image']
    for i in range(5):
      np.testing.assert_array_equal(images_BHWC[i], see(view, Memory().pixels(i)))


def test_imports_set_nothing_and_the_default_data_folder_costs_nothing():
  """OpenCV's threads and messages are those of whoever imports us until we read images."""
  code = (
    'import sys; from vit_jax.commands import flags; flags.default_data_dir(); '
    'assert not {"cv2", "tensorflow_datasets", "jax"} & sys.modules.keys(), "dear"; '
    'import cv2; cv2.setNumThreads(3); level = cv2.utils.logging.getLogLevel(); '
    'from vit_jax.data import datasets, loader; from vit_jax.transfer import bovw; '
    'assert (cv2.getNumThreads(), cv2.utils.logging.getLogLevel()) == (3, level), "set"; '
    'loader.decode.thread_pool(1); assert cv2.getNumThreads() == 1, "not set"'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
