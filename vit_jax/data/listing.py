"""Examples by name: what a folder, a table or archives hold, before a split of it is read.

Every kind of data as people have it becomes rows, and everything that follows is done here, once:
classes, splits, order, groups, and what is said of them (found.py).
"""

import functools
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from vit_jax.data import identity, splits
from vit_jax.data.stores import Store
from vit_jax.errors import UserError, first_few

Groups = np.ndarray  # int [N, 1]: examples of one group show the same thing


class Row(NamedTuple):
  """One example, as whoever lists it says."""

  key: str  # of the store
  labels: tuple[str, ...]  # classes that are right; () if none is, or none is known
  split: str = ''  # in any spelling; '' where the data have no splits
  group: str = ''  # '': shows something of its own


@dataclass(frozen=True)
class Listing:
  """All examples of a data set, and which are in which split.

  Attributes:
    name: of the data set, such as 'folder:DIR'.
    labels_N: of each example its first class, int32, or -1.
    right_N: where each may have several classes, all of them; else None.
    groups_N: int; examples of one group show the same thing.
    parts: split -> positions of its examples, in order.
    left_out: reason -> what could not be an example.
    notes: what was decided about the data, in words.
  """

  name: str
  store: Store = field(repr=False)
  class_names: tuple[str, ...] = field(repr=False)
  keys: Sequence[str] = field(repr=False)
  labels_N: np.ndarray = field(repr=False)
  right_N: Sequence[tuple[int, ...]] | None = field(repr=False)
  groups_N: np.ndarray = field(repr=False)
  parts: Mapping[str, np.ndarray] = field(repr=False)
  left_out: Mapping[str, list[str]] = field(repr=False)
  notes: tuple[str, ...] = ()

  def split(self, split: str) -> 'ListedSource':
    """A split, in TFDS syntax; raises a UserError if there is no such split."""
    import tensorflow_datasets as tfds  # here: those who predict images need none of it

    infos = {
      part: tfds.core.SplitInfo(part, [len(index_n)], 0) for part, index_n in self.parts.items()
    }
    chosen = [
      self.parts[part][start:end]
      for part, start, end in splits.pieces(self.name, split, infos, splits.aliases(infos))
    ]
    return ListedSource(self, split, np.concatenate(chosen))


class ListedSource:
  """A `Source` of some examples of a listing."""

  def __init__(self, listing: Listing, split: str, index_N: np.ndarray):
    self.listing, self.split, self._index_N = listing, split, index_N
    self.name, self.class_names = listing.name, listing.class_names
    self.metadata: dict[str, Any] = {}
    self.labels = listing.labels_N[index_N]
    positions: list[int] = index_N.tolist()
    self.files = tuple(listing.keys[i] for i in positions)

  def __len__(self) -> int:
    return len(self.files)

  def read(self, indices: Sequence[int]) -> list[tuple[bytes | np.ndarray, int]]:
    return [(self.listing.store.read(self.files[i]), int(self.labels[i])) for i in indices]

  def label_sets(self) -> np.ndarray | None:
    return None if self.listing.right_N is None else self._right_NK

  @functools.cached_property
  def _right_NK(self) -> np.ndarray:
    assert self.listing.right_N is not None
    right_NK = np.zeros((len(self), len(self.class_names)), bool)
    for right_K, i in zip(right_NK, self._index_N.tolist(), strict=True):
      right_K[list(self.listing.right_N[i])] = True
    return right_NK

  def column(self, name: str) -> np.ndarray | None:
    return self.labels if name == 'label' else None

  def groups(self) -> Groups:
    return self.listing.groups_N[self._index_N][:, None]

  def where(self, index: int) -> str:
    return self.listing.store.where(self.files[index])

  def digest(self) -> str:
    stamps = self.listing.store.stamps(self.files, times=False)
    return identity.digest(stamps, *self._labeling(), self.class_names, identity.sample(self))

  def content(self) -> bytes:
    stamps = self.listing.store.stamps(self.files, times=True)
    return stamps + identity.digest(*self._labeling()).encode()

  def _labeling(self) -> list[Any]:
    right_N = self.listing.right_N
    more = [] if right_N is None else [tuple(right_N[i] for i in self._index_N.tolist())]
    return [self.labels, *more]


def make(
  name: str,
  store: Store,
  rows: Iterable[Row],
  *,
  test_fraction: float | None,
  several: bool = False,
  class_names: Sequence[str] = (),
  left_out: Mapping[str, list[str]] | None = None,
  notes: Sequence[str] = (),
) -> Listing:
  """The listing of these rows.

  Examples are ordered by a hash of their key, so that a slice such as 'train[:10%]' is a fair
  sample, and adding examples does not reorder the others.

  Args:
    test_fraction: of data without splits, the share drawn for 'test'; None: every split is all of
      them, as they are only judged.
    several: whether each example may have several classes.
    class_names: in order; by default those of 'train', or of all where there is no 'train'.

  Raises:
    UserError: no example, or a class that training does not have.
  """
  rows = sorted(rows, key=lambda row: (hash_of(row.key), row.key))
  left_out = {reason: list(files) for reason, files in (left_out or {}).items()}
  rows, part_N = _parts(rows, left_out)
  if not several:
    unlabeled = [row.key for row in rows if not row.labels]
    if unlabeled and len(unlabeled) < len(rows):
      left_out['without a label'] = unlabeled
      keep = [i for i, row in enumerate(rows) if row.labels]
      rows, part_N = [rows[i] for i in keep], part_N[keep]
  if not rows:
    raise UserError(f'data set {name!r} has no example; {_first_reason(left_out)}')
  names = tuple(class_names)
  if not names:
    trained = [row for row, part in zip(rows, part_N, strict=True) if part in ('train', '')]
    names = ordered({label for row in trained or rows for label in row.labels})
  position = {label: k for k, label in enumerate(names)}
  for row, part in zip(rows, part_N, strict=True):
    for label in row.labels:
      if label not in position:
        raise UserError(
          f'{store.where(row.key)} is of class {label!r} in split {part!r}, which training does '
          f'not have: it has {first_few(names)}; give every split the same classes'
        )
  right_N = [tuple(position[label] for label in row.labels) for row in rows]
  labels_N = np.array([right[0] if right else -1 for right in right_N], np.int32)
  alone = [row.group or f'\0{row.key}' for row in rows]
  groups_N = np.unique(np.array(alone, dtype=object), return_inverse=True)[1].reshape(-1)
  parts, decided = _splits(rows, part_N, groups_N, right_N, test_fraction)
  notes = [*notes, *decided]
  notes = [*notes, *_lacking(parts, labels_N, names)]
  return Listing(
    name,
    store,
    names,
    [row.key for row in rows],
    labels_N,
    right_N if several else None,
    groups_N,
    parts,
    left_out,
    tuple(notes),
  )


def classes_of(cell: Any, names: Sequence[str] = (), separator: str = '') -> tuple[str, ...]:
  """The classes that a cell says: itself, a list, or text with separators.

  Args:
    names: of the classes, where the cell has their numbers.
  """
  if cell is None or cell == '':
    return ()
  if isinstance(cell, list | tuple):
    parts = cell
  elif separator:
    parts = [part.strip() for part in str(cell).split(separator)]
  else:
    parts = [cell]
  parts = [names[part] if names and isinstance(part, int) and part >= 0 else part for part in parts]
  if names:
    parts = [part for part in parts if not isinstance(part, int)]  # -1: of no class
  return tuple(dict.fromkeys(str(part) for part in parts if str(part)))


def hash_of(key: str) -> int:
  """32 bits; the same on every machine."""
  return zlib.crc32(os.fsencode(key.replace(os.sep, '/')))


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
  """Class names in order: as numbers if all are, else as text."""
  labels = list(labels)
  numbers = all(label.isdecimal() and len(label) < 19 for label in labels)
  return tuple(sorted(labels, key=(lambda label: (int(label), label)) if numbers else None))


def _parts(rows: list[Row], left_out: dict[str, list[str]]) -> tuple[list[Row], np.ndarray]:
  """The rows that are in a split, and its name; '' for all if none names one."""
  spelled = {row.split for row in rows}
  if len(spelled) > 1 and '' in spelled:
    left_out['without a split'] = [row.key for row in rows if not row.split]
    rows = [row for row in rows if row.split]
  known = {name: splits.canonical(name) or name for name in spelled}
  return rows, np.array([known[row.split] for row in rows], dtype=object)


def _splits(
  rows: Sequence[Row],
  part_N: np.ndarray,
  groups_N: np.ndarray,
  right_N: Sequence[tuple[int, ...]],
  test_fraction: float | None,
) -> tuple[dict[str, np.ndarray], list[str]]:
  """(split -> positions of its examples, what was decided in words)."""
  present, groups = set(part_N.tolist()), {row.group for row in rows if row.group}
  if present <= {'', 'train'} and test_fraction is None:
    every = np.arange(len(rows))
    return {'train': every, 'test': every}, ['no splits: all of it is judged']
  if present == {''}:
    assert test_fraction is not None
    test_N = _drawn([row.group or row.key for row in rows], groups_N, right_N, test_fraction)
    notes = [f'{len(groups):,} groups of images, each on one side'] if groups else []
    notes.append(f'test is drawn by hash within each class, about {test_fraction:.0%}')
    return {'train': np.flatnonzero(~test_N), 'test': np.flatnonzero(test_N)}, notes
  order = sorted(present, key=lambda part: (part != 'train', part))
  parts = {part: np.flatnonzero(part_N == part) for part in order}
  pairs = {(group, part) for group, part in zip(groups_N.tolist(), part_N.tolist(), strict=True)}
  apart = sum(count > 1 for count in Counter(group for group, _ in pairs).values())
  return parts, [f'{apart:,} groups of images are in several splits'] if apart else []


def _drawn(
  names: Sequence[str], groups_N: np.ndarray, right_N: Sequence[tuple[int, ...]], fraction: float
) -> np.ndarray:
  """Which examples are for testing: groups whose hash is low, and so adding others moves none.

  But each class keeps a group to train on; and one large enough to expect it has one to test on.
  """
  first_G: list[int] = np.unique(groups_N, return_index=True)[1].tolist()
  hash_G = np.array([hash_of(names[i]) for i in first_G], np.int64)
  test_G = hash_G < fraction * 2**32
  pairs = {(k, g) for g, right in zip(groups_N.tolist(), right_N, strict=True) for k in right}
  if not pairs:
    return test_G[groups_N]
  class_P, group_P = np.array(sorted(pairs)).T
  order = np.lexsort((hash_G[group_P], class_P))
  class_P, group_P = class_P[order], group_P[order]
  first_P = np.flatnonzero(np.diff(class_P, prepend=-1))
  count_P = np.diff(first_P, append=len(class_P))
  none_P = ~np.logical_or.reduceat(test_G[group_P], first_P) & (count_P * fraction >= 1)
  test_G[group_P[first_P[none_P]]] = True
  all_P = np.logical_and.reduceat(test_G[group_P], first_P)
  test_G[group_P[(first_P + count_P - 1)[all_P]]] = False
  return test_G[groups_N]


def _lacking(
  parts: Mapping[str, np.ndarray], labels_N: np.ndarray, class_names: Sequence[str]
) -> list[str]:
  """A note on each split that has no example of some classes."""
  notes = []
  for part, index_n in parts.items():
    present = np.unique(labels_N[index_n])
    lacks: list[int] = np.setdiff1d(np.arange(len(class_names)), present).tolist()
    if lacks and (present >= 0).any():
      some = first_few([class_names[k] for k in lacks])
      notes.append(f'{part} has no example of {len(lacks):,} of the classes: {some}')
  return notes


def _first_reason(left_out: Mapping[str, list[str]]) -> str:
  if not left_out:
    return 'it is empty'
  counts = Counter({reason: len(files) for reason, files in left_out.items()})
  return 'left out: ' + ', '.join(f'{count:,} {reason}' for reason, count in counts.most_common())
