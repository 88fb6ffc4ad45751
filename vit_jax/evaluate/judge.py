"""The one code behind the loop's evaluations, `vit_jax evaluate` and `vit_jax transfer`."""

import functools
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vit_jax.data.sources import Source
from vit_jax.errors import UserError
from vit_jax.evaluate import fewshot, knn, linear, metrics
from vit_jax.evaluate.backbone import Backbone, Featured, Pulse
from vit_jax.evaluate.metrics import Rows
from vit_jax.evaluate.sets import EvalSet, Part, no_labels
from vit_jax.layouts import files

Features = tuple[np.ndarray, np.ndarray]  # (features_ND, labels_N)
SCORE_BYTES = 2**31  # of the probabilities of all classes on one split

log = logging.getLogger(__name__)


class FeatureStore:
  """Features of whole sources, each computed once: kept in memory, and in `folder` if given."""

  def __init__(self, backbone: Featured, pulse: Pulse, folder: Path | None = None):
    self.backbone, self._pulse, self._folder = backbone, pulse, folder
    self._kept: dict[int, tuple[Source, Features]] = {}  # by id of the source, which it holds

  def of(self, source: Source) -> Features:
    """
    Raises:
      UserError: an example cannot be read or decoded, or the folder cannot be written.
    """
    if id(source) not in self._kept:
      self._kept[id(source)] = source, self._stored(source)
    return self._kept[id(source)][1]

  def _stored(self, source: Source) -> Features:
    if self._folder is None:
      return self.backbone.features(source, self._pulse)
    path = self._folder / f'{split_key(self.backbone.fingerprint, source)}.npz'

    def make() -> dict[str, np.ndarray]:
      features_ND, labels_N = self.backbone.features(source, self._pulse)
      return {'features': features_ND, 'labels': labels_N}

    def fits(stored: Mapping[str, np.ndarray]) -> bool:
      features, labels = stored['features'], stored['labels']
      return features.ndim == 2 and labels.ndim == 1 and len(features) == len(labels)

    stored = files.kept(path, make, fits)
    return stored['features'], stored['labels']


def split_key(fingerprint: str, source: Source) -> str:
  """Names something together with a split, which is known by its name, size and content."""
  said = f'{fingerprint} {source.name} {source.split} {len(source)}'
  return hashlib.sha256(said.encode() + source.content()).hexdigest()[:32]


class Result(NamedTuple):
  """One figure; `top1s` are fractions, for each test one for each seed."""

  metric: str  # its name in metrics.jsonl: '10-shot', 'knn-20', 'linear'
  setting: str
  top1s: list[list[float]]
  spread_of: str  # 'seeds', or 'test' where there is one seed
  train_examples: int
  test_examples: list[int]


class Examples(NamedTuple):
  """Features of the examples of a part that count, and where in its source they are."""

  part: Part
  features_ND: np.ndarray
  labels_N: np.ndarray
  position_N: np.ndarray


def probe(evals: EvalSet, store: FeatureStore) -> Iterator[Result]:
  """What few_shot, knn or linear learns from the set's training part, judged on its tests.

  Raises:
    UserError: no example to learn from, or to be judged by, has a label.
  """
  assert evals.train is not None
  train = _examples(evals.train, store)
  tests = [_examples(part, store) for part in evals.tests]
  labels = [train.labels_N, *(test.labels_N for test in tests if test.part.right_NK is None)]
  num_classes = 1 + max(int(labels_N.max()) for labels_N in labels)
  counts = [len(test.labels_N) for test in tests]
  together_ND = np.concatenate([test.features_ND for test in tests])
  for metric, setting, by_seed in METHODS[evals.kind](train, together_ND, num_classes):
    parts = [np.split(classes_N, np.cumsum(counts)[:-1]) for classes_N in by_seed]
    top1s = [
      [metrics.top1(classes_N, test.labels_N, test.part.right_NK) for classes_N in of_test]
      for of_test, test in zip(zip(*parts, strict=True), tests, strict=True)
    ]
    spread_of = 'seeds' if len(by_seed) > 1 else 'test'
    yield Result(metric, setting, top1s, spread_of, len(train.labels_N), counts)


def _examples(part: Part, store: FeatureStore) -> Examples:
  """Without those of label -1, 'none of these', about which nothing can be right or wrong."""
  features_ND, labels_N = store.of(part.source)
  position_N = np.arange(len(labels_N)) if part.keep_N is None else part.keep_N
  if part.right_NK is None:
    position_N = position_N[labels_N[position_N] >= 0]
  if not len(position_N):
    raise no_labels(part.source)
  if len(position_N) == len(labels_N):
    return Examples(part, features_ND, labels_N, position_N)
  return Examples(part, features_ND[position_N], labels_N[position_N], position_N)


# (metric, setting, the class of each test example once for each seed)
Predictions = Iterator[tuple[str, str, list[np.ndarray]]]


def _few_shot(train: Examples, test_ND: np.ndarray, num_classes: int) -> Predictions:
  for shots in fewshot.possible_shots(train.labels_N, num_classes):
    classes = [
      fewshot.predict(train.features_ND, train.labels_N, test_ND, num_classes, shots, seed)
      for seed in fewshot.SEEDS
    ]
    yield f'{shots}-shot', f'{shots} shots', classes


def _knn(train: Examples, test_ND: np.ndarray, num_classes: int) -> Predictions:
  found = knn.predict(train.features_ND, train.labels_N, test_ND, num_classes)
  for k, classes_N in found.items():
    yield f'knn-{k}', f'k {k}', [classes_N]


def _linear(train: Examples, test_ND: np.ndarray, num_classes: int) -> Predictions:
  split = train.part.hold_out(train.position_N)
  classes_N, choice = linear.predict(train.features_ND, train.labels_N, test_ND, num_classes, split)
  yield 'linear', f'penalty {choice.penalty:g}', [classes_N]


METHODS: dict[str, Callable[[Examples, np.ndarray, int], Predictions]] = {
  'few_shot': _few_shot,
  'knn': _knn,
  'linear': _linear,
}


class Judged(NamedTuple):
  """What a line of the table found: its metrics, and of its own head the rows of the test."""

  metrics: dict[str, float]
  rows: Rows | None
  test: Part
  by_class: Mapping[str, np.ndarray] = {}  # column -> a number for each class

  @property
  def source(self) -> Source:
    return self.test.source

  def details(self) -> str:
    """As text: the worst classes; and the confusion matrix, if each example has one label."""
    if self.rows is None or not self.by_class:
      return ''
    parts = [metrics.classes_text(self.by_class, self.source.class_names)]
    if self.test.right_NK is None:
      label_N, prediction_N = self.rows['label'], self.rows['prediction']
      parts.append(metrics.confusion_text(label_N, prediction_N, self.source.class_names))
    return '\n\n'.join(parts)


def judge(
  sets: Mapping[str, EvalSet], backbone: Backbone, pulse: Pulse, names: Sequence[str] | None = None
) -> dict[str, Judged]:
  """Judges lines of the table, by default all, in the order of their names.

  Raises:
    UserError: a line has too few training examples of a class for any of its figures.
  """
  store = FeatureStore(backbone, pulse)

  def figures(evals: EvalSet) -> dict[str, float]:
    return {found.metric: float(np.mean(found.top1s[0])) for found in probe(evals, store)}

  judged = {}
  for name in sorted(sets if names is None else names):
    evals, rows, by_class = sets[name], None, {}
    test = evals.tests[0]
    if evals.kind in METHODS:
      assert evals.train is not None
      for part in (evals.train, test):  # by all processes together; then one of them learns
        store.of(part.source)
      found = pulse.share(functools.partial(figures, evals))
      if not found:
        raise UserError(
          f'config.evals.{name}: {test.source.name!r}, split {evals.train.source.split!r}, has '
          'too few examples of a class; give it a larger split'
        )
    else:
      every = test.right_NK is not None and _scored(test, backbone)
      rows = backbone.classify(test.source, pulse, every)
      found, by_class = ({}, {}) if evals.kind == 'predict' else classified(rows, test)
    judged[name] = Judged(found, rows, test, by_class)
  return judged


def classified(rows: Rows, test: Part) -> tuple[dict[str, float], dict[str, np.ndarray]]:
  """(the metrics of a model's own head, columns with a number for each class).

  Where several classes may be right: top1, and of the probabilities of all classes if they are
  there, how well each class is found among all examples, also those of none.
  """
  if test.right_NK is None:
    correct_N = rows['rank'] < 1
    images_K, top1_K = metrics.by_class(rows['label'], correct_N)
    return metrics.summarize(rows), {'images': images_K, 'top1': top1_K}
  kept_N = rows['prediction'][test.keep_N]
  found = {'top1': metrics.top1(kept_N, rows['label'][test.keep_N], test.right_NK)}
  if 'probability' not in rows:
    return found, {}
  right_NK = test.source.label_sets()
  assert right_NK is not None
  scores = metrics.set_scores(rows['probability'][:, : right_NK.shape[1]], right_NK[rows['index']])
  by_class = {'images': scores.images_K, 'f1': scores.f1_K, 'ap': scores.ap_K}
  return {**found, **scores.metrics}, by_class


def _scored(test: Part, backbone: Backbone) -> bool:
  """Whether the probability of every class of every example is kept."""
  if not backbone.forward.independent:
    return False
  size = 4 * len(test.source) * len(test.source.class_names)
  if size > SCORE_BYTES:
    log.warning(
      '%s: no average precision: the probabilities of all classes would take %.1f GB',
      test.name,
      size / 1e9,
    )
  return size <= SCORE_BYTES
