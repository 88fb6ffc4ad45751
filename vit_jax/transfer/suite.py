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
from vit_jax.transfer import fewshot, knn, probe, vtab
from vit_jax.transfer.extract import Features, Subject, extract
from vit_jax.transfer.images import whole_view
from vit_jax.transfer.tasks import Task, open_task

EMOJI_STYLES = 4


# Runs with what the package registries hold.
OFFLINE = (
    Task('earth_climate', 'earth_climate'),
    Task('fashion_mnist', 'fashion_mnist'),
    *(Task(f'emoji_styles, unseen style {style}', 'emoji_styles', held_out=('style', style))
      for style in range(EMOJI_STYLES)),
    Task('noto_scripts', 'noto_scripts'),
    Task('mnist_10k', 'mnist_10k'),
    Task('digits', 'digits'),
)
SUITES: dict[str, tuple[Task, ...]] = {'offline': OFFLINE, 'vtab': vtab.TASKS}


def tasks(suite: str | None, data: Sequence[str]) -> tuple[Task, ...]:
  """Those of a suite, or one for each data set named.

  Raises:
    UserError: neither or both are given, or there is no such suite.
  """
  if bool(suite) == bool(data):
    raise UserError('transfer: name either a suite, as in --suite=offline, or data sets, as in '
                    '--data cifar10')
  if suite is None:
    return tuple(Task(name, name) for name in data)
  if suite not in SUITES:
    raise UserError(f'--suite: {suite!r} is not one; {nearest(suite, SUITES)}')
  return SUITES[suite]


class Row(NamedTuple):
  """One line of the table; `top1` and its spread in per cent."""

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


def judge(subject: Subject, task: Task, methods: Sequence[str], data_dir: Path,
          batch: int = 64) -> Iterator[Row]:
  """The rows of one task, as they are done.

  Raises:
    UserError: the data cannot be read, or there is no such method.
  """
  if task.whole:
    subject = dataclasses.replace(subject, view=whole_view,
                                  fingerprint=f'{subject.fingerprint} whole')
  train, test = (extract(subject, source, data_dir / 'features', batch)
                 for source in open_task(task, data_dir))
  began = time.perf_counter()  # of the judging alone: features are kept from run to run
  for method in methods:
    for verdict in verdicts(train, test, method):
      seconds, began = time.perf_counter() - began, time.perf_counter()
      mean = verdict.top1
      spread = (float(np.std(verdict.top1s)) if verdict.spread_of == 'seeds'
                else (mean * (1 - mean) / len(test.labels_N)) ** 0.5)
      yield Row(task.name, method, verdict.metric, verdict.setting, 100 * mean, 100 * spread,
                verdict.spread_of, len(train.labels_N), len(test.labels_N), round(seconds, 2))


class Verdict(NamedTuple):
  """What a method says of features, as fractions in [0, 1]."""

  metric: str  # its name in metrics.jsonl
  setting: str
  top1s: list[float]
  spread_of: str  # as in Row

  @property
  def top1(self) -> float:
    return float(np.mean(self.top1s))


def verdicts(train: Features, test: Features, method: str) -> Iterator[Verdict]:
  num_classes = 1 + int(max(train.labels_N.max(), test.labels_N.max()))
  return METHODS[method](train, test, num_classes)


def _few_shot(train: Features, test: Features, num_classes: int) -> Iterator[Verdict]:
  for shots in fewshot.possible_shots(train.labels_N, num_classes):
    yield Verdict(f'{shots}-shot', f'{shots} shots',
                  [fewshot.top1(*train, *test, num_classes, shots, seed)
                   for seed in fewshot.SEEDS], 'seeds')


def _neighbours(train: Features, test: Features, num_classes: int) -> Iterator[Verdict]:
  for k, accuracy in knn.top1(*train, *test, num_classes).items():
    yield Verdict(f'knn-{k}', f'k {k}', [accuracy], 'test')


def _linear(train: Features, test: Features, num_classes: int) -> Iterator[Verdict]:
  accuracy, choice = probe.top1(*train, *test, num_classes)
  yield Verdict('linear', f'penalty {choice.penalty:g}', [accuracy], 'test')


METHODS: dict[str, Callable[[Features, Features, int], Iterator[Verdict]]] = {
    'few-shot': _few_shot, 'knn': _neighbours, 'linear': _linear}


def group_means(tasks: Sequence[Task], rows: Sequence[Row]) -> list[tuple[str, str, int, float]]:
  """(group, metric, tasks, mean of top1 over them) of each group of tasks, and of them all.

  A metric that a task of the group lacks is left out.
  """
  groups = {name: [task.name for task in tasks if task.group == name]
            for name in dict.fromkeys(task.group for task in tasks) if name}
  if groups:
    groups['all'] = [task.name for task in tasks]
  means = []
  for group, names in groups.items():
    for metric in dict.fromkeys(row.metric for row in rows):
      found = [row.top1 for row in rows if row.task in names and row.metric == metric]
      if len(found) == len(names):
        means.append((group, metric, len(names), float(np.mean(found))))
  return means


def write(rows: Sequence[Row], csv_path: Path | None, json_path: Path | None,
          said: dict[str, Any]) -> None:
  """The rows as CSV, and as JSON beside `said`: the model, its weights, versions.

  Raises:
    UserError: a file cannot be written.
  """
  try:
    if csv_path is not None:
      with csv_path.open('w', newline='') as file:
        csv.writer(file, lineterminator='\n').writerows([Row._fields, *rows])
    if json_path is not None:
      json_path.write_text(json.dumps(said | {'rows': [row._asdict() for row in rows]}, indent=2)
                           + '\n')
  except OSError as error:
    raise UserError(f'{error.filename} cannot be written ({error.strerror})') from None
