"""Metrics against counting by hand; padding never counts."""

import tracemalloc

import jax.numpy as jnp
import numpy as np

from vit_jax import config
from vit_jax.evaluate import metrics
from vit_jax.report import images
from vit_jax.run import Predictions


def rows(count: int = 200, classes: int = 6, seed: int = 0) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(seed)
  logits_NK = rng.normal(size=(count, classes))
  label_N = rng.integers(0, classes, count)
  true_N1 = np.take_along_axis(logits_NK, label_N[:, None], 1)
  p_NK = np.exp(logits_NK) / np.exp(logits_NK).sum(1, keepdims=True)
  return {
    'label': label_N,
    'prediction': logits_NK.argmax(1),
    'index': np.arange(count),
    'rank': (logits_NK >= true_N1).sum(1) - 1,
    'confidence': p_NK.max(1),
    'loss': rng.random(count).astype(np.float32),
    'mask': np.ones(count, bool),
  }


def test_top1_top5_loss_by_hand():
  batch = rows()
  result = metrics.summarize(metrics.concatenate([batch]))
  assert result['top1'] == np.mean(batch['label'] == batch['prediction'])
  assert result['top5'] == np.mean(batch['rank'] < 5) < 1
  np.testing.assert_allclose(result['loss'], batch['loss'].astype(float).mean(), rtol=1e-12)


def test_ece_by_hand():
  batch = rows()
  expected = 0.0
  for m in range(15):
    inside = (batch['confidence'] >= m / 15) & (batch['confidence'] < (m + 1) / 15)
    if inside.any():
      gap = np.mean(batch['rank'][inside] == 0) - batch['confidence'][inside].mean()
      expected += inside.sum() * abs(gap) / 200
  np.testing.assert_allclose(metrics.summarize(batch)['ece'], expected, rtol=1e-9)


def test_confident_and_right_is_calibrated():
  batch = {**rows(), 'rank': np.zeros(200, int), 'confidence': np.ones(200)}
  assert metrics.summarize(batch)['ece'] == 0


def test_padding_and_order_do_not_matter():
  whole = metrics.concatenate([rows()])
  parts = []
  for start in range(150, -1, -50):
    part = {name: values[start : start + 50] for name, values in rows().items()}
    padding = {name: np.zeros_like(values[:7]) for name, values in part.items()}
    parts.append({name: np.concatenate([part[name], padding[name]]) for name in part})
  again = metrics.concatenate(parts)
  for name in whole:
    np.testing.assert_array_equal(whole[name], again[name])


def test_confused_counts_each_wrong_example_of_a_class_once():
  batch = {**rows(), 'label': np.where(np.arange(200) % 10 == 0, -1, rows()['label'])}
  pairs = metrics.confused(batch['label'], batch['prediction'])
  known_N = batch['label'] >= 0
  assert sum(count for *_, count in pairs) == np.sum(
    known_N & (batch['label'] != batch['prediction'])
  )
  for true, predicted, count in pairs:
    assert count == np.sum((batch['label'] == true) & (batch['prediction'] == predicted))
  assert [count for *_, count in pairs] == sorted((count for *_, count in pairs), reverse=True)


def test_examples_of_no_class_count_nowhere():
  known_N = np.arange(200) % 10 > 0
  batch = {**rows(), 'label': np.where(known_N, rows()['label'], -1)}
  kept = {name: values[known_N] for name, values in rows().items()}
  assert metrics.summarize(batch) == metrics.summarize(kept)
  assert metrics.summarize(batch) != metrics.summarize(rows())
  none = {**batch, 'label': np.full(200, -1)}
  assert np.isnan(list(metrics.summarize(none).values())).all()


def class_rows(logits_BK, label_B, loss: str = 'softmax') -> dict[str, np.ndarray]:
  found = metrics.class_rows(jnp.asarray(logits_BK), jnp.asarray(label_B), loss)
  return {**{name: np.asarray(values) for name, values in found.items()}, 'label': label_B}


def test_a_diverged_model_is_right_about_nothing():
  result = metrics.summarize(class_rows(np.full((4, 6), np.nan), np.arange(4)))
  assert (result['top1'], result['top5'], result['ece']) == (0, 0, 0)
  assert np.isnan(result['loss'])
  assert config.worth('test/loss', result['loss']) < config.worth('test/loss', 1e30)


def test_a_sigmoid_models_confidence_is_its_own_probability():
  """K classes whose probabilities are exactly right are calibrated, by their own loss alone."""
  rng = np.random.default_rng(0)
  count, classes = 20_000, 100
  p_N = rng.uniform(0.2, 0.95, count)
  logits_NK = np.full((count, classes), -6.0)
  logits_NK[:, 0] = np.log(p_N / (1 - p_N))
  label_N = np.where(rng.random(count) < p_N, 0, 1)
  assert metrics.summarize(class_rows(logits_NK, label_N, 'sigmoid'))['ece'] < 0.01
  assert metrics.summarize(class_rows(logits_NK, label_N, 'softmax'))['ece'] > 0.02


def test_each_class_by_hand_and_the_mean_over_classes():
  batch = {**rows(), 'label': np.where(np.arange(200) % 10 == 0, -1, rows()['label'])}
  batch['label'][batch['label'] == 4] = 5
  images_K, share_K = metrics.by_class(batch['label'], batch['rank'] < 1)
  for k in range(6):
    mine_N = batch['label'] == k
    assert images_K[k] == mine_N.sum()
    if k != 4:
      assert share_K[k] == np.mean(batch['rank'][mine_N] < 1)
  assert np.isnan(share_K[4])
  result = metrics.summarize(batch)
  np.testing.assert_allclose(result['class_top1'], np.nanmean(share_K))
  assert result['class_top1'] != result['top1']


def test_set_scores_by_hand():
  """Average precision is the mean, over the examples of a class, of the precision there."""
  rng = np.random.default_rng(0)
  right_NK = rng.random((60, 5)) < [0.5, 0.2, 0.1, 0.02, 0.0]
  probability_NK = (0.5 * right_NK + rng.random((60, 5))) / 1.5
  scores = metrics.set_scores(probability_NK, right_NK)
  for k in range(4):
    order = np.argsort(-probability_NK[:, k])
    hits = right_NK[order, k]
    precision = np.cumsum(hits) / np.arange(1, 61)
    np.testing.assert_allclose(scores.ap_K[k], precision[hits].mean())
    said = probability_NK[:, k] >= 0.5
    both = (said & right_NK[:, k]).sum()
    precision, recall = both / max(said.sum(), 1), both / right_NK[:, k].sum()
    expected = 2 * precision * recall / (precision + recall) if both else 0
    np.testing.assert_allclose(scores.f1_K[k], expected)
  assert np.isnan(scores.ap_K[4]) and np.isnan(scores.f1_K[4])
  found = scores.metrics
  np.testing.assert_allclose(found['map'], scores.ap_K[:4].mean())
  np.testing.assert_allclose(found['f1'], scores.f1_K[:4].mean())
  said_NK = probability_NK >= 0.5
  expected = 2 * (said_NK & right_NK).sum() / (said_NK.sum() + right_NK.sum())
  np.testing.assert_allclose(found['micro_f1'], expected)
  perfect = metrics.set_scores(right_NK * 0.8 + 0.1, right_NK).metrics
  assert perfect == {'map': 1, 'f1': 1, 'micro_f1': 1}
  diverged = metrics.set_scores(np.full((60, 5), np.nan), right_NK).metrics
  assert diverged['f1'] == diverged['micro_f1'] == 0 and diverged['map'] < 0.3


def test_many_classes_take_no_square_of_their_number():
  """A matrix of 21,843 x 21,843 took 3.5 GB."""
  rng, K, N = np.random.default_rng(0), 21_843, 40_000
  names = [f'n{k:08}' for k in range(K)]
  label_N, prediction_N = rng.integers(0, K, (2, N))
  confidence_N = rng.random(N).astype(np.float32)
  rank_N, loss_N = (label_N != prediction_N).astype(int), np.ones(N)
  nothing, of_none = np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0, int)
  found = Predictions(
    np.arange(N), label_N, prediction_N, confidence_N, tuple(names), nothing, of_none
  )
  tracemalloc.start()
  rows = {'label': label_N, 'rank': rank_N, 'confidence': confidence_N, 'loss': loss_N}
  assert metrics.summarize(rows)['top1'] < 0.01
  assert metrics.confusion_text(label_N, prediction_N, names).count('\n') == 20
  images_K, share_K = metrics.by_class(label_N, rank_N < 1)
  text = metrics.classes_text({'images': images_K, 'top1': share_K}, names)
  assert text.count('\n') == 20
  assert len(images._split('test', found)['worst_pairs']) == images.WORST_PAIRS
  assert tracemalloc.get_traced_memory()[1] < 100e6
  tracemalloc.stop()
