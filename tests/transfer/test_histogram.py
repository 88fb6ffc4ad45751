from __future__ import annotations

import numpy as np
import pytest

from vit_jax.transfer import histogram, linear


def images(count, size=(6, 5), channels=3, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (count, *size, channels), dtype=np.uint8)


@pytest.mark.parametrize('bins', [4, 5, 16])
@pytest.mark.parametrize('channels', [1, 3])
def test_equals_a_loop_over_pixels(bins, channels, monkeypatch):
  monkeypatch.setattr(histogram, 'CHUNK', 3)  # 7 images: two full chunks and a rest
  images_BHWC = images(7, channels=channels)
  expected_BD = np.zeros((7, bins**channels))
  for b in range(7):
    for pixel_C in images_BHWC[b].reshape(-1, channels):
      d = 0
      for value in pixel_C:
        d = d * bins + int(value) * bins // 256
      expected_BD[b, d] += 1 / 30
  features_BD = histogram.colour_histogram(images_BHWC, bins)
  assert features_BD.dtype == np.float32
  np.testing.assert_allclose(features_BD, np.sqrt(expected_BD), atol=1e-7)
  np.testing.assert_allclose(np.linalg.norm(features_BD, axis=1), 1, atol=1e-6)


def test_knows_colours_and_no_shapes():
  images_BHWC = images(4)
  moved_BHWC = np.random.default_rng(1).permuted(images_BHWC.reshape(4, 30, 3), axis=1)
  shuffled_BHWC = images_BHWC.reshape(4, 30, 3)[:, np.random.default_rng(1).permutation(30)]
  features_BD = histogram.colour_histogram(images_BHWC)
  np.testing.assert_array_equal(
    histogram.colour_histogram(shuffled_BHWC.reshape(images_BHWC.shape)), features_BD
  )
  moved_BD = histogram.colour_histogram(moved_BHWC.reshape(images_BHWC.shape))
  assert (moved_BD != features_BD).any()  # channels moved apart: other colours


def coloured(count, seed, spread=60):
  """Three classes of noisy images, each around a colour of its own."""
  rng = np.random.default_rng(seed)
  labels_N = rng.integers(0, 3, count)
  centres_K3 = np.array([[90, 110, 90], [120, 100, 80], [100, 90, 120]])
  noise_NHWC = rng.normal(0, spread, (count, 8, 8, 3)) + rng.normal(0, 15, (count, 1, 1, 3))
  return (centres_K3[labels_N][:, None, None] + noise_NHWC).clip(0, 255).astype(np.uint8), labels_N


def test_judges_colours_well_and_shapes_at_chance():
  train, test = coloured(300, 0, spread=5), coloured(100, 1, spread=5)
  result = histogram.judge_colour_histogram(*train, *test)
  assert result['colour_histogram']['top1'] > 0.65
  rng = np.random.default_rng(0)
  pattern_HWC = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
  labels_N = np.arange(200) % 2  # the class is whether the same picture stands on its head
  images_NHWC = np.where(labels_N[:, None, None, None] == 0, pattern_HWC, pattern_HWC[::-1])
  result = histogram.judge_colour_histogram(images_NHWC, labels_N, images_NHWC, labels_N)
  assert result['colour_histogram']['top1'] == result['majority']['top1'] == 0.5


def test_nothing_is_chosen_on_test():
  train, (test_images, test_labels) = coloured(300, 0), coloured(120, 1)
  result = histogram.judge_colour_histogram(*train, test_images, test_labels)
  other = histogram.judge_colour_histogram(*train, 255 - test_images, (test_labels + 1) % 3)
  assert result['colour_histogram']['top1'] != other['colour_histogram']['top1']
  for key in ('bins', 'strength', 'validation_top1', 'feature', 'classifier'):
    assert result['colour_histogram'][key] == other['colour_histogram'][key]


def test_the_better_number_of_bins_is_used(monkeypatch):
  tried = []

  def choose(features_ND, labels_N):
    tried.append(features_ND.shape[1])
    return linear.Choice(0.01, 0.9 if len(tried) == 1 else 0.8)

  monkeypatch.setattr(linear, 'choose', choose)
  result = histogram.judge_colour_histogram(*coloured(60, 0), *coloured(60, 1))
  assert len(tried) == len(histogram.BINS) > 1 and len(set(tried)) == len(tried)
  assert result['colour_histogram']['bins'] == histogram.BINS[0]
  assert result['colour_histogram']['validation_top1'] == 0.9


def test_the_strength_is_judged_on_examples_that_were_not_fitted(monkeypatch):
  seen = []

  class Judge:
    def __init__(self, rows, strength):
      self.rows, self.strength = rows, strength

    def score(self, features_ND, labels_N):
      held = set(features_ND[:, 0])
      seen.append((self.rows, held))
      return {0.001: 0.3, 0.01: 0.8, 0.1: 0.5}[self.strength]

  monkeypatch.setattr(linear, 'fit', lambda x, y, strength: Judge(set(x[:, 0]), strength))
  choice = linear.choose(np.arange(50.0)[:, None], np.zeros(50), (0.1, 0.001, 0.01))
  assert choice == linear.Choice(0.01, 0.8)
  assert len(seen) == 3
  for fitted, held in seen:
    assert not fitted & held and len(fitted) == 40 and len(held) == 10


def test_fit_ignores_the_scale_of_features():
  rng = np.random.default_rng(0)
  features_ND = rng.normal(size=(200, 4))
  labels_N = (features_ND[:, 0] + 0.3 * rng.normal(size=200) > 0).astype(int)
  features_ND[:, 3] = 5.0
  scaled_ND = features_ND * [1e-3, 1e3, 1, 1] + [0, 7, 0, 0]
  plain = linear.fit(features_ND, labels_N, 0.1).predict_proba(features_ND)
  scaled = linear.fit(scaled_ND, labels_N, 0.1).predict_proba(scaled_ND)
  np.testing.assert_allclose(scaled, plain, atol=1e-5)
  strong = linear.fit(features_ND, labels_N, 100.0).predict_proba(features_ND)
  assert np.abs(strong - plain).max() > 0.05


def test_no_constant_answer_beats_the_majority():
  labels_N = np.array([2, 0, 2, 2, 7, 0])
  assert linear.majority_top1(labels_N) == 0.5 == max((labels_N == k).mean() for k in range(8))
