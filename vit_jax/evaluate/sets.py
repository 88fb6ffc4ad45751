"""Evaluation sets, opened: a data set to be judged on, and the one to learn from if any."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vit_jax.config import Eval, ImageData
from vit_jax.config.images import LISTED
from vit_jax.data import held_out, sources
from vit_jax.data.sources import Source, match_classes
from vit_jax.errors import UserError


class Part(NamedTuple):
  """Examples to learn from, or to be judged on."""

  name: str
  source: Source
  # Positions in `source` of the examples that count; None: all. Several parts can so share the
  # features of a source.
  keep_N: np.ndarray | None = None
  right_NK: np.ndarray | None = None  # which classes are right for each; None: the label
  # Positions in `source` of the examples that a penalty is chosen by; None: a fifth of the groups
  # that the data set declares.
  held_N: np.ndarray | None = None

  def hold_out(self, position_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(held, kept): indices into `position_N`, positions in the source, to choose by and to fit on.

    Where the groups are fewer than five, each example is a group of its own.
    """
    if self.held_N is not None:
      held_n = np.isin(position_N, self.held_N)
      return np.flatnonzero(held_n), np.flatnonzero(~held_n)
    groups_NG = self.source.groups()[position_N]
    if len(np.unique(groups_NG)) < held_out.ONE_IN:
      groups_NG = np.arange(len(position_N))[:, None]
    return held_out.split(groups_NG)


class EvalSet(NamedTuple):
  """What a line of the table judges; several tests are judged by what was learned once."""

  kind: str  # as Eval.kind
  tests: list[Part]
  train: Part | None = None


def open_evals(
  evals: Mapping[str, Eval], data: ImageData, class_names: tuple[str, ...], data_dir: Path | None
) -> dict[str, EvalSet]:
  """The evaluation table of a recipe, opened.

  Args:
    data: what is trained on; a line without data of its own is a split of it.
    class_names: those of the model's head, by which labels are matched.

  Raises:
    UserError: data that are not there, or classes that the model does not have.
  """

  @functools.cache  # lines that judge on the same split share its features, too
  def open_source(data: ImageData, split: str, labeled: bool, judged: bool) -> Source:
    return sources.open_source(data, split, data_dir, labeled=labeled, judged=judged)

  opened = {}
  for name, line in sorted(evals.items()):
    keys = {'image': line.image, 'label': line.label}
    keys = {key: value for key, value in keys.items() if value}
    judged_on = dataclasses.replace(_other(data, line.data) if line.data else data, **keys)
    labeled = line.kind != 'predict' or not line.data or bool(line.label)
    judged = not line.learns and not _same_place(judged_on, data)
    test, train = Part(name, open_source(judged_on, line.split, labeled, judged)), None
    if line.learns:
      train = Part(name, open_source(judged_on, line.train, labeled, judged))
    elif labeled:
      test = by_class_name(test, class_names)
    opened[name] = EvalSet(line.kind, [test], train)
  return opened


def _other(data: ImageData, name: str) -> ImageData:
  """The data `name`, read in the same way if they are of the same kind, such as two tables."""
  kind = name.partition(':')[0]
  found = dataclasses.replace(data, name=name, dir='', num_classes=0)
  if kind in LISTED and kind == data.name.partition(':')[0]:
    return found
  usual = {key: '' for key in ('image', 'label', 'label_separator', 'split_by', 'group_by')}
  return dataclasses.replace(found, layout='auto', **usual)


def _same_place(one: ImageData, other: ImageData) -> bool:
  """Whether both are the same data set, so that a part of it may be trained on."""
  places = [data.name.partition(':')[2] or data.dir for data in (one, other)]
  kinds = [data.name.partition(':')[0] for data in (one, other)]
  if kinds[0] != kinds[1]:
    return False
  return os.path.realpath(places[0]) == os.path.realpath(places[1]) if all(places) else True


def by_class_name(part: Part, class_names: tuple[str, ...]) -> Part:
  """The part with labels that count the classes of `class_names`.

  Raises:
    UserError: it has a class that is not among them, or no label at all.
  """
  source = match_classes(part.source, class_names)
  right_NK = source.label_sets()
  if right_NK is None:
    return part._replace(source=source)
  keep_N = np.flatnonzero(right_NK.any(axis=1))  # an example of no class does not count
  if not len(keep_N):
    raise no_labels(source)
  return part._replace(source=source, keep_N=keep_N, right_NK=right_NK[keep_N])


def no_labels(source: Source) -> UserError:
  return UserError(
    f'data set {source.name!r}, split {source.split!r} has no example with a label; '
    'name one with labels'
  )
