"""Where examples come from: our data sets, TFDS data sets, image folders, behind one interface."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from vit_jax.config import ImageData
from vit_jax.config.images import LISTED
from vit_jax.data import datasets, folder, identity, imagenet, prepared, shards, tables
from vit_jax.data.held_out import hold_out
from vit_jax.data.listing import ListedSource, Listing
from vit_jax.errors import UserError, first_few
from vit_jax.paths import default_data_dir

Record = bytes | np.ndarray  # an encoded image, or pixels uint8 [H, W] or [H, W, C]


class Source(Protocol):
  """Examples by random access. Reading is safe from several threads."""

  name: str
  split: str
  class_names: tuple[str, ...]
  metadata: dict[str, Any]  # what the data set declares: groups, raster, ... (docs/datasets.md)

  def __len__(self) -> int: ...

  # Images and labels; a label of -1 means none of the classes.
  def read(self, indices: Sequence[int]) -> list[tuple[Record, int]]: ...

  # Which classes are right for each example, bool [N, K], of which `read` gives the first, or -1.
  # None if only the label of `read` is right.
  def label_sets(self) -> np.ndarray | None: ...

  # A feature of every example, [N] or [N, K]; None if there is no such feature.
  def column(self, name: str) -> np.ndarray | None: ...

  # The groups of each example, int [N, G]: examples of one group show the same thing.
  def groups(self) -> np.ndarray: ...

  # Where to find an example: the name of its file, or its number.
  def where(self, index: int) -> str: ...

  # Identifies the examples and their order, on any disk; few are read.
  def digest(self) -> str: ...

  # Changes whenever a file is modified; a key for caches. Reads no example.
  def content(self) -> bytes: ...


class MappedSource:
  """Some of the examples of another source, or other labels, classes or pixels for them.

  Args:
    source: the other source, which stays an attribute.
    words: what is different, appended to `split`. `digest` and `content` know `pixels` by these
      words only.
    indices_N: positions in `source` of the examples, in order; all by default.
    labels: per example of `source`: a class, int [N], or which classes are right, bool [N, K].
    classes_K: per class of `source`, the class that it becomes.
    class_names: by default the source's, or numbers if there are new labels.
    pixels: applied to every image.
  """

  def __init__(
    self,
    source: Source,
    words: str,
    *,
    indices_N: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    classes_K: np.ndarray | None = None,
    class_names: tuple[str, ...] = (),
    pixels: Callable[[Record], Record] | None = None,
  ):
    self.source, self._labels, self._classes_K, self._pixels = source, labels, classes_K, pixels
    indices_N = np.arange(len(source)) if indices_N is None else indices_N
    self._indices_N = np.asarray(indices_N, np.int64)
    if labels is not None and not class_names:
      count = labels.max() + 1 if labels.ndim == 1 else labels.shape[1]
      class_names = tuple(map(str, range(count)))
    self.name, self.split = source.name, f'{source.split} {words}'
    self.class_names: tuple[str, ...] = class_names or source.class_names
    self.metadata: dict[str, Any] = source.metadata
    self._changes = words, self._indices_N, labels, classes_K, self.class_names

  def __len__(self) -> int:
    return len(self._indices_N)

  def read(self, indices: Sequence[int]) -> list[tuple[Record, int]]:
    places = [int(self._indices_N[index]) for index in indices]
    found = self.source.read(places)
    return [
      (self._pixels(record) if self._pixels else record, self._label(place, label))
      for place, (record, label) in zip(places, found, strict=True)
    ]

  def _label(self, place: int, label: int) -> int:
    if self._labels is not None:
      right = self._labels[place]
      label = int(right) if right.ndim == 0 else int(right.argmax()) if right.any() else -1
    return label if self._classes_K is None or label < 0 else int(self._classes_K[label])

  @property
  def labels(self) -> np.ndarray:
    """The label of every example, where each has one."""
    labels_N = labels(self.source) if self._labels is None else self._labels
    labels_N = labels_N[self._indices_N]
    if self._classes_K is None:
      return labels_N
    return np.where(labels_N < 0, labels_N, self._classes_K[labels_N])

  def label_sets(self) -> np.ndarray | None:
    right_NK = self.source.label_sets() if self._labels is None else self._labels
    if right_NK is None or right_NK.ndim == 1:
      return None
    if self._classes_K is not None:
      theirs_NK, right_NK = right_NK, np.zeros((len(right_NK), len(self.class_names)), bool)
      right_NK[:, self._classes_K] = theirs_NK
    return right_NK[self._indices_N]

  def column(self, name: str) -> np.ndarray | None:
    column_N = self.source.column(name)
    return None if column_N is None else column_N[self._indices_N]

  def groups(self) -> np.ndarray:
    return self.source.groups()[self._indices_N]

  def where(self, index: int) -> str:
    return self.source.where(int(self._indices_N[index]))

  def digest(self) -> str:
    return identity.digest(self.source.digest(), *self._changes)

  def content(self) -> bytes:
    return self.source.content() + identity.digest(*self._changes).encode()


def listing_of(source: Any) -> Listing | None:
  """What a source is a part of; None of a prepared data set, or of no source."""
  while isinstance(source, MappedSource):
    source = source.source
  return source.listing if isinstance(source, ListedSource) else None


def match_classes(source: Source, class_names: tuple[str, ...]) -> Source:
  """`source` with the classes of a model, matched by name.

  Raises:
    UserError: the source has a class that the model lacks.
  """
  if source.class_names == class_names:
    return source
  names = imagenet.in_words(source.class_names, class_names)
  classes_K = identity.label_map(names, class_names, f'data set {source.name!r}')
  if strange := [name for name, k in zip(names, classes_K, strict=True) if k < 0]:
    raise UserError(
      f'data set {source.name!r} has classes that the model was not trained on: '
      f'{first_few(strange)}; it knows {first_few(class_names)}'
    )
  return MappedSource(source, 'by class name', classes_K=classes_K, class_names=class_names)


def unreadable(source: Source, index: int, error: Exception) -> str:
  return (
    f'data set {source.name!r}, split {source.split!r}: example {index} '
    f'({source.where(index)}) cannot be read: {error}'
  )


def labels(source: Source) -> np.ndarray:
  """The label that `read` gives for every example, int [N], without its image where that can be.

  Raises:
    UserError: an example may have several classes.
  """
  if source.label_sets() is not None:
    raise UserError(
      f'config.data.balance is for one class per image, but data set {source.name!r} has several; '
      'leave it at 0'
    )
  if isinstance(source, ListedSource | prepared.PreparedSource | MappedSource):
    return source.labels
  return np.array([label for _, label in source.read(range(len(source)))], np.int32)


def targets(source: Source, data: ImageData) -> np.ndarray | None:
  """What to train on in place of the labels that `read` gives, [N, K]; None if it is those.

  The shares of data.soft_label in float32, or as bool the set of classes of each example.
  """
  if data.soft_label:
    return soft_labels(source, data)
  right_NK = source.label_sets()
  if right_NK is None:
    return None
  empty = max(data.num_classes - right_NK.shape[1], 0)  # classes that the data set lacks
  return np.pad(right_NK, ((0, 0), (0, empty))) if empty else right_NK


def soft_labels(source: Source, data: ImageData) -> np.ndarray:
  """The feature `data.soft_label` of every example, the share of each class: float32 [N, K]."""
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


# Data as people have them: (place, data, share to draw for 'test') -> Listing.
LISTINGS = {
  'folder': folder.open_folder,
  'table': tables.open_table,
  'huggingface': tables.open_huggingface,
  'webdataset': shards.open_webdataset,
  'ilsvrc': shards.open_ilsvrc,
}


def open_listing(data: ImageData, judged: bool = False) -> Listing | None:
  """All examples of the data set that `data` names; None of one that is prepared.

  Args:
    judged: nothing is trained on it, so that of data without splits every example is judged.

  Raises:
    UserError: it is not there, or it is not clear what is in it.
  """
  kind, _, place = data.name.partition(':')
  if kind not in LISTINGS:
    return None
  if not (place or data.dir):
    raise UserError(f'config.data.dir is missing: give {LISTED[kind]}')
  return LISTINGS[kind](place or data.dir, data, None if judged else data.test_fraction)


def open_source(
  data: ImageData,
  split: str,
  data_dir: str | os.PathLike | None = None,
  labeled: bool = True,
  judged: bool = False,
) -> Source:
  """Opens a split of the data set that `data` names; prepares it first if it is one of ours.

  Args:
    data: `name` is one of ours, a TFDS name ('cifar10', 'imagenet2012:5.1.0',
      'imagenet_v2/matched-frequency'), or one of LISTINGS, as 'folder' (then `dir` is the folder)
      or 'folder:DIR'.
    split: TFDS split syntax ('train', 'train[:90%]', 'train+test[:100]'), optionally followed by
      ':held', a fifth of its groups, or ':kept', the rest (see `held_out`).
    data_dir: of prepared data sets; `default_data_dir()` if None.
    labeled: False gives every example of a TFDS data set the label -1.
    judged: as of `open_listing`.

  Raises:
    UserError: the data set or the split is unknown, or cannot be opened or prepared.
  """
  whole, colon, part = split.rpartition(':')
  if colon and part in ('held', 'kept'):
    source = open_source(data, whole, data_dir, labeled, judged)
    held_N, kept_N = hold_out(source)
    return MappedSource(source, part, indices_N=held_N if part == 'held' else kept_N)
  if listing := open_listing(data, judged):
    source = listing.split(split)
  else:
    directory = datasets.prepare(data.name, data_dir or default_data_dir())
    label = data.label if labeled else None
    source = prepared.open_prepared(directory, data.name, split, data.image, label)
  if 0 < data.num_classes < len(source.class_names):
    raise UserError(
      f'data.num_classes is {data.num_classes}, but data set {data.name!r} has '
      f'{len(source.class_names)} classes; leave it at 0 to use them all'
    )
  return source
