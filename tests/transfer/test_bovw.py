import numpy as np
import pytest
from scipy import sparse

from vit_jax.data import decode, held_out
from vit_jax.transfer import bovw


@pytest.fixture(autouse=True)
def few_choices(monkeypatch):
  monkeypatch.setattr(bovw, 'SIDES', (32, 48))
  monkeypatch.setattr(bovw, 'VOCABULARIES', (12, 24))
  monkeypatch.setattr(bovw, 'STRENGTHS', (0.1, 1.0))


def stripes(count, seed):
  """Stripes along or across, of any phase and two colors: one class is the other on its side."""
  rng = np.random.default_rng(seed)
  labels_N = np.arange(count) % 2
  wave_NW = np.sin(np.arange(24) * 0.9 + rng.uniform(0, 2 * np.pi, (count, 1))) > 0
  colors_N2C = rng.integers(40, 216, (count, 2, 3))
  across_NHW = np.broadcast_to(wave_NW[:, None, :], (count, 24, 24))
  waves_NHW = np.where(labels_N[:, None, None] == 0, across_NHW, across_NHW.swapaxes(1, 2))
  images_NHWC = np.where(
    waves_NHW[..., None], colors_N2C[:, None, None, 0], colors_N2C[:, None, None, 1]
  )
  noise_NHWC = rng.normal(0, 4, images_NHWC.shape)
  return (images_NHWC + noise_NHWC).clip(0, 255).astype(np.uint8), labels_N


def colored(count, seed):
  """One kind of noise on a light or a dark ground: no shape tells them apart."""
  rng = np.random.default_rng(seed)
  labels_N = np.arange(count) % 2
  noise_NHWC = rng.normal(0, 12, (count, 24, 24, 3))
  ground_N = np.where(labels_N == 0, 100, 150)
  return (ground_N[:, None, None, None] + noise_NHWC).clip(0, 255).astype(np.uint8), labels_N


def test_sees_shapes():
  words = bovw.judge_bag_of_words(stripes(60, 0), stripes(60, 1))
  assert words['top1'] > 0.95 and words['validation_top1'] > 0.9


def test_sees_no_colors():
  assert bovw.judge_bag_of_words(colored(80, 0), colored(60, 1))['top1'] < 0.75


def test_color_is_used_where_gray_shows_nothing():
  """Stripes of red against blue of one lightness, under noise of lightness."""
  rng = np.random.default_rng(0)
  images_NHWC, labels_N = stripes(80, 0)
  up_NHW = images_NHWC[..., 0] > images_NHWC[..., 0].mean((1, 2), keepdims=True)
  sign_NHW = np.where(up_NHW, 1.0, -1.0)
  noise_NHW = rng.normal(0, 20, sign_NHW.shape)
  step_C = 30 * np.array([1 / 0.299, 0, -1 / 0.114]) * 0.114
  colored_NHWC = (128 + noise_NHW[..., None] + sign_NHW[..., None] * step_C).clip(0, 255)
  bag, _, _, top1 = bovw.fit(colored_NHWC.astype(np.uint8), labels_N)
  assert bag.color and bag.words_VE.shape[1] == 3 * 128 and top1 > 0.8
  gray_NHWC = np.repeat(images_NHWC[..., :1], 3, axis=-1)
  assert not bovw.fit(gray_NHWC, labels_N).bag.color  # there is none


def test_nothing_is_chosen_on_test():
  train, (test_images, test_labels) = stripes(60, 0), stripes(20, 1)
  result = bovw.judge_bag_of_words(train, (test_images, test_labels))
  other = bovw.judge_bag_of_words(train, (test_images, 1 - test_labels))
  assert other['top1'] == pytest.approx(1 - result['top1'])
  for key in ('side', 'color', 'vocabulary', 'strength', 'validation_top1'):
    assert result[key] == other[key]


def test_choices_are_the_best_on_images_that_were_not_fitted(monkeypatch):
  asked = []
  best = {(48, 12): 0.9, (48, 24): 0.95, (48, 24, 0.1): 0.97}

  def score(features, labels_N, kept, held, strength=1.0):
    assert not set(kept) & set(held) and len(held) == len(kept) // 4
    words = features.shape[1] // 63
    side = (32, 48)[len(asked)] if len(asked) < 2 else 48
    asked.append((side, words, strength))
    return best.get((side, words, strength), best.get((side, words), 0.1))

  monkeypatch.setattr(bovw, '_score', score)
  images_NHWC, labels_N = stripes(40, 0)
  bag, _, *choice = bovw.fit(images_NHWC[..., :1], labels_N)
  assert (bag.side, len(bag.words_VE)) == (48, 24)
  assert choice == [0.1, 0.97]
  assert asked == [
    (32, 12, 1.0),
    (48, 12, 1.0),  # the side
    (48, 12, 1.0),
    (48, 24, 1.0),  # the vocabulary
    (48, 24, 0.1),
    (48, 24, 1.0),
  ]  # the strength


def test_a_group_is_held_out_together():
  groups_N = np.repeat(np.arange(10), 7)
  held, kept = held_out.split(groups_N[:, None])
  assert sorted([*held, *kept]) == list(range(70)) and len(held) == 14
  assert not set(groups_N[held]) & set(groups_N[kept])
  # Every image twice, labels by chance: only a copy on the other side could tell.
  rng = np.random.default_rng(0)
  images_NHWC = np.repeat(rng.integers(0, 256, (40, 24, 24, 1), dtype=np.uint8), 2, axis=0)
  labels_N = np.repeat(rng.integers(0, 2, 40), 2)
  assert bovw.fit(images_NHWC, labels_N).validation_top1 > 0.8
  grouped = bovw.fit(images_NHWC, labels_N, np.repeat(np.arange(40), 2))
  assert grouped.validation_top1 < 0.8


def test_two_fits_are_the_same_bits():
  images_NHWC, labels_N = stripes(40, 0)
  one, two = (bovw.fit(images_NHWC, labels_N, seed=3) for _ in range(2))
  np.testing.assert_array_equal(one.bag.words_VE, two.bag.words_VE)
  np.testing.assert_array_equal(one.classifier.coef_, two.classifier.coef_)
  assert one[2:] == two[2:]
  other = bovw.fit(images_NHWC, labels_N, seed=4)
  assert (
    one.bag.words_VE.shape != other.bag.words_VE.shape
    or (one.bag.words_VE != other.bag.words_VE).any()
  )


@pytest.fixture
def bag():
  images_NHWC, _ = stripes(20, 0)
  rng = np.random.default_rng(0)
  return bovw._bags(images_NHWC, np.arange(20), (48, False), (12,), rng)[0]


@pytest.mark.parametrize('count', [0, 1, 3, 7])
def test_any_number_of_images_with_the_same_bits(bag, count, monkeypatch):
  images_NHWC, _ = stripes(7, 1)
  together_ND = bag.features_fn(images_NHWC)
  monkeypatch.setattr(bovw, 'CHUNK', 1)
  monkeypatch.setattr(decode, 'cores', lambda: 2)
  features_ND = bag.features_fn(images_NHWC[:count])
  assert features_ND.shape == (count, 63 * 12) and features_ND.dtype == np.float32
  np.testing.assert_array_equal(features_ND, together_ND[:count])


def test_counts_equal_a_loop_over_patches(bag):
  """Words found by distance, counted in cells of the pyramid, one patch at a time."""
  image_HWC = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
  patches_RCE = bovw._describe(image_HWC, 48, False)
  rows, columns = 6, 10  # of 48 x 72 pixels, patches of 16 every 6
  assert patches_RCE.shape == (rows, columns, 128)
  expected = {grid: np.zeros((grid, grid, 12)) for grid in (1, 2, 4)}
  for p, patch_E in enumerate(patches_RCE.reshape(-1, 128)):
    word = ((patch_E - bag.words_VE.astype(np.float64)) ** 2).sum(1).argmin()
    row, column = divmod(p, columns)
    for grid, weight in ((1, 0.25), (2, 0.25), (4, 0.5)):
      expected[grid][row * grid // rows, column * grid // columns, word] += weight / 60
  flat = np.concatenate([expected[grid].ravel() for grid in (1, 2, 4)])
  (counts,) = bovw._count(image_HWC[None], [bag])
  np.testing.assert_allclose(counts.toarray()[0], flat, atol=1e-7)
  assert counts.sum() == pytest.approx(1)


def test_inner_products_are_the_chi_square_kernel(bag):
  rng = np.random.default_rng(0)
  shares_ND = rng.exponential(size=(6, 50)) ** 3 * (rng.random((6, 50)) < 0.7)
  shares_ND /= shares_ND.sum(axis=1, keepdims=True)
  features_ND = bovw._chi_square(sparse.csr_array(shares_ND)).toarray()
  norm_N = np.linalg.norm(features_ND, axis=1)
  np.testing.assert_allclose(norm_N, 0.948, atol=1e-3)  # the same for all: the map samples it
  found_NN = features_ND @ features_ND.T / norm_N[0] ** 2
  x_N1D, y_1ND = shares_ND[:, None], shares_ND[None]
  kernel_NN = (2 * x_N1D * y_1ND / (x_N1D + y_1ND + 1e-12)).sum(-1)
  np.testing.assert_allclose(found_NN, kernel_NN, atol=0.07)  # two samples of a function
  roots_NN = np.sqrt(x_N1D * y_1ND).sum(-1)
  assert np.abs(roots_NN - kernel_NN).max() > 0.14  # which is not what square roots would give
  images_NHWC, _ = stripes(3, 2)
  (counts,) = bovw._count(images_NHWC, [bag])
  np.testing.assert_array_equal(bag.features_fn(images_NHWC), bovw._chi_square(counts).toarray())


def test_constant_images():
  """No edge anywhere: one word, features that are finite and equal, and chance."""
  images_NHWC = np.full((40, 24, 24, 3), 90, np.uint8)
  images_NHWC[::2] = 200
  bag, classifier, *_ = bovw.fit(images_NHWC, np.arange(40) % 2)
  assert not bag.words_VE.any() and len(bag.words_VE) == 1
  features_ND = bag.features_fn(images_NHWC)
  assert np.isfinite(features_ND).all() and (features_ND == features_ND[0]).all()
  assert len(set(classifier.predict(features_ND))) == 1
  mixed_NHWC = np.concatenate([stripes(5, 0)[0], images_NHWC[:1]])
  assert np.isfinite(bag.features_fn(mixed_NHWC)).all()


@pytest.mark.parametrize('shape', [(8, 8, 1), (28, 28, 1), (200, 130, 3)])
def test_images_are_enlarged_and_never_made_smaller(shape):
  image_HWC = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
  height, width = (max(length, 48) for length in shape[:2])
  rows, columns = ((length - 16) // 6 + 1 for length in (height, width))
  assert bovw._describe(image_HWC, 48, False).shape == (rows, columns, 128)
  color = bovw._describe(image_HWC, 48, True)
  assert color.shape == (rows, columns, 128 * shape[2])
