"""What `vit_jax transfer` judges on: suites of tasks; and the rows of its table."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vit_jax.errors import UserError, nearest
from vit_jax.evaluate import judge
from vit_jax.evaluate.backbone import Backbone, Pulse
from vit_jax.evaluate.judge import FeatureStore, Result
from vit_jax.evaluate.sets import EvalSet, Part
from vit_jax.transfer import paper, vtab
from vit_jax.transfer.candidates import Candidate
from vit_jax.transfer.tasks import Task, TaskData

# 'classify' judges the model's own head; 'fine_tune' is in finetune.py.
METHODS = ('few_shot', 'knn', 'linear', 'classify', 'fine_tune')

# Runs with what the package registries hold.
OFFLINE = (
  Task('earth_climate', 'earth_climate'),
  Task('fashion_mnist', 'fashion_mnist'),
  *(
    Task(f'emoji_styles, unseen style {style}', 'emoji_styles', held_out=('style', style))
    for style in range(4)
  ),
  Task('noto_scripts', 'noto_scripts'),
  Task('mnist_10k', 'mnist_10k'),
  Task('digits', 'digits'),
)
SUITES = {'offline': OFFLINE, 'paper': paper.TASKS, 'vtab': vtab.TASKS}


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


class TransferRow(NamedTuple):
  """One line of the table; `top1` and its spread in percent."""

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


def rows_of(
  model: str, method: str, tests: Sequence[Part], found: Result, seconds: float
) -> Iterator[TransferRow]:
  """A row for each test of a result."""
  for test, top1s, count in zip(tests, found.top1s, found.test_examples, strict=True):
    mean, spread = float(np.mean(top1s)), float(np.std(top1s))
    if found.spread_of == 'test':
      spread = (mean * (1 - mean) / count) ** 0.5
    yield TransferRow(
      model=model,
      task=test.name,
      method=method,
      metric=found.metric,
      setting=found.setting,
      top1=100 * mean,
      spread=100 * spread,
      spread_of=found.spread_of,
      train_examples=found.train_examples,
      test_examples=count,
      seconds=round(seconds, 2),
    )


def judge_task(
  candidate: Candidate,
  task: Task,
  data: TaskData,
  methods: Sequence[str],
  folder: Path,
  pulse: Pulse,
) -> Iterator[TransferRow]:
  """The rows of one task as they are done: for each figure one per test.

  Features are kept in `folder`.

  Raises:
    UserError: an example cannot be read, or none has a label.
  """
  backbone = candidate.classifier(task.whole) if 'classify' in methods else None
  if backbone and task.classes and backbone.model.num_classes == task.classes:
    for test in data.tests:
      began = time.perf_counter()
      top1, count = judge_head(backbone, test, pulse)
      found = Result('top1', 'its own head', [[top1]], 'test', 0, [count])
      yield from rows_of(candidate.name, 'classify', [test], found, time.perf_counter() - began)
  kinds = [method for method in methods if method in judge.METHODS]
  if not kinds:
    return
  store = FeatureStore(candidate.featured(data.train, task.whole), pulse, folder)
  for part in (data.train, *data.tests):
    store.of(part.source)
  began = time.perf_counter()  # of the judging alone: features are kept from run to run
  for kind in kinds:
    for found in judge.probe(EvalSet(kind, data.tests, data.train), store):
      seconds, began = time.perf_counter() - began, time.perf_counter()
      yield from rows_of(candidate.name, kind, data.tests, found, seconds)


def judge_head(backbone: Backbone, test: Part, pulse: Pulse) -> tuple[float, int]:
  """The accuracy of a model's own head, and the number of examples that count."""
  rows = backbone.classify(test.source, pulse)
  count = len(rows['label']) if test.keep_N is None else len(test.keep_N)
  return judge.classified(rows, test)[0]['top1'], count


class GroupMean(NamedTuple):
  """The mean of a metric over the tasks of a group, in percent."""

  model: str
  group: str
  metric: str
  tasks: int
  top1: float


def group_means(tasks: Sequence[Task], rows: Sequence[TransferRow]) -> list[GroupMean]:
  """The mean of each group of tasks, and of them all; without metrics that a task lacks."""
  groups: dict[str, list[str]] = {}
  for task in tasks:
    if task.group:
      groups.setdefault(task.group, []).append(task.name)
  if groups:
    groups['all'] = [task.name for task in tasks]
  means = []
  for model, metric in dict.fromkeys((row.model, row.metric) for row in rows):
    top1 = {row.task: row.top1 for row in rows if (row.model, row.metric) == (model, metric)}
    for group, names in groups.items():
      if all(name in top1 for name in names):
        mean = float(np.mean([top1[name] for name in names]))
        means.append(GroupMean(model, group, metric, len(names), mean))
  return means
