"""What `vit_jax transfer` judges on, and how: suites of tasks, and the evaluators of features."""

from __future__ import annotations

import csv
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_jax.errors import UserError, nearest
from vit_jax.transfer import fewshot, knn, paper, probe, vtab
from vit_jax.transfer.contestants import Contestant
from vit_jax.transfer.extract import Features, Subject, extract
from vit_jax.transfer.images import whole_view
from vit_jax.transfer.tasks import Opened, Part, Task

EMOJI_STYLES = 4
HEAD = 'head'  # a method that learns nothing

# Runs with what the package registries hold.
OFFLINE = (
  Task('earth_climate', 'earth_climate'),
  Task('fashion_mnist', 'fashion_mnist'),
  *(
    Task(f'emoji_styles, unseen style {style}', 'emoji_styles', held_out=('style', style))
    for style in range(EMOJI_STYLES)
  ),
  Task('noto_scripts', 'noto_scripts'),
  Task('mnist_10k', 'mnist_10k'),
  Task('digits', 'digits'),
)
SUITES: dict[str, tuple[Task, ...]] = {'offline': OFFLINE, 'paper': paper.TASKS, 'vtab': vtab.TASKS}


def tasks(suite: str | None, data: Sequence[str]) -> tuple[Task, ...]:
  """Those of a suite, or one for each data set named.

  Raises:
    UserError: neither or both are given, or there is no such suite.
  """
  if bool(suite) == bool(data):
    raise UserError(
      'transfer: name either a suite, as in --suite=offline, or data sets, as in --data cifar10'
    )
  if suite is None:
    return tuple(Task(name, name) for name in data)
  if suite not in SUITES:
    raise UserError(f'--suite: {suite!r} is not one; {nearest(suite, SUITES)}')
  return SUITES[suite]


class Row(NamedTuple):
  """One line of the table; `top1` and its spread in per cent."""

  model: str
  task: str
  method: str
  metric: str  # as in metrics.jsonl: 'linear', 'knn-20', '5-shot'
  setting: str
  top1: float
  spread: float
  spread_of: str  # 'seeds': their standard deviation; 'test': the standard error over examples
  train_examples: int
  test_examples: int
  seconds: float


def judge(
  contestant: Contestant,
  task: Task,
  opened: Opened,
  methods: Sequence[str],
  cache: Path,
  batch: int = 64,
) -> Iterator[Row]:
  """The rows of one task, as they are done: of each setting one for each exam.

  Args:
    opened: the data of the task.
    methods: of them those that judge features, and `HEAD`.
    cache: where features are kept.
    batch: images at a time on a device.

  Raises:
    UserError: an example cannot be read, or none has a label.
  """
  if HEAD in methods:
    yield from judge_head(contestant, task, opened, cache, batch)
  methods = [method for method in methods if method in METHODS]
  if not methods:
    return
  subject = contestant.subject(opened.train)
  if task.whole:
    subject = dataclasses.replace(
      subject, view=whole_view, fingerprint=f'{subject.fingerprint} whole'
    )
  train, *tests = (_features(subject, part, cache, batch) for part in (opened.train, *opened.exams))
  rights = [exam.right_NK for exam in opened.exams]
  began = time.perf_counter()  # of the judging alone: features are kept from run to run
  for method in methods:
    for verdict in verdicts(train, tests, method, rights):
      seconds, began = time.perf_counter() - began, time.perf_counter()
      for exam, test, top1s in zip(opened.exams, tests, verdict.top1s, strict=True):
        mean, count = float(np.mean(top1s)), len(test.labels_N)
        spread = (
          float(np.std(top1s)) if verdict.spread_of == 'seeds' else _standard_error(mean, count)
        )
        yield Row(
          subject.name,
          exam.name,
          method,
          verdict.metric,
          verdict.setting,
          100 * mean,
          100 * spread,
          verdict.spread_of,
          len(train.labels_N),
          count,
          round(seconds, 2),
        )


def judge_head(
  contestant: Contestant, task: Task, opened: Opened, cache: Path, batch: int = 64
) -> Iterator[Row]:
  """The rows of the classes that a model's own head gives; none where they are not the task's."""
  subject = contestant.head(task.classes) if task.classes else None
  if subject is None:
    return
  for exam in opened.exams:
    began = time.perf_counter()
    logits_NK, labels_N = _features(subject, exam, cache, batch)
    top1 = _top1(logits_NK.argmax(axis=1), labels_N, exam.right_NK)
    spread = _standard_error(top1, len(labels_N))
    yield Row(
      contestant.name,
      exam.name,
      HEAD,
      HEAD,
      'as it is',
      100 * top1,
      100 * spread,
      'test',
      0,
      len(labels_N),
      round(time.perf_counter() - began, 2),
    )


def _features(subject: Subject, part: Part, cache: Path, batch: int) -> Features:
  """Of the examples that count."""
  found = extract(subject, part.source, cache, batch)
  if part.keep_N is not None:
    found = _rows(found, part.keep_N)
  where = f'data set {part.source.name!r}, split {part.source.split!r},'
  return found if part.right_NK is not None else _labelled(found, where)


def _rows(features: Features, chosen_N: np.ndarray) -> Features:
  return Features(*(rows[chosen_N] for rows in features))


def _labelled(features: Features, where: str) -> Features:
  """Those with a label; one of -1 is 'none of these', which nothing can be right or wrong about."""
  labelled_N = features.labels_N >= 0
  if not labelled_N.any():
    raise UserError(
      f'{where} has no example with a label to learn from or be judged by; name one with labels'
    )
  return features if labelled_N.all() else _rows(features, labelled_N)


def _standard_error(top1: float, count: int) -> float:
  return (top1 * (1 - top1) / count) ** 0.5


class Verdict(NamedTuple):
  """What a method says of features; `top1s` of each test are fractions in [0, 1], one a seed."""

  metric: str  # its name in metrics.jsonl
  setting: str
  top1s: list[list[float]]
  spread_of: str  # as in Row


def verdicts(
  train: Features, tests: Sequence[Features], method: str, rights: Sequence[np.ndarray | None] = ()
) -> Iterator[Verdict]:
  """What a method learns from `train`, judged on each of `tests`; without examples of no label.

  Args:
    rights: for each test which classes are right, bool [N, K], or None where the labels are.

  Raises:
    UserError: no example of `train`, or of a test, has a label.
  """
  rights = rights or [None] * len(tests)
  train = _labelled(train, 'the training split')
  tests = [
    _labelled(test, 'the test split') if right is None else test
    for test, right in zip(tests, rights, strict=True)
  ]
  labels = [test.labels_N for test, right in zip(tests, rights, strict=True) if right is None]
  num_classes = 1 + max(int(labels_N.max()) for labels_N in (train.labels_N, *labels))
  ends = np.cumsum([len(test.labels_N) for test in tests])[:-1]
  together_ND = np.concatenate([test.features_ND for test in tests])
  for elected in METHODS[method](train, together_ND, num_classes):
    of_seeds = [np.split(classes_N, ends) for classes_N in elected.classes]
    top1s = [
      [_top1(of_tests[i], test.labels_N, right) for of_tests in of_seeds]
      for i, (test, right) in enumerate(zip(tests, rights, strict=True))
    ]
    yield Verdict(elected.metric, elected.setting, top1s, elected.spread_of)


def _top1(classes_N: np.ndarray, labels_N: np.ndarray, right_NK: np.ndarray | None) -> float:
  """The share of examples whose class is right."""
  if right_NK is None:
    return float(np.mean(classes_N == labels_N))
  return float(np.mean(right_NK[np.arange(len(classes_N)), classes_N]))


class Elected(NamedTuple):
  """The class that a method gives each test example, once for each seed."""

  metric: str
  setting: str
  classes: list[np.ndarray]
  spread_of: str


def _few_shot(train: Features, test_ND: np.ndarray, num_classes: int) -> Iterator[Elected]:
  for shots in fewshot.possible_shots(train.labels_N, num_classes):
    yield Elected(
      f'{shots}-shot',
      f'{shots} shots',
      [fewshot.predict(*train, test_ND, num_classes, shots, seed) for seed in fewshot.SEEDS],
      'seeds',
    )


def _neighbours(train: Features, test_ND: np.ndarray, num_classes: int) -> Iterator[Elected]:
  for k, classes_N in knn.predict(*train, test_ND, num_classes).items():
    yield Elected(f'knn-{k}', f'k {k}', [classes_N], 'test')


def _linear(train: Features, test_ND: np.ndarray, num_classes: int) -> Iterator[Elected]:
  classes_N, choice = probe.predict(*train, test_ND, num_classes)
  yield Elected('linear', f'penalty {choice.penalty:g}', [classes_N], 'test')


METHODS: dict[str, Callable[[Features, np.ndarray, int], Iterator[Elected]]] = {
  'few-shot': _few_shot,
  'knn': _neighbours,
  'linear': _linear,
}


def group_means(
  tasks: Sequence[Task], rows: Sequence[Row]
) -> list[tuple[str, str, str, int, float]]:
  """(model, group, metric, tasks, mean of top1 over them) of each group of tasks, and of them all.

  A metric that a task of the group lacks is left out.
  """
  groups = {
    name: [task.name for task in tasks if task.group == name]
    for name in dict.fromkeys(task.group for task in tasks)
    if name
  }
  if groups:
    groups['all'] = [task.name for task in tasks]
  means = []
  for model, metric in dict.fromkeys((row.model, row.metric) for row in rows):
    top1 = {row.task: row.top1 for row in rows if (row.model, row.metric) == (model, metric)}
    for group, names in groups.items():
      if all(name in top1 for name in names):
        means.append(
          (model, group, metric, len(names), float(np.mean([top1[name] for name in names])))
        )
  return means


def write(
  rows: Sequence[Row], csv_path: Path | None, json_path: Path | None, said: dict[str, Any]
) -> None:
  """The rows as CSV, and as JSON beside `said`: the model, its weights, versions.

  Raises:
    UserError: a file cannot be written.
  """
  try:
    if csv_path is not None:
      with csv_path.open('w', newline='') as file:
        csv.writer(file, lineterminator='\n').writerows([Row._fields, *rows])
    if json_path is not None:
      json_path.write_text(
        json.dumps(said | {'rows': [row._asdict() for row in rows]}, indent=2) + '\n'
      )
  except OSError as error:
    raise UserError(f'{error.filename} cannot be written ({error.strerror})') from None
