"""A task: a data set to learn from and those to be judged on, with the labels that are meant."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_jax.config import ImageData
from vit_jax.data import decode, sources
from vit_jax.data.sources import MappedSource, Record, Source
from vit_jax.errors import UserError
from vit_jax.evaluate.sets import Part

Rule = Callable[[Any], np.ndarray]  # a source -> the label of each example, or bool [N, K]


@dataclass(frozen=True)
class OtherTest:
  """Another data set on which to judge what was learned for a task, by the task's classes."""

  name: str
  data: str  # as in config.data.name; '{data_dir}' in it stands for the data folder
  split: str
  label: str = ''  # as in config.data
  right: Rule | None = None  # the right classes, bool [N, K]; an example without any does not count
  border: int = 0  # pixels to cut off on each side
  origin: str = ''  # of a folder: where to get it and what to do with it


@dataclass(frozen=True)
class Task:
  """A data set to learn from and one to be judged on, or several."""

  name: str
  data: str  # as in config.data.name
  train: str = 'train'
  test: str = 'test'
  recipe: str = ''  # what fine-tuning gives the recipe's `get_config`; '': the name of the data set
  # How many of the last training examples a penalty or a rate is chosen by; 0: a fifth of the
  # groups that the data set declares.
  validation: int = 0
  held_out: tuple[str, int] | None = None  # (column, value) of examples for the test alone
  group: str = ''  # of tasks whose results are averaged
  image: str = ''  # as in config.data, like `label`
  label: str = ''
  rule: Rule | None = None  # makes labels that no feature has
  whole: bool = False  # images are resized whole, in place of the model's own crop
  gain: int = 1  # factor of all pixels
  others: tuple[OtherTest, ...] = ()  # to be judged on as well
  classes: int = 0  # of a head that knows the task's classes in their order; 0: there is none

  @property
  def as_published(self) -> bool:
    """Whether its examples are those that the data set's own splits name."""
    return not (self.rule or self.held_out or self.validation or self.gain != 1)


class TaskData(NamedTuple):
  train: Part
  tests: list[Part]


def open_task(task: Task, data_dir: Path) -> TaskData:
  """The data of a task, of which nothing but what its labels need is read.

  Raises:
    UserError: a data set is not there or cannot be read, or has no such feature.
  """
  train, test = (_part(task, split, data_dir) for split in (task.train, task.test))
  if task.held_out is not None:
    train = train._replace(keep_N=np.flatnonzero(~_held_out(train.source, *task.held_out)))
    test = test._replace(keep_N=np.flatnonzero(_held_out(test.source, *task.held_out)))
  if task.validation:
    train = train._replace(held_N=np.arange(len(train.source))[-task.validation :])
  return TaskData(train, [test, *(_other(other, data_dir) for other in task.others)])


def _part(task: Task, split: str, data_dir: Path) -> Part:
  data = ImageData(name=task.data, image=task.image, label=task.label)
  source: Any = sources.open_source(data, split, data_dir, labeled=task.rule is None)

  def brighter(record: Record) -> Record:
    return decode.decode(record, 3) * np.uint8(task.gain)

  if task.rule or task.gain != 1:
    labels = task.rule and task.rule(source)
    pixels = brighter if task.gain != 1 else None
    source = MappedSource(source, task.name, labels=labels, pixels=pixels)
  return Part(task.name, source)


def _held_out(source: Source, column: str, value: int) -> np.ndarray:
  values_N = source.column(column)
  if values_N is None:
    raise UserError(f'data set {source.name!r} has no feature {column!r} to hold out')
  return values_N == value


def _other(test: OtherTest, data_dir: Path) -> Part:
  name = test.data.format(data_dir=data_dir)
  if test.origin and not Path(name.partition(':')[2]).is_dir():
    raise UserError(f'{test.name} is not in {name.partition(":")[2]}: {test.origin}')
  source: Any = sources.open_source(ImageData(name=name, label=test.label), test.split, data_dir)
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
