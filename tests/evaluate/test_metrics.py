"""Metrics against counting by hand; padding never counts."""

import jax.numpy as jnp
import numpy as np

from vit_jax import config
from vit_jax.evaluate import metrics


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
