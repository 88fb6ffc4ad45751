"""The one code behind the loop's evaluations, `vit_jax evaluate` and `vit_jax transfer`."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vit_jax.data.sources import Source
from vit_jax.errors import UserError
from vit_jax.evaluate import fewshot, knn, linear, metrics
from vit_jax.evaluate.backbone import Backbone, Featured, Pulse
from vit_jax.evaluate.metrics import Rows
from vit_jax.evaluate.sets import EvalSet, Part
from vit_jax.layouts import files

Features = tuple[np.ndarray, np.ndarray]  # (features_ND, labels_N)


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
    if path.is_file():
      stored = files.read(path)
      return stored['features'], stored['labels']
    features_ND, labels_N = self.backbone.features(source, self._pulse)
    self._folder.mkdir(parents=True, exist_ok=True)
    files.write(path, {'features': features_ND, 'labels': labels_N})
    return features_ND, labels_N


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


class Prediction(NamedTuple):
  """The class that a method gives each test example, once for each seed."""

  metric: str
  setting: str
  classes: list[np.ndarray]
  spread_of: str


class Examples(NamedTuple):
  """Features of the examples of a part that count, and where in its source they are."""

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
  rights = [part.right_NK for part in evals.tests]
  labels = [train.labels_N] + [
    test.labels_N for test, right in zip(tests, rights, strict=True) if right is None
  ]
  num_classes = 1 + max(int(labels_N.max()) for labels_N in labels)
  counts = [len(test.labels_N) for test in tests]
  ends = np.cumsum(counts)[:-1]
  together_ND = np.concatenate([test.features_ND for test in tests])
  for found in METHODS[evals.kind](train, evals.train, together_ND, num_classes):
    by_seed = [np.split(classes_N, ends) for classes_N in found.classes]
    top1s = [
      [metrics.top1(classes[i], test.labels_N, right) for classes in by_seed]
      for i, (test, right) in enumerate(zip(tests, rights, strict=True))
    ]
    yield Result(found.metric, found.setting, top1s, found.spread_of, len(train.labels_N), counts)


def _examples(part: Part, store: FeatureStore) -> Examples:
  """Without those of label -1, 'none of these', about which nothing can be right or wrong."""
  features_ND, labels_N = store.of(part.source)
  position_N = np.arange(len(labels_N)) if part.keep_N is None else part.keep_N
  if part.right_NK is None:
    position_N = position_N[labels_N[position_N] >= 0]
  if not len(position_N):
    raise UserError(
      f'data set {part.source.name!r}, split {part.source.split!r} has no example with a label; '
      'name one with labels'
    )
  if len(position_N) == len(labels_N):
    return Examples(features_ND, labels_N, position_N)
  return Examples(features_ND[position_N], labels_N[position_N], position_N)


def _few_shot(
  train: Examples, part: Part, test_ND: np.ndarray, num_classes: int
) -> Iterator[Prediction]:
  for shots in fewshot.possible_shots(train.labels_N, num_classes):
    classes = [
      fewshot.predict(train.features_ND, train.labels_N, test_ND, num_classes, shots, seed)
      for seed in fewshot.SEEDS
    ]
    yield Prediction(f'{shots}-shot', f'{shots} shots', classes, 'seeds')


def _knn(
  train: Examples, part: Part, test_ND: np.ndarray, num_classes: int
) -> Iterator[Prediction]:
  found = knn.predict(train.features_ND, train.labels_N, test_ND, num_classes)
  for k, classes_N in found.items():
    yield Prediction(f'knn-{k}', f'k {k}', [classes_N], 'test')


def _linear(
  train: Examples, part: Part, test_ND: np.ndarray, num_classes: int
) -> Iterator[Prediction]:
  classes_N, choice = linear.predict(
    train.features_ND,
    train.labels_N,
    test_ND,
    num_classes,
    part.hold_out(train.position_N),
  )
  yield Prediction('linear', f'penalty {choice.penalty:g}', [classes_N], 'test')


METHODS: dict[str, Callable[[Examples, Part, np.ndarray, int], Iterator[Prediction]]] = {
  'few_shot': _few_shot,
  'knn': _knn,
  'linear': _linear,
}


class Judged(NamedTuple):
  """What a line of the table found: its metrics, and of its own head the rows of the test."""

  metrics: dict[str, float]
  rows: Rows | None
  test: Part


def judge(
  sets: Mapping[str, EvalSet], backbone: Backbone, pulse: Pulse, names: Sequence[str] | None = None
) -> dict[str, Judged]:
  """Judges lines of the table, by default all, in the order of their names.

  Raises:
    UserError: a line has too few training examples of a class for any of its figures.
  """
  store = FeatureStore(backbone, pulse)
  judged = {}
  for name in sorted(sets if names is None else names):
    evals = sets[name]
    test = evals.tests[0]
    if evals.kind in METHODS:

      def figures(evals: EvalSet = evals) -> dict[str, float]:
        return {found.metric: float(np.mean(found.top1s[0])) for found in probe(evals, store)}

      for part in (evals.train, test):  # by all processes together; then one of them learns
        store.of(part.source)  # type: ignore[union-attr]
      found, rows = pulse.share(figures), None
      if not found:
        raise UserError(
          f'config.evals.{name}: {test.source.name!r}, split '
          f'{evals.train.source.split!r}, has too few examples of a class; give it a larger split'  # type: ignore[union-attr]
        )
    else:
      rows = backbone.classify(test.source, pulse)
      found = {} if evals.kind == 'predict' else classified(rows, test)
    judged[name] = Judged(found, rows, test)
  return judged


def classified(rows: Rows, test: Part) -> dict[str, float]:
  """The metrics of a model's own head; top1 alone where several classes may be right."""
  if test.right_NK is None:
    return metrics.summarize(rows)
  kept_N = rows['prediction'][test.keep_N]
  return {'top1': metrics.top1(kept_N, rows['label'][test.keep_N], test.right_NK)}
