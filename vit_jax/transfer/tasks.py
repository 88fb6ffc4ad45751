"""A task: a data set to learn on and one to be judged on, with the labels that are meant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.config import Data
from vit_jax.data import decode, sources
from vit_jax.data.sources import Source, Subset
from vit_jax.errors import UserError

Rule = Callable[[Any], np.ndarray]  # a prepared source -> the label of each example


@dataclass(frozen=True)
class Task:
  """A data set to learn on and one to be judged on.

  Attributes:
    data: its name, as in config.data.name.
    held_out: (column, value): train without the examples that have it, and test on those alone.
    group: of tasks whose results are averaged.
    image, label: as in config.data.
    rule: labels that no feature has as they are.
    whole: images are resized whole, in place of the model's own crop.
    gain: what pixels are multiplied by.
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


class Altered:
  """A source with other labels, or with its pixels multiplied; a source itself."""

  def __init__(self, source: Any, labels_N: np.ndarray | None, gain: int, words: str):
    self._source, self._labels_N, self._gain = source, labels_N, gain
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
      if self._gain != 1:
        record = decode.decode(record, 3) * np.uint8(self._gain)
      found.append((record, label if self._labels_N is None else int(self._labels_N[index])))
    return found

  def column(self, name: str) -> np.ndarray | None:
    return self._source.column(name)

  def where(self, index: int) -> str:
    return self._source.where(index)


def open_task(task: Task, data_dir: Path) -> tuple[Source, Source]:
  """(training source, test source).

  Raises:
    UserError: the data cannot be read, or has no such feature.
  """
  data = Data(name=task.data, image=task.image, label=task.label)
  train, test = (sources.open_source(data, split, data_dir, labelled=task.rule is None)
                 for split in (task.train, task.test))
  if task.rule is not None or task.gain != 1:
    train, test = (Altered(source, task.rule and task.rule(source), task.gain, task.name)
                   for source in (train, test))
  if task.held_out is None:
    return train, test
  column, value = task.held_out
  parts = []
  for source, wanted in ((train, False), (test, True)):
    values_N = source.column(column)
    if values_N is None:
      raise UserError(f'data set {task.data!r} has no feature {column!r} to hold out')
    words = f'{"with" if wanted else "without"} {column} {value}'
    parts.append(Subset(source, np.flatnonzero((values_N == value) == wanted), words))
  return parts[0], parts[1]
