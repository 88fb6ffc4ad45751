"""Few-shot, kNN and linear probe beside independent solutions of the same protocols."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from vit_jax.data import held_out
from vit_jax.errors import UserError
from vit_jax.evaluate import fewshot, knn, linear

CLASSES = 5


def blobs(count: int, width: int, seed: int, classes: int = CLASSES):
  """Features of `classes` overlapping clouds, with one feature that says nothing."""
  centers_KD = np.random.default_rng(99).normal(0, 1, (classes, width))
  rng = np.random.default_rng(seed)
  labels_N = np.concatenate(
    [np.arange(classes).repeat(30), rng.integers(0, classes, count - 30 * classes)]
  ).astype(np.int32)
  features_ND = centers_KD[labels_N] + rng.normal(0, 0.8 * width**0.5, (count, width))
  features_ND[:, -1] = 3.0
  return features_ND.astype(np.float32), labels_N


@pytest.fixture(scope='module', params=[12, 150], ids=['narrow', 'wide'])
def data(request):
  """Features narrower and wider than examples are many: the primal and the dual system."""
  return *blobs(400, request.param, 0), *blobs(303, request.param, 1)


@pytest.mark.parametrize('shots', [1, 5, 10, 25])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_few_shot_equals_an_independent_float64_solution(data, shots, seed):
  """Least squares of the system with sqrt(l2) below it, where ours solves normal equations."""
  train_ND, train_labels_N, test_ND, test_labels_N = data
  rng = np.random.default_rng(seed)
  chosen = [
    i for k in range(CLASSES) for i in rng.permutation(np.where(train_labels_N == k)[0])[:shots]
  ]
  x_ND, y_N = train_ND[chosen].astype(np.float64), train_labels_N[chosen]
  mean, std = np.mean(x_ND, 0), np.std(x_ND, 0) + 1e-5

  def design(features_ND):
    return np.pad((features_ND - mean) / std, ((0, 0), (0, 1)), constant_values=100)

  width = x_ND.shape[1] + 1
  below = np.sqrt(2.0**10) * np.eye(width)
  targets = 2.0 * np.eye(CLASSES)[y_N] - 1
  solution, *_ = np.linalg.lstsq(
    np.concatenate([design(x_ND), below]),
    np.concatenate([targets, np.zeros((width, CLASSES))]),
    rcond=None,
  )
  expected = np.mean((design(test_ND) @ solution).argmax(1) == test_labels_N)
  classes_N = fewshot.predict(train_ND, train_labels_N, test_ND, CLASSES, shots, seed)
  ours = np.mean(classes_N == test_labels_N)
  assert ours == expected
  assert 1 / CLASSES < ours < 1  # else the test would show nothing


def test_few_shot_draws_by_seed_and_wants_examples_enough():
  labels_N = np.arange(40) % 4
  picks = [fewshot.pick(labels_N, 4, 5, seed) for seed in (0, 0, 1)]
  np.testing.assert_array_equal(picks[0], picks[1])
  assert set(picks[0]) != set(picks[2])
  assert (np.bincount(labels_N[picks[0]]) == 5).all()
  np.testing.assert_array_equal(
    fewshot.pick(labels_N, 4, 2, 0).reshape(4, 2), picks[0].reshape(4, 5)[:, :2]
  )  # fewer shots are the first of more
  assert fewshot.possible_shots(labels_N, 4) == [1, 5, 10]
  assert fewshot.possible_shots(labels_N, 5) == []
  with pytest.raises(UserError, match='class 0 has 10'):
    fewshot.pick(labels_N, 4, 25, 0)


def test_neighbors_elect_as_in_scikit_learn(data):
  train_ND, train_labels_N, test_ND, test_labels_N = data
  classes = knn.predict(train_ND, train_labels_N, test_ND, CLASSES)
  ours = {k: np.mean(classes_N == test_labels_N) for k, classes_N in classes.items()}
  assert list(ours) == [10, 20, 100, 200]
  for k, accuracy in ours.items():
    classifier = KNeighborsClassifier(
      k, metric='cosine', algorithm='brute', weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    classifier.fit(train_ND.astype(np.float64), train_labels_N)
    assert accuracy == classifier.score(test_ND.astype(np.float64), test_labels_N)
  assert len(set(ours.values())) > 1  # k matters here


def test_neighbors_of_few_examples_and_of_a_zero_row():
  train_ND, labels_N = np.eye(12, 4, dtype=np.float32), np.arange(12) % 3
  assert list(knn.predict(train_ND, labels_N, train_ND[:5], 3)) == [10]
  assert knn.predict(train_ND[:6], labels_N[:6], train_ND[:5], 3) == {}


def test_probe_is_the_logistic_regression_of_scikit_learn(data):
  train_ND, train_labels_N, test_ND, test_labels_N = data
  penalty = 1e-2
  ours = linear.fit(train_ND, train_labels_N, CLASSES, penalty)
  scaler = StandardScaler().fit(train_ND.astype(np.float64))
  reference = LogisticRegression(C=1 / (penalty * len(train_ND)), tol=1e-8, max_iter=5000)
  reference.fit(scaler.transform(train_ND), train_labels_N)
  np.testing.assert_allclose(ours.weights_KD, reference.coef_, atol=2e-3)
  score = reference.score(scaler.transform(test_ND), test_labels_N)
  assert abs(ours.top1(test_ND, test_labels_N) - score) <= 1e-3
  assert np.isfinite(ours.weights_KD).all() and (ours.weights_KD[:, -1] == 0).all()


def test_probe_chooses_its_penalty_on_held_out_training_examples():
  """Of the training examples alone, and where there are few of them it matters."""
  train_ND, train_labels_N = blobs(200, 40, 0)
  test_ND, test_labels_N = blobs(200, 40, 1)
  classes_N, choice = linear.predict(train_ND, train_labels_N, test_ND, CLASSES, _split(200))
  scores = {
    penalty: _held_out_score(train_ND, train_labels_N, penalty)
    for penalty in (choice.penalty, 1e-6)
  }
  assert choice.validation_top1 == pytest.approx(scores[choice.penalty], abs=0.03)
  assert scores[choice.penalty] > scores[1e-6]
  of_all = linear.fit(train_ND, train_labels_N, CLASSES, choice.penalty)
  np.testing.assert_array_equal(classes_N, of_all.predict(test_ND))
  assert np.mean(classes_N == test_labels_N) > 2 / CLASSES


def test_probe_tries_no_weaker_penalty_once_two_in_a_row_did_worse(monkeypatch):
  """And of all penalties it would have chosen the same."""
  features_ND, labels_N = blobs(200, 40, 0)
  scores = {
    penalty: _held_out_score(features_ND, labels_N, penalty) for penalty in linear.PENALTIES
  }
  tried, solve = [], linear._solve
  monkeypatch.setattr(linear, '_solve', lambda *given: tried.append(given[3]) or solve(*given))
  best = linear.choose(features_ND, labels_N, CLASSES, _split(200))
  assert tried == sorted(linear.PENALTIES, reverse=True)[: len(tried)]
  assert len(tried) < len(linear.PENALTIES) and tried[-1] < best.penalty / 50
  assert scores[best.penalty] == pytest.approx(max(scores.values()), abs=0.03)


def _split(count):
  """A random fifth of the examples, and the others."""
  return held_out.split(np.arange(count)[:, None])


def _held_out_score(features_ND, labels_N, penalty):
  held, kept = _split(len(labels_N))
  fitted = linear.fit(features_ND[kept], labels_N[kept], CLASSES, penalty)
  return fitted.top1(features_ND[held], labels_N[held])


def test_probe_begins_where_it_is_told_to():
  features_ND, labels_N = blobs(400, 12, 0)  # of a shape that is compiled already
  _, _, x_ND = linear._standardize(features_ND)
  cold = linear._solve(linear._zeros(CLASSES, x_ND), x_ND, labels_N, 1e-2, linear.TOLERANCE)
  warm = linear._solve(cold, x_ND, labels_N, 1e-2, linear.TOLERANCE)
  np.testing.assert_allclose(warm['weights_KD'], cold['weights_KD'], atol=1e-4)
