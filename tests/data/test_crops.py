"""Where crops are cut, against torchvision and TensorFlow's kernel, and what training shows."""

import io
from pathlib import Path

import numpy as np
import pytest
from made_up_source import BATCH, Memory, N, assert_same, make
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_image

from vit_jax.config import Augment, ImageData
from vit_jax.data import crops
from vit_jax.data.decode import Box
from vit_jax.data.train_view import TrainView
from vit_jax.data.view import View, inputs_of

GOLDEN = np.load(Path(__file__).parent.parent / 'golden' / 'augment_torch.npz')
DRAWS = 20_000
RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(load_sample_image('china.jpg'))
SIXTH = 3 / 4, 4 / 3


def boxes(draw, height, width, area, aspect=SIXTH, target=(224, 224), count=DRAWS):
  attempts = crops.ATTEMPTS if draw is crops.random_box else crops.INCEPTION_ATTEMPTS
  return np.array(
    [draw(height, width, target, area, aspect, RNG.random((attempts, 4))) for _ in range(count)]
  )


NUMBERS = {
  'area': lambda b: b[:, 2] * b[:, 3],
  'aspect': lambda b: np.log(b[:, 3] / b[:, 2]),
  'top': lambda b: b[:, 0],
  'left': lambda b: b[:, 1],
}


@pytest.mark.parametrize(
  'name, height, width, area', [('wide', 375, 500, (0.05, 1.0)), ('long', 800, 300, (0.5, 1.0))]
)
def test_random_resized_crops_are_torchvision_s(name, height, width, area):
  ours = boxes(crops.random_box, height, width, area)
  theirs = GOLDEN[f'boxes_{name}'].astype(int)
  for number in NUMBERS.values():
    assert stats.ks_2samp(number(ours), number(theirs)).pvalue > 0.01


def kernel(rng, height, width, area, aspect):
  """TensorFlow's GenerateRandomCrop, from what sample_distorted_bounding_box_op.cc says."""
  lo, hi = area[0] * width * height, area[1] * width * height
  for _ in range(100):
    ratio = rng.uniform(*aspect)
    h, top = round((lo / ratio) ** 0.5), round((hi / ratio) ** 0.5)
    if round(top * ratio) > width:
      top = int((width + 0.5 - 1e-7) / ratio)
      if round(top * ratio) > width:
        top -= 1
    top = min(top, height)
    h = min(h, top)
    if h < top:
      h += int(rng.integers(top - h + 1))
    w = round(h * ratio)
    if w * h < lo:
      h += 1
      w = round(h * ratio)
    if w * h > hi:
      h -= 1
      w = round(h * ratio)
    if lo <= w * h <= hi and 0 < w <= width and 0 < h <= height:
      y = int(rng.integers(height - h)) if h < height else 0
      x = int(rng.integers(width - w)) if w < width else 0
      return y, x, h, w
  return 0, 0, height, width


@pytest.mark.parametrize(
  'height, width, area', [(375, 500, (0.05, 1.0)), (400, 140, (0.3, 0.9)), (20, 30, (0.05, 1.0))]
)
def test_inception_crops_are_tensorflow_s(height, width, area):
  ours = boxes(crops.inception_box, height, width, area)
  rng = np.random.default_rng(1)
  theirs = np.array([kernel(rng, height, width, area, SIXTH) for _ in range(DRAWS)])
  for number in NUMBERS.values():
    assert stats.ks_2samp(number(ours), number(theirs)).pvalue > 0.01
  share = NUMBERS['area'](ours) / (height * width)
  assert area[0] <= share.min() and share.max() <= area[1]
  if width == 500:  # the means that ../shared/facts measured with TensorFlow
    assert abs(share.mean() - 0.343) < 0.006
    assert abs((share < 0.25).mean() - 0.43) < 0.012
    other = boxes(crops.random_box, height, width, area)
    share = NUMBERS['area'](other) / (height * width)
    assert abs(share.mean() - 0.418) < 0.006 and abs((share < 0.25).mean() - 0.28) < 0.012


def test_an_inception_crop_that_cannot_fit_is_the_whole_image():
  draws = RNG.random((crops.INCEPTION_ATTEMPTS, 4))
  assert crops.inception_box(100, 1000, (32, 32), (0.9, 1.0), SIXTH, draws) == Box(0, 0, 100, 1000)


@pytest.mark.parametrize('target', [(32, 32), (16, 48)])
@pytest.mark.parametrize('draw', [crops.random_box, crops.inception_box])
def test_random_boxes_have_the_areas_and_shapes_asked_for(draw, target):
  height, width, area, aspect = 300, 400, (0.08, 0.6), (0.75, 4 / 3)
  found = boxes(draw, height, width, area, aspect, target, 3000)
  top, left, h, w = found.T
  assert (top >= 0).all() and (left >= 0).all()
  assert (top + h <= height).all() and (left + w <= width).all()
  assert top.min() == 0 and left.min() == 0
  last = draw is crops.inception_box  # which leaves out the last place
  assert (top + h).max() == height and (left + w).max() == width or last
  share, shape = h * w / (height * width), w / h / (target[1] / target[0])
  assert share.min() > 0.075 and share.max() < 0.61
  assert shape.min() > 0.73 and shape.max() < 1.36


def test_a_crop_that_cannot_fit_is_the_largest_central_one():
  draws = RNG.random((crops.ATTEMPTS, 4))
  assert crops.random_box(100, 1000, (32, 32), (0.9, 1.0), SIXTH, draws) == Box(0, 433, 100, 133)


def test_a_window_is_cut_from_the_reflected_image():
  image_HWC = RNG.integers(0, 256, (16, 16, 3), np.uint8)
  padded = np.pad(image_HWC, ((3, 3), (3, 3), (0, 0)), mode='reflect')
  for u, v, top, left in [(0, 0, 0, 0), (0.999, 0.999, 6, 6), (0.5, 0.5, 3, 3), (0.2, 0.8, 1, 5)]:
    for channels in (1, 3):
      out_HWC = image_HWC[..., :channels].copy()
      crops.window(out_HWC, 3, np.array([u, v]), out_HWC)
      np.testing.assert_array_equal(out_HWC, padded[top : top + 16, left : left + 16, :channels])


def see(uniform=None, record=None, augment=None, **data):
  """An image as training sees it, and its random numbers."""
  data = ImageData(**{'image_size': (96, 96), 'flip': False, 'crop': 'none', **data})
  view = TrainView(data, augment or Augment(), View.of(inputs_of(data)))
  uniform_U = RNG.random(view.count) if uniform is None else np.full(view.count, uniform)
  out_HWC = np.zeros((*data.image_size, data.channels), np.uint8)
  view(np.asarray(PHOTO) if record is None else record, out_HWC, uniform_U)
  return out_HWC


def reflected(image, pad):
  return np.pad(np.asarray(image), ((pad, pad), (pad, pad), (0, 0)), mode='reflect')


@pytest.mark.parametrize('uniform, place', [(0.0, (0, 0)), (0.5, (4, 28)), (0.999, (8, 55))])
def test_simple_crops_are_those_of_deit_iii(uniform, place):
  """torchvision's Resize (bicubic) of the shorter side, then RandomCrop with reflection."""
  image = PHOTO.resize((int(96 * 640 / 427), 96), Image.Resampling.BICUBIC)
  expected = reflected(image, 4)[place[0] : place[0] + 96, place[1] : place[1] + 96]
  out_HWC = see(uniform, crop='simple', crop_pad=4, interpolation='bicubic')
  np.testing.assert_array_equal(out_HWC, expected)


def test_resized_crops_are_windows_of_the_squashed_image():
  image = PHOTO.resize((130, 110), Image.Resampling.BICUBIC)
  out_HWC = see(0.5, crop='resized', crop_resize=(110, 130), interpolation='bicubic')
  np.testing.assert_array_equal(out_HWC, np.asarray(image)[7 : 7 + 96, 17 : 17 + 96])


def test_bicubic_is_pillow_s():
  out_HWC = see(0.5, crop='random_resized', crop_area=(0.3, 0.3), interpolation='bicubic')
  side = round((0.3 * 427 * 640) ** 0.5)
  top, left = int(0.5 * (427 - side + 1)), int(0.5 * (640 - side + 1))
  image = PHOTO.crop((left, top, left + side, top + side)).resize(
    (96, 96), Image.Resampling.BICUBIC
  )
  np.testing.assert_array_equal(out_HWC, np.asarray(image))
  other_HWC = see(0.5, crop='random_resized', crop_area=(0.3, 0.3))
  assert (out_HWC != other_HWC).mean() > 0.5


def test_a_random_interpolation_is_either_with_equal_chance():
  keys = dict(crop='random_resized', crop_area=(1.0, 1.0), image_size=(40, 60))
  both = [see(interpolation=kind, **keys).tobytes() for kind in ('bilinear', 'bicubic')]
  assert both[0] != both[1]
  found = [see(interpolation='random', **keys).tobytes() for _ in range(60)]
  assert set(found) == set(both) and 15 < found.count(both[0]) < 45


def test_large_jpegs_are_decoded_smaller_before_bicubic_too():
  file = io.BytesIO()
  PHOTO.save(file, 'jpeg', quality=95)
  keys = dict(crop='simple', crop_pad=0, interpolation='bicubic', image_size=(40, 40))
  small, full = see(0.5, file.getvalue(), **keys), see(0.5, **keys)
  assert (small != full).any() and np.abs(small.astype(int) - full).mean() < 3


def test_policies_come_after_crop_and_flip():
  plain = see(0.3, crop='pad', flip=True)
  out_HWC = see(0.3, crop='pad', flip=True, augment=Augment(auto='three_augment'))
  gray = np.asarray(Image.fromarray(plain).convert('L')).astype(int)
  assert np.abs(out_HWC - gray[..., None]).max() <= 1 and (out_HWC != plain).any()


POLICIES = {
  'rand_augment': Augment(auto='rand_augment', rand_magnitude=15.0),
  'timm': Augment(auto='timm_rand_augment', rand_std=0.5),
  'three_augment': Augment(auto='three_augment', brightness=0.3, contrast=0.3, saturation=0.3),
}


@pytest.mark.parametrize('policy', POLICIES)
@pytest.mark.parametrize('crop', ['random_resized', 'inception', 'simple', 'resized'])
def test_the_same_pixels_on_any_number_of_processes_and_threads(policy, crop):
  keys = dict(
    augment=POLICIES[policy], crop=crop, crop_resize=(8, 9), flip=True, interpolation='random'
  )
  one = make(**keys)
  expected = {step: one.batch(step) for step in (0, 15, 16)}
  plain = make(**{**keys, 'augment': None}).batch(15)
  assert (plain['image'] != expected[15]['image']).any((1, 2, 3)).mean() > 0.5
  for processes, threads in ((1, 1), (2, 3), (3, 2)):
    for step, whole in expected.items():
      shares = [
        make(
          rows=slice(BATCH * p // processes, BATCH * (p + 1) // processes),
          **{**keys, 'threads': threads},
        )
        for p in range(processes)
      ]
      parts = [share.batch(step) for share in shares]
      joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
      assert_same(joined, whole)
  assert (make(seed=1, **keys).batch(0)['image'] != expected[0]['image']).any()


@pytest.mark.parametrize('repeats', [2, 3])
def test_repeats_follow_each_other_and_an_epoch_keeps_its_length(repeats):
  loader = make(repeats=repeats, crop='random_resized')
  epochs = 3
  batches = [loader.batch(step) for step in range(-(-epochs * N // BATCH))]
  stream = np.concatenate([batch['index'] for batch in batches])
  images = np.concatenate([batch['image'] for batch in batches])
  seen = []
  for e in range(epochs):
    epoch = stream[e * N : (e + 1) * N]
    shown = epoch[::repeats]
    np.testing.assert_array_equal(epoch, np.repeat(shown, repeats)[:N])
    assert len(set(shown)) == len(shown) == -(-N // repeats)
    seen.append(set(shown.tolist()))
  assert seen[0] != seen[1]
  assert (images[0] != images[1]).any()  # crops of their own
  first = make(Memory()).batch(0)['index']
  np.testing.assert_array_equal(batches[0]['index'][::repeats], first[: -(-BATCH // repeats)])
  np.testing.assert_array_equal(
    make(repeats=repeats, rows=slice(5, 9)).batch(7)['index'], batches[7]['index'][5:9]
  )
