"""Operations against Pillow on a photograph; what policies draw against torchvision and timm."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import stats
from sklearn.datasets import load_sample_image

from vit_jax.config import Augment, ImageData
from vit_jax.data import operations
from vit_jax.data.policies import Operation, jitter, policies

# Drawn and made by tests/golden/make_augment_fixtures.py.
GOLDEN = np.load(Path(__file__).parent.parent / 'golden' / 'augment_torch.npz')
DRAWS = 20_000
RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(load_sample_image('china.jpg')).resize((160, 107))
FLAT = Image.new('RGB', (9, 8), (200, 10, 90))
DARK = PHOTO.point(lambda v: v // 3 + 40)  # does not use all levels
FILL = (124, 116, 104)
IMAGENET = (0.485, 0.456, 0.406)
FACTORS = (0.1, 0.19, 0.7, 1.0, 1.3, 1.81, 2.8)

# name: (arguments, the same through Pillow)
AGAINST_PILLOW = {
  'invert': [((), ImageOps.invert)],
  'equalize': [((), ImageOps.equalize)],
  'auto_contrast': [((), ImageOps.autocontrast)],
  'grayscale': [((), lambda im: im.convert('L').convert(im.mode))],
  'posterize': [((b,), lambda im, b=b: ImageOps.posterize(im, b)) for b in (1, 4, 7)],
  'solarize': [((t,), lambda im, t=t: ImageOps.solarize(im, t)) for t in (0, 26, 128, 256)],
  'solarize_add': [
    ((a,), lambda im, a=a: im.point(lambda i: min(i + a, 255) if i < 128 else i))
    for a in (0, 99, 128)
  ],
  'blur': [((r,), lambda im, r=r: im.filter(ImageFilter.GaussianBlur(r))) for r in (0.1, 1.0, 2.0)],
  'rotate': [
    ((d, 'bicubic', FILL), lambda im, d=d: im.rotate(d, 3, fillcolor=fill(im))) for d in (-27, 30)
  ],
  'shear_x': [((0.27, 'bilinear', FILL), lambda im: bend(im, (1, 0.27, 0, 0, 1, 0), 2))],
  'shear_y': [((-0.3, 'bicubic', FILL), lambda im: bend(im, (1, 0, 0, -0.3, 1, 0), 3))],
  'translate_x': [
    ((p, kind, FILL), lambda im, p=p, k=k: bend(im, (1, 0, p, 0, 1, 0), k))
    for k, kind in ((3, 'bicubic'), (2, 'bilinear'), (0, 'nearest'))
    for p in (20.5, -20.5, 0.3, -0.7, 90.72, -33.0, 158.9, -159.6, 0.0)
  ],
  'translate_y': [
    ((p, kind, FILL), lambda im, p=p, k=k: bend(im, (1, 0, 0, 0, 1, p), k))
    for k, kind in ((3, 'bicubic'), (2, 'bilinear'), (0, 'nearest'))
    for p in (20.5, -20.5, 0.2, -0.6, 40.72, -33.0, 200.0)
  ],
  **{
    name: [((f,), lambda im, f=f, enhance=enhance: enhance(im).enhance(f)) for f in FACTORS]
    for name, enhance in {
      'brightness': ImageEnhance.Brightness,
      'contrast': ImageEnhance.Contrast,
      'saturation': ImageEnhance.Color,
      'sharpness': ImageEnhance.Sharpness,
    }.items()
  },
}


def fill(image):
  return FILL if image.mode == 'RGB' else FILL[0]


def bend(image, matrix, resampling):
  kind = Image.Transform.AFFINE
  return image.transform(image.size, kind, matrix, resampling, fillcolor=fill(image))


def pixels(image):
  return np.asarray(image).reshape(image.height, image.width, -1)


@pytest.mark.parametrize('mode', ['RGB', 'L'])
@pytest.mark.parametrize('name', AGAINST_PILLOW)
def test_an_operation_is_pillow_s_within_a_grey_level(name, mode):
  for image in (PHOTO, DARK, FLAT):
    image = image.convert(mode)
    for args, reference in AGAINST_PILLOW[name]:
      if mode == 'L':
        args = tuple(arg[:1] if arg is FILL else arg for arg in args)
      x_HWC = np.ascontiguousarray(pixels(image))
      kept = x_HWC.copy()
      out_HWC = Operation(name, args)(x_HWC)
      assert out_HWC.dtype == np.uint8 and out_HWC.shape == x_HWC.shape
      difference = np.abs(out_HWC.astype(int) - pixels(reference(image)))
      assert difference.max() <= 1, args
      np.testing.assert_array_equal(x_HWC, kept)
  changed = Operation(name, AGAINST_PILLOW[name][0][0])(pixels(DARK).copy())
  assert (changed != pixels(DARK)).mean() > 0.3 or name == 'blur' or name == 'solarize_add'


def test_cutting_out_fills_a_square_as_far_as_it_is_inside():
  x_HWC = pixels(PHOTO).copy()
  for row, column in ((50, 80), (3, 2), (106, 159)):
    out_HWC = operations.cut_out(x_HWC, row, column, 9, (128,) * 3)
    expected = x_HWC.copy()
    for y in range(107):
      for x in range(160):
        if row - 9 <= y < row + 9 and column - 9 <= x < column + 9:
          expected[y, x] = 128
    np.testing.assert_array_equal(out_HWC, expected)


@pytest.mark.parametrize('i', range(3))
def test_jittered_colors_are_torchvision_s(i):
  order, factors = [
    ((0, 1, 2), (0.7, 1.2, 0.8)),
    ((2, 1, 0), (1.3, 0.75, 1.25)),
    ((1, 2, 0), (1, 1.3, 0.7)),
  ][i]
  x_HWC = GOLDEN['flower']
  for k in order:
    x_HWC = Operation(('brightness', 'contrast', 'saturation')[k], (factors[k],))(x_HWC)
  difference = np.abs(x_HWC.astype(int) - GOLDEN['jittered'][i])
  # A level of the first operation may become two by the factors of those after it.
  assert difference.max() <= 2 and difference.mean() < 0.5


def draw(policy, count=DRAWS):
  return [policy.draw(u_U) for u_U in RNG.random((count, policy.count)).tolist()]


def uniform_p(counts):
  return stats.chisquare(counts).pvalue


def test_jitter_draws_factors_and_orders_as_torchvision_does():
  names = ['brightness', 'contrast', 'saturation']
  drawn = draw(jitter(0.3, 0.3, 0.3))
  assert all(sorted(op.name for op in ops) == names for ops in drawn)

  def orders(rows):
    return np.unique(np.asarray(rows) @ [9, 3, 1], return_counts=True)

  ours = orders([[names.index(op.name) for op in ops] for ops in drawn])
  theirs = orders(GOLDEN['jitter_orders'])
  np.testing.assert_array_equal(ours[0], theirs[0])
  assert len(ours[0]) == 6
  assert stats.chi2_contingency([ours[1], theirs[1]]).pvalue > 0.01
  for name in names:
    factors = [op.args[0] for ops in drawn for op in ops if op.name == name]
    assert stats.kstest(factors, stats.uniform(0.7, 0.6).cdf).pvalue > 0.01
  one = draw(jitter(0, 0.4, 0), 100)
  assert {op.name for ops in one for op in ops} == {'contrast'} and len(one[0]) == 1


def policy_of(**keys):
  size = keys.pop('image_size', (224, 224))
  interpolation = keys.pop('interpolation', 'bicubic')
  data = ImageData(image_size=size, mean=IMAGENET, interpolation=interpolation)
  (policy,) = policies(data, Augment(**keys))
  return policy


TIMM = ['auto_contrast', 'equalize', 'invert', 'rotate', 'posterize', 'solarize', 'solarize_add']
TIMM += ['saturation', 'contrast', 'brightness', 'sharpness', 'shear_x', 'shear_y']
TIMM += ['translate_x', 'translate_y']


def test_timm_s_rand_augment_draws_what_timm_does():
  drawn = draw(policy_of(auto='timm_rand_augment', rand_magnitude=9, rand_std=0.5))
  ours = np.bincount([len(ops) for ops in drawn], minlength=3)
  theirs = np.bincount(GOLDEN['timm_counts'], minlength=3)
  assert stats.chi2_contingency([ours, theirs]).pvalue > 0.01
  flat = [op for ops in drawn for op in ops]
  which = np.array([TIMM.index(op.name) for op in flat])
  counts = [np.bincount(each, minlength=15) for each in (which, GOLDEN['timm_which'])]
  assert stats.chi2_contingency(counts).pvalue > 0.01 and uniform_p(counts[0]) > 0.01
  for k, name in enumerate(TIMM):
    found = [op for op in flat if op.name == name]
    expected = GOLDEN['timm_values'][GOLDEN['timm_which'] == k]
    if k < 3:
      assert all(op.args == () for op in found)
      continue
    scale = 224 if name.startswith('translate') else 1  # theirs are shares of the side
    values = np.array([op.args[0] / scale for op in found]).astype(np.float16)
    assert stats.ks_2samp(values, expected).pvalue > 0.01, name
    if len(found[0].args) > 1:
      assert {op.args[1:] for op in found} == {('bicubic', FILL)}


def test_timm_s_rand_augment_by_its_keys():
  still = draw(policy_of(auto='timm_rand_augment', rand_magnitude=5, rand_layers=3), 500)
  assert {op.args[0] for ops in still for op in ops if op.name == 'rotate'} == {15.0, -15.0}
  assert max(map(len, still)) == 3
  both = draw(policy_of(auto='timm_rand_augment', interpolation='random'), 2000)
  kinds = [op.args[1] for ops in both for op in ops if op.name == 'rotate']
  assert set(kinds) == {'bilinear', 'bicubic'}
  assert abs(kinds.count('bicubic') / len(kinds) - 0.5) < 0.2


def big_vision(level, pixels):
  """The arguments of each operation by google-research/big_vision, pp/autoaugment.py."""
  enhance = level / 10 * 1.8 + 0.1
  return {
    'auto_contrast': (),
    'equalize': (),
    'invert': (),
    'rotate': level / 10 * 30,
    'posterize': int(level / 10 * 4),
    'solarize': np.array(int(level / 10 * 256)).astype(np.uint8),  # issue 110: it wraps around
    'saturation': enhance,
    'contrast': (enhance, min(pixels / 256, 255) // 1),
    'brightness': enhance,
    'sharpness': enhance,
    'translate_x': level / 10 * 100,
    'translate_y': level / 10 * 100,
    'cut_out': int(level / 10 * 40),
    'solarize_add': int(level / 10 * 110),
  }


@pytest.mark.parametrize('level', [9, 10, 15, 20])
def test_big_vision_s_rand_augment_draws_one_of_16_operations_per_layer(level):
  drawn = draw(policy_of(auto='rand_augment', rand_layers=2, rand_magnitude=float(level)))
  assert all(len(ops) == 2 for ops in drawn)
  by_kind = {}
  for op in (op for ops in drawn for op in ops):
    name = op.name
    if name == 'affine':
      name = 'shear_x' if op.args[0][1] else 'shear_y'
    by_kind.setdefault(name, []).append(op.args)
  assert len(by_kind) == 16 and uniform_p([len(each) for each in by_kind.values()]) > 0.01
  first, second = zip(*(map(lambda op: op.name, ops) for ops in drawn), strict=True)
  assert abs(np.mean(np.array(first) == np.array(second)) - (14 + 4) / 256) < 0.01  # two shears
  for name, expected in big_vision(level, 224 * 224).items():
    found = by_kind[name]
    if name in ('rotate', 'translate_x', 'translate_y'):
      values = [args[0] for args in found]
      assert np.allclose(np.abs(values), expected) and 0.4 < np.mean(np.sign(values) > 0) < 0.6
      assert {args[1:] for args in found} == {('nearest', (128,) * 3)}
    elif name == 'cut_out':
      rows, columns, radii, _ = zip(*found, strict=True)
      assert set(radii) == {expected}
      for places in (rows, columns):
        spread = (np.array(places) + RNG.random(len(places))) / 224
        assert stats.kstest(spread, 'uniform').pvalue > 0.01
    else:
      expected = expected if isinstance(expected, tuple) else (expected,)
      assert len(set(found)) == 1 and np.allclose(found[0], expected), name


def test_big_vision_s_moves_are_tensorflow_addons_s():
  """They sample pixel (x + s y, y) for pixel (x, y), to the nearest, and 128 outside."""
  policy = policy_of(auto='rand_augment', rand_magnitude=9, image_size=(107, 160))
  x_HWC = pixels(PHOTO).copy()
  seen = set()
  for ops in draw(policy, 300):
    for op in ops:
      if op.name != 'affine' or op.args[0] in seen:
        continue
      seen.add(op.args[0])
      _, sx, _, sy, _, _ = op.args[0]
      expected = np.full_like(x_HWC, 128)
      for y in range(107):
        for x in range(160):
          u, v = x + sx * y, y + sy * x
          u, v = (math.floor(abs(w) + 0.5) * (1 if w >= 0 else -1) for w in (u, v))
          if 0 <= u < 160 and 0 <= v < 107:
            expected[y, x] = x_HWC[v, u]
      wrong = (op(x_HWC) != expected).any(-1)
      assert wrong.mean() < 0.01  # a tie of rounding here and there
  assert len(seen) == 4


def test_three_augment_draws_one_of_three():
  drawn = draw(policy_of(auto='three_augment'))
  assert all(len(ops) == 1 for ops in drawn)
  names, counts = np.unique([ops[0].name for ops in drawn], return_counts=True)
  assert names.tolist() == ['blur', 'grayscale', 'solarize'] and uniform_p(counts) > 0.01
  assert {ops[0].args for ops in drawn if ops[0].name == 'solarize'} == {(128,)}
  radii = [ops[0].args[0] for ops in drawn if ops[0].name == 'blur']
  assert stats.kstest(radii, stats.uniform(0.1, 1.9).cdf).pvalue > 0.01
  assert stats.kstest(radii, stats.uniform(0.0, 2.0).cdf).pvalue < 0.01


def test_policies_come_before_colors_and_only_where_asked_for():
  data = ImageData(mean=IMAGENET)
  assert policies(data, Augment(mixup=0.8, erase=0.25, dihedral=True)) == []
  first, second = policies(data, Augment(auto='three_augment', brightness=0.3))
  assert first.draw([0.0, 0.5])[0].name == 'grayscale'
  assert second.draw([0.0, 1.0]) == [Operation('brightness', (1.3,))]
