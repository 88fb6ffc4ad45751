"""Evaluation sets, opened: a data set to be judged on, and the one to learn from if any."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_jax.config import Eval, ImageData
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
  def open_source(data: ImageData, split: str, labeled: bool) -> Source:
    return sources.open_source(data, split, data_dir, labeled=labeled)

  opened = {}
  for name, line in sorted(evals.items()):
    keys: dict[str, Any] = {'image': line.image, 'label': line.label}
    if line.data:
      keys |= {'name': line.data, 'dir': '', 'num_classes': 0}
    else:
      keys = {key: value for key, value in keys.items() if value}
    judged_on = dataclasses.replace(data, **keys)
    labeled = line.kind != 'predict' or not line.data or bool(line.label)
    test, train = Part(name, open_source(judged_on, line.split, labeled)), None
    if line.learns:
      train = Part(name, open_source(judged_on, line.train, labeled))
    elif labeled:
      test = by_class_name(test, class_names)
    opened[name] = EvalSet(line.kind, [test], train)
  return opened


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
