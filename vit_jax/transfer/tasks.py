"""A task: a data set to learn from and those to be judged on, with the labels that are meant."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_jax.config import Data
from vit_jax.data import decode, sources
from vit_jax.data.sources import MappedSource, Record, Source
from vit_jax.errors import UserError
from vit_jax.evaluate.sets import EvalSet, Part

Rule = Callable[[Any], np.ndarray]  # a source -> the label of each example, or bool [N, K]


@dataclass(frozen=True)
class OtherTest:
  """Another data set on which to judge what was learned for a task, by the task's classes.

  Attributes:
    data: as in config.data.name; '{data_dir}' in it stands for the data folder.
    label: as in config.data.
    right: which classes are right for each example, bool [N, K]; an example without any does not
      count.
    border: pixels to cut off on each side.
    origin: of a folder, where to get it and what to do with it.
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
  """A data set to learn from and one to be judged on, or several.

  Attributes:
    data: its name, as in config.data.name.
    recipe: what fine-tuning gives the recipe's `get_config`; '' is the name of the data set.
    validation: how many of the last training examples a penalty or a rate is chosen by; with 0
      a fifth of the groups that the data set declares.
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
  recipe: str = ''
  validation: int = 0
  held_out: tuple[str, int] | None = None
  group: str = ''
  image: str = ''
  label: str = ''
  rule: Rule | None = None
  whole: bool = False
  gain: int = 1
  others: tuple[OtherTest, ...] = ()
  classes: int = 0

  @property
  def as_published(self) -> bool:
    """Whether its examples are those that the data set's own splits name."""
    return not (self.rule or self.held_out or self.validation or self.gain != 1)


class TaskData(NamedTuple):
  """The data of a task."""

  train: Part
  tests: list[Part]

  def evals(self, kind: str) -> EvalSet:
    return EvalSet(kind, self.tests, self.train)


def open_task(task: Task, data_dir: Path) -> TaskData:
  """The data of a task, of which nothing but what its labels need is read.

  Raises:
    UserError: a data set is not there or cannot be read, or has no such feature.
  """
  data = Data(name=task.data, image=task.image, label=task.label)
  train, test = (
    _mapped(sources.open_source(data, split, data_dir, labeled=task.rule is None), task)
    for split in (task.train, task.test)
  )
  keep = [None, None]
  if task.held_out is not None:
    keep = [
      _where(source, *task.held_out, wanted) for source, wanted in ((train, False), (test, True))
    ]
  held_N = None
  if task.validation:
    held_N = np.arange(len(train))[-task.validation :]
  tests = [Part(task.name, test, keep[1]), *(_other(other, data_dir) for other in task.others)]
  return TaskData(Part(task.name, train, keep[0], held_N=held_N), tests)


def _mapped(source: Any, task: Task) -> Source:
  if task.rule is None and task.gain == 1:
    return source
  gain = np.uint8(task.gain)

  def pixels(record: Record) -> Record:
    return decode.decode(record, 3) * gain

  return MappedSource(
    source,
    task.name,
    labels=task.rule and task.rule(source),
    pixels=pixels if task.gain != 1 else None,
  )


def _where(source: Source, column: str, value: int, wanted: bool) -> np.ndarray:
  values_N = source.column(column)
  if values_N is None:
    raise UserError(f'data set {source.name!r} has no feature {column!r} to hold out')
  return np.flatnonzero((values_N == value) == wanted)


def _other(test: OtherTest, data_dir: Path) -> Part:
  name = test.data.format(data_dir=data_dir)
  if test.origin and not Path(name.partition(':')[2]).is_dir():
    raise UserError(f'{test.name} is not in {name.partition(":")[2]}: {test.origin}')
  source: Any = sources.open_source(Data(name=name, label=test.label), test.split, data_dir)
  right_NK = source.label_sets() if test.right is None else test.right(source)
  if test.border:
    cut = slice(test.border, -test.border)

    def pixels(record: Record) -> Record:
      return decode.decode(record, 3)[cut, cut]

    source = MappedSource(source, f'without {test.border} pixels of its border', pixels=pixels)
  if right_NK is None:
    return Part(test.name, source)
  keep_N = np.flatnonzero(right_NK.any(axis=1))
  return Part(test.name, source, keep_N, right_NK[keep_N])
