"""What an evaluation sees: the pixels of each kind of view, and nothing else in an import."""

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
from vit_jax.data.view import View, data_for, inputs_of


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


def timm_evaluation(record, size, crop, interpolation='bicubic', mode='RGB'):
  """timm's evaluation of a square size, step by step."""
  image = Image.open(io.BytesIO(record)).convert(mode)
  shorter, (width, height) = math.floor(size / crop), image.size
  if width < height:
    new = shorter, int(shorter * height / width)
  else:
    new = int(shorter * width / height), shorter
  image = image.resize(new, getattr(Image.Resampling, interpolation.upper()))
  left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
  return np.asarray(image.crop((left, top, left + size, top + size)))


def close(got, expected):
  """Within a gray level."""
  assert np.abs(got.astype(int) - expected).max() <= 1


@pytest.mark.parametrize('size, crop', [(32, 0.875), (64, 0.9), (40, 1.0), (224, 0.875)])
@pytest.mark.parametrize('height, width', [(100, 140), (141, 75), (64, 64), (30, 37)])
@pytest.mark.parametrize('interpolation', ['bicubic', 'bilinear'])
def test_the_pixels_of_timm(height, width, size, crop, interpolation):
  png = record(height, width)
  out_HWC = see(View((size, size), 3, crop, interpolation), png)
  np.testing.assert_array_equal(out_HWC, timm_evaluation(png, size, crop, interpolation))
  assert out_HWC.std() > 10


@pytest.mark.parametrize('kind', ['JPEG', 'PNG'])
def test_the_pixels_of_timm_where_every_pixel_is_felt(kind):
  rng = np.random.default_rng(0)
  for height, width in ((150, 400), (401, 149), (23, 40)):
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
    file = io.BytesIO()
    image.save(file, kind)
    for crop in (0.3, 0.875, 1.0):
      out_HWC = see(View((48, 48), 3, crop), file.getvalue())
      expected = timm_evaluation(file.getvalue(), 48, crop)
      np.testing.assert_array_equal(out_HWC, expected)


def test_a_view_of_another_shape_is_filled():
  out_HWC = see(View((32, 96), 3, 0.875), record(100, 120, 'JPEG'))
  assert (out_HWC.std((0, 2)) > 0).all() and (out_HWC.std((1, 2)) > 0).all()
  assert View((32, 96), 3, 1.0).resized(50, 150) == (32, 96)  # of the same shape: the whole image


@pytest.mark.parametrize('channels, mode', [(1, 'L'), (3, 'RGB')])
def test_a_whole_view_is_resized_whatever_its_aspect(channels, mode):
  pixels_HWC = decode.decode(record(100, 60), channels)
  image = Image.fromarray(pixels_HWC if channels == 3 else pixels_HWC[..., 0], mode)
  expected = np.asarray(image.resize((48, 32), Image.Resampling.BILINEAR))
  out_HWC = see(View.whole((32, 48), channels), pixels_HWC)
  np.testing.assert_array_equal(out_HWC, expected.reshape(32, 48, channels))


def test_squeezed_then_cropped():
  """timm's crop_mode 'squash', and how transformers resizes to a height and a width."""
  image = Image.open(io.BytesIO(record(100, 60)))
  resized = np.asarray(image.resize((40, 40), Image.Resampling.BICUBIC))
  close(see(View((32, 32), 3, 0.8, aspect='change'), record(100, 60)), resized[4:36, 4:36])


def test_without_antialiasing_few_pixels_are_felt():
  """TensorFlow's bilinear: each value is of the four pixels around one place."""
  noise_HWC = np.random.default_rng(0).integers(0, 256, (200, 100, 3), np.uint8)
  y_h, x_w = ((np.arange(20) + 0.5) * side / 20 - 0.5 for side in (200, 100))
  (y, fy), (x, fx) = ((np.floor(at).astype(int), at % 1) for at in (y_h, x_w))
  fy, fx = fy[:, None, None], fx[None, :, None]
  corners = noise_HWC[np.ix_(y, x)], noise_HWC[np.ix_(y, x + 1)]
  below = noise_HWC[np.ix_(y + 1, x)], noise_HWC[np.ix_(y + 1, x + 1)]
  top, bottom = (a * (1 - fx) + b * fx for a, b in (corners, below))
  view = View.whole((20, 20), 3, antialias=False)
  close(see(view, noise_HWC), (top * (1 - fy) + bottom * fy).round())
  smooth_HWC = see(View.whole((20, 20), 3), noise_HWC)
  assert smooth_HWC.std() < 0.5 * see(view, noise_HWC).std()


def test_an_image_of_the_size_is_not_touched():
  noise_HWC = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
  for keys in ({}, dict(aspect='change'), dict(interpolation='bilinear', antialias=False)):
    np.testing.assert_array_equal(see(View((32, 32), 3, 1.0, **keys), noise_HWC), noise_HWC)


def test_the_view_of_a_recipe():
  keys = dict(crop=0.9, interpolation='bilinear', aspect='change', antialias=False)
  data = ImageData(image_size=(24, 32), **{f'eval_{key}': value for key, value in keys.items()})
  assert View.of(inputs_of(data)) == View((24, 32), 3, **keys)
  assert inputs_of(data_for(ImageData(image_size=(24, 32)), inputs_of(data))) == inputs_of(data)


def test_a_view_is_known_by_its_fields():
  views = [View((24, 32), 3), View((24, 32), 3, 0.9), View.whole((24, 32), 3)]
  assert len({*views, View((24, 32), 3)}) == len({repr(view) for view in views}) == 3
  assert repr(views[0]) == (
    "View(image_size=(24, 32), channels=3, crop=0.875, interpolation='bicubic', aspect='keep', "
    'antialias=True, upright=True, white=0.0)'
  )


@pytest.mark.parametrize('crop', ['none', 'pad'])
def test_training_without_a_random_crop_sees_what_an_evaluation_sees(crop):
  keys = dict(crop=crop, crop_pad=0, eval_crop=0.7, image_size=(16, 16))
  train, test = (
    make(Memory(5), train=is_train, batch_size=5, **keys) for is_train in (True, False)
  )
  batch, seen = train.batch(0), test.batch(0)
  np.testing.assert_array_equal(batch['image'], seen['image'][batch['index']])


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
