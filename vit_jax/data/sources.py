"""Where examples come from: our data sets, TFDS data sets, image folders, behind one interface."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vit_jax.config import Data
from vit_jax.data import folder, held_out
from vit_jax.errors import UserError

DATA_DIR_VARIABLE = 'VIT_JAX_DATA_DIR'


class Source(Protocol):
  """Examples by random access. Reading is safe from several threads."""

  @property
  def name(self) -> str: ...

  @property
  def split(self) -> str: ...

  @property
  def class_names(self) -> tuple[str, ...]: ...

  @property
  def metadata(self) -> dict[str, Any]:
    """What the data set says of itself beside its examples, such as the size of a raster."""
    ...

  def __len__(self) -> int: ...

  def read(self, indices: Sequence[int]) -> list[tuple[bytes | np.ndarray, int]]:
    """Encoded images (or uint8 pixels [H, W, C]) and labels; a label of -1 is 'none of these'."""
    ...

  def column(self, name: str) -> np.ndarray | None:
    """A number or vector of every example, [N] or [N, K]; None if there is no such feature."""
    ...

  def where(self, index: int) -> str:
    """What a person needs to find an example: a file name, or the record's place."""
    ...

  def content(self) -> bytes:
    """What is another where an image or a label is; no image is read for it."""
    ...


class Subset:
  """Some examples of a source, in order; a source itself."""

  def __init__(self, source: Source, indices_N: np.ndarray, words: str):
    self._source, self._indices_N = source, indices_N
    self.name, self.split = source.name, f'{source.split} {words}'
    self.class_names: tuple[str, ...] = source.class_names
    self.metadata: dict[str, Any] = source.metadata

  def __len__(self) -> int:
    return len(self._indices_N)

  def read(self, indices: Any) -> list:
    return self._source.read([int(self._indices_N[index]) for index in indices])

  def column(self, name: str) -> np.ndarray | None:
    column_N = self._source.column(name)
    return None if column_N is None else column_N[self._indices_N]

  def where(self, index: int) -> str:
    return self._source.where(int(self._indices_N[index]))

  def content(self) -> bytes:
    return self._source.content() + np.asarray(self._indices_N, np.int64).tobytes()


def unreadable(source: Source, index: int, error: Exception) -> str:
  """Says which example cannot be read, and why."""
  return (
    f'data set {source.name!r}, split {source.split!r}: example {index} '
    f'({source.where(index)}) cannot be read: {error}'
  )


def soft_labels(source: Source, data: Data) -> np.ndarray:
  """The feature `data.soft_label` of every example as shares of the classes, float32 [N, K].

  Raises:
    UserError: it is not there, or is not a distribution over the classes.
  """
  name, classes = data.soft_label, len(source.class_names)
  share_NK = source.column(name)
  if share_NK is None or share_NK.shape[1:] != (classes,):
    raise UserError(
      f'data.soft_label is {name!r}, but data set {source.name!r} has no feature of '
      f"that name with a share of each of its {classes} classes; leave it at ''"
    )
  wrong_N = (share_NK < 0).any(1) | (np.abs(share_NK.sum(1) - 1) > 1e-3)
  if wrong_N.any():
    raise UserError(
      f'data.soft_label is {name!r}, but the shares of example {wrong_N.argmax()} of '
      f'data set {source.name!r}, split {source.split!r}, do not add up to 1'
    )
  empty = max(data.num_classes - classes, 0)  # classes of the model that the data set lacks
  return np.pad(share_NK.astype(np.float32), ((0, 0), (0, empty)))


def default_data_dir() -> Path:
  """The environment variable VIT_JAX_DATA_DIR, else ~/.cache/vit_jax."""
  return Path(os.environ.get(DATA_DIR_VARIABLE) or '~/.cache/vit_jax').expanduser()


def open_source(
  data: Data, split: str, data_dir: str | os.PathLike | None = None, labelled: bool = True
) -> Source:
  """Opens a split of the data set that `data` names; one of ours is prepared first if need be.

  Args:
    data: `name` is one of ours, a TFDS name ('cifar10', 'imagenet2012:5.1.0',
      'imagenet_v2/matched-frequency'), 'folder' (then `dir` is the folder) or 'folder:DIR'.
    split: TFDS split syntax: 'train', 'train[:90%]', 'train+test[:100]'; with ':held' after it a
      fifth of that, and with ':kept' the others (see `held_out`).
    data_dir: where prepared data sets lie; None is `default_data_dir()`.
    labelled: whether a TFDS data set must have labels; else each is -1.

  Raises:
    UserError: unknown name (with the nearest ones), data not prepared (with the command that
      prepares it), unknown split, a folder without classes or with an empty one.
  """
  part = next((name for name in ('kept', 'held') if split.endswith(f':{name}')), '')
  if part:
    whole = open_source(data, split.removesuffix(f':{part}'), data_dir, labelled)
    held, kept = held_out.hold_out(whole)
    return Subset(whole, held if part == 'held' else kept, part)
  kind, _, place = data.name.partition(':')
  if kind == 'folder':
    source = folder.open_folder(place or data.dir, split, data.test_fraction)
  else:
    from vit_jax.data import datasets, prepared  # TFDS takes a second to import: folders need none

    root = Path(data_dir) if data_dir else default_data_dir()
    source = prepared.open_prepared(
      datasets.prepare(data.name, root),
      data.name,
      split,
      data.image,
      data.label if labelled else None,
    )
  if 0 < data.num_classes < len(source.class_names):
    raise UserError(
      f'data.num_classes is {data.num_classes}, but data set {data.name!r} has '
      f'{len(source.class_names)} classes; leave it at 0 to take them all'
    )
  return source
