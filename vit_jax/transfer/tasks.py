"""A task: a data set to learn on and those to be judged on, with the labels that are meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_jax.config import Data
from vit_jax.data import decode, sources
from vit_jax.data.sources import Source, Subset
from vit_jax.errors import UserError

Rule = Callable[[Any], np.ndarray]  # a prepared source -> the label of each example


@dataclass(frozen=True)
class Exam:
  """Another data set on which to judge what was learnt for a task, by the task's classes.

  Attributes:
    data: as in config.data.name; '{data_dir}' in it stands for the data folder.
    label: as in config.data.
    right: which classes are right for each example, bool [N, K], where that is not its label
      alone; an example without any does not count.
    border: pixels to cut off on each side.
    origin: where to get it and what to do with it, of a folder.
  """

  name: str
  data: str
  split: str
  label: str = ''
  right: Rule | None = None
  border: int = 0
  origin: str = ''


@dataclass(frozen=True)
class Task:
  """A data set to learn on and one to be judged on, or several.

  Attributes:
    data: its name, as in config.data.name.
    held_out: (column, value): train without the examples that have it, and test on those alone.
    group: of tasks whose results are averaged.
    image, label: as in config.data.
    rule: labels that no feature has as they are.
    whole: images are resized whole, in place of the model's own crop.
    gain: what pixels are multiplied by.
    others: to be judged on as well.
    classes: of a head that knows the task's classes in their order; 0 where there is none.
  """

  name: str
  data: str
  train: str = 'train'
  test: str = 'test'
  held_out: tuple[str, int] | None = None
  group: str = ''
  image: str = ''
  label: str = ''
  rule: Rule | None = None
  whole: bool = False
  gain: int = 1
  others: tuple[Exam, ...] = ()
  classes: int = 0


class Part(NamedTuple):
  """What a task learns from, or is judged on.

  Attributes:
    keep_N: positions of the examples that count, None for all: features of the whole source serve
      other tasks too.
    right_NK: as `Exam.right`; None where an example's label is.
  """

  name: str
  source: Source
  keep_N: np.ndarray | None = None
  right_NK: np.ndarray | None = None


class Opened(NamedTuple):
  """The data of a task."""

  train: Part
  exams: list[Part]


class Altered:
  """A source with other labels, its pixels multiplied or its border cut off; a source itself."""

  def __init__(
    self,
    source: Any,
    words: str,
    labels_N: np.ndarray | None = None,
    gain: int = 1,
    border: int = 0,
  ):
    self._source, self._labels_N, self._gain, self._border = source, labels_N, gain, border
    self.name, self.split = source.name, f'{source.split} {words}'
    self.metadata: dict[str, Any] = source.metadata
    self.class_names: tuple[str, ...] = source.class_names
    if labels_N is not None:
      self.class_names = tuple(map(str, range(int(labels_N.max()) + 1)))

  def __len__(self) -> int:
    return len(self._source)

  def read(self, indices: Sequence[int]) -> list[tuple[bytes | np.ndarray, int]]:
    found = []
    for index, (record, label) in zip(indices, self._source.read(indices), strict=True):
      if self._gain != 1 or self._border:
        cut = slice(self._border, -self._border or None)
        record = decode.decode(record, 3)[cut, cut] * np.uint8(self._gain)
      found.append((record, label if self._labels_N is None else int(self._labels_N[index])))
    return found

  def column(self, name: str) -> np.ndarray | None:
    return self._source.column(name)

  def where(self, index: int) -> str:
    return self._source.where(index)

  def content(self) -> bytes:
    labels = b'' if self._labels_N is None else np.asarray(self._labels_N, np.int64).tobytes()
    return self._source.content() + labels + f' {self._gain} {self._border}'.encode()


def open_task(task: Task, data_dir: Path) -> Opened:
  """The data of a task, of which nothing but what its labels need is read.

  Raises:
    UserError: a data set is not there or cannot be read, or has no such feature.
  """
  data = Data(name=task.data, image=task.image, label=task.label)
  train, test = (
    sources.open_source(data, split, data_dir, labelled=task.rule is None)
    for split in (task.train, task.test)
  )
  if task.rule is not None or task.gain != 1:
    train, test = (
      Altered(source, task.name, task.rule and task.rule(source), task.gain)
      for source in (train, test)
    )
  keep = [None, None]
  if task.held_out is not None:
    keep = [
      _where(source, *task.held_out, wanted) for source, wanted in ((train, False), (test, True))
    ]
  exams = [Part(task.name, test, keep[1]), *(_open_exam(exam, data_dir) for exam in task.others)]
  return Opened(Part(task.name, train, keep[0]), exams)


def _where(source: Source, column: str, value: int, wanted: bool) -> np.ndarray:
  values_N = source.column(column)
  if values_N is None:
    raise UserError(f'data set {source.name!r} has no feature {column!r} to hold out')
  return np.flatnonzero((values_N == value) == wanted)


def _open_exam(exam: Exam, data_dir: Path) -> Part:
  name = exam.data.format(data_dir=data_dir)
  if exam.origin and not Path(name.partition(':')[2]).is_dir():
    raise UserError(f'{exam.name} is not in {name.partition(":")[2]}: {exam.origin}')
  source: Any = sources.open_source(Data(name=name, label=exam.label), exam.split, data_dir)
  right_NK = None
  if exam.right is not None:
    right_NK = exam.right(source)
    counts_N = np.flatnonzero(right_NK.any(axis=1))
    source, right_NK = Subset(source, counts_N, f'with classes of {exam.name}'), right_NK[counts_N]
  if exam.border:
    source = Altered(source, f'without {exam.border} pixels at its border', border=exam.border)
  return Part(exam.name, source, right_NK=right_NK)
