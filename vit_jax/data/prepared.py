"""Prepared TFDS data sets, read by random access and without TensorFlow.

Of one at an address, what describes it is copied when it is opened, and a split when it is read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming, read_only_builder
from tensorflow_datasets.proto import tf_example_pb2

from vit_jax.data import identity, splits
from vit_jax.errors import UserError
from vit_jax.reads import SPECIAL, first_special
from vit_jax.remote.data import fetch_splits

Example: Any = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]

# Where TFDS's own command is named, this comes before its arguments.
TFDS_COMMAND = (
  'in an environment of its own (it needs TensorFlow, which vit_jax does not): '
  'pip install tensorflow tensorflow-datasets array-record && tfds'
)


@dataclass
class PreparedSource:
  """A `Source` of TFDS records, which `open_prepared` makes."""

  name: str
  split: str
  class_names: tuple[str, ...]
  metadata: dict[str, Any]
  directory: Path = field(repr=False)
  pieces: list[tuple[str, int, int]] = field(repr=False)  # of the split, as `splits.pieces` says
  records: Any = field(repr=False)  # a TFDS data source that gives serialized examples
  features: Any = field(repr=False)
  image_key: str = field(repr=False)
  label_key: str = field(repr=False)  # '' for no labels
  _here: bool = field(default=False, init=False, repr=False)

  def __len__(self) -> int:
    return len(self.records)

  def _fetch(self) -> None:
    """Copies the files of the split, if they are at an address and not here."""
    if not self._here:
      fetch_splits(self.directory, [each for each, _, _ in self.pieces])
      self._here = True

  def _example(self, index: int) -> Any:
    self._fetch()
    return Example.FromString(self.records[index]).features.feature

  def read(self, indices: Sequence[int]) -> list[tuple[bytes | np.ndarray, int]]:
    return [self._read(index) for index in indices]

  def _read(self, index: int) -> tuple[bytes, int]:
    # TFDS's own parser makes arrays of every feature, which costs several times as much and holds
    # the GIL; its batched read starts a thread per file and call.
    values = self._example(index)
    image = values[self.image_key].bytes_list.value[0]
    labels = values[self.label_key].int64_list.value if self.label_key else ()
    return image, labels[0] if labels else -1

  @property
  def labels(self) -> np.ndarray:
    """Of every example that has one label, int [N]."""
    if not self.label_key:
      return np.full(len(self), -1)
    return np.array(self.values(self.label_key), int).reshape(-1)

  def label_sets(self) -> np.ndarray | None:
    if not self.label_key or isinstance(self.features[self.label_key], tfds.features.ClassLabel):
      return None
    right_NK = np.zeros((len(self), len(self.class_names)), bool)
    for right_K, labels in zip(right_NK, self.values(self.label_key), strict=True):
      right_K[labels.astype(int)] = True
    return right_NK

  def column(self, name: str) -> np.ndarray | None:
    if name not in self.features or len(self.features[name].shape) > 1:
      return None
    return np.array(self.values(name)).reshape(len(self), *self.features[name].shape)

  def values(self, name: str) -> list[np.ndarray]:
    """A feature of every example as it is stored, flat: 'objects/size' has one value per object."""
    found = []
    for index in range(len(self)):
      value = self._example(index)[name]
      kind = value.WhichOneof('kind')  # none where a sequence is empty
      found.append(np.array(getattr(value, kind).value if kind else ()))
    return found

  def groups(self) -> np.ndarray:
    """As the metadata declare them: a column's values, or the raster cells of a patch's corners."""
    if cell := self.metadata.get('group_cells'):
      row_N, col_N = self._declared('row'), self._declared('col')
      last, across = self.metadata['patch_size'] - 1, -(-self.metadata['raster_size'][1] // cell)
      corners = ((0, 0), (0, last), (last, 0), (last, last))
      return np.stack([(row_N + y) // cell * across + (col_N + x) // cell for y, x in corners], 1)
    if name := self.metadata.get('group'):
      return np.unique(self._declared(name), return_inverse=True)[1].reshape(-1, 1)
    return np.arange(len(self))[:, None]

  def _declared(self, name: str) -> np.ndarray:
    column_N = self.column(name)
    if column_N is None:
      raise UserError(f'the metadata of data set {self.name!r} name a feature {name!r} it lacks')
    return column_N

  def where(self, index: int) -> str:
    return f'record {index} of {len(self)}'

  def digest(self) -> str:
    self._fetch()
    files = (self.directory.glob(f'*-{split}.array_record*') for split, _, _ in self.pieces)
    names = sorted({file.name for found in files for file in found})
    return identity.digest(
      identity.stamps(self.directory, names, times=False),
      self.pieces,
      self.class_names,
      json.dumps(self.metadata, sort_keys=True),
      sorted(self.features),
      self.image_key,
      self.label_key,
      identity.sample(self),
    )

  def content(self) -> bytes:
    self._fetch()
    files = sorted(path.name for path in self.directory.iterdir())
    keys = f'{self.image_key} {self.label_key}'
    return identity.stamps(self.directory, files, times=True) + keys.encode()


def find(name: str, data_dir: Path) -> Path | None:
  """The folder where NAME[/CONFIG][:VERSION], by default its newest version, is prepared."""
  try:
    naming.parse_builder_name_kwargs(name)
  except ValueError:
    return None  # not a name that TFDS allows
  try:
    return Path(read_only_builder.builder_from_files(name, data_dir=data_dir).data_dir)
  except tfds.core.DatasetNotFoundError:
    return None


def open_prepared(
  directory: Path, name: str, split: str, image: str = '', label: str | None = ''
) -> PreparedSource:
  """Opens a split of the data set prepared in `directory`, data_dir/name[/config]/version.

  Args:
    image, label: names of features; '' means the only Image or ClassLabel, or the one of several
      that is called 'image' or 'label'. A label may also be a Sequence of ClassLabel (see
      `Source.label_sets`). With None every label is -1.

  Raises:
    UserError: unknown split or feature, stored in a format without random access, or no files.
  """
  if special := first_special(directory):
    raise UserError(f'{special} is {SPECIAL}, which no data set has; remove it')
  builder: Any = tfds.builder_from_directory(directory)
  features: Any = builder.info.features
  image_key = _pick(name, features, tfds.features.Image, 'image', image)
  class_label = tfds.features.ClassLabel
  if label is None:
    label_key = ''
  elif sets := _sets_of_classes(features, label):
    label_key = sets  # a Sequence, which has its ClassLabel's names
  else:
    label_key = _pick(name, features, class_label, 'label', label)
  pieces = splits.pieces(name, split, builder.info.splits)
  try:
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    records = builder.as_data_source(split, deserialize_method=raw, file_format='array_record')
  except (NotImplementedError, ValueError) as error:
    raise UserError(
      f'data set {name!r} in {directory} is stored in a format without random access; add one '
      f'that has it with one command, {TFDS_COMMAND} convert_format '
      f'--dataset_version_dir={directory} --out_file_format=array_record'
    ) from error
  return PreparedSource(
    name=name,
    split=split,
    class_names=tuple(features[label_key].names) if label_key else (),
    metadata=dict(builder.info.metadata or {}),
    directory=directory,
    pieces=pieces,
    records=records,
    features=features,
    image_key=image_key,
    label_key=label_key,
  )


def _sets_of_classes(features: Any, label: str) -> str:
  """The Sequence of ClassLabel that `label` means, or the only one if there is no ClassLabel."""
  kind = tfds.features.ClassLabel
  found = [key for key, each in features.items() if isinstance(getattr(each, 'feature', 0), kind)]
  if label:
    return label if label in found else ''
  alone = len(found) == 1 and not any(isinstance(each, kind) for each in features.values())
  return found[0] if alone else ''


def _pick(name: str, features: Any, kind: type, usual: str, wanted: str) -> str:
  """The name of the feature of type `kind` that `wanted` means."""
  keys = sorted(key for key, feature in features.items() if isinstance(feature, kind))
  if wanted in keys:
    return wanted
  if not keys or wanted:
    given = f'data.{usual} is {wanted!r}, but ' if wanted else ''
    raise UserError(
      f'{given}data set {name!r} has '
      f'{"these" if keys else "no"} features of type {kind.__name__}'
      f'{": " if keys else ""}{", ".join(keys)}; image classification needs an Image '
      'and a ClassLabel'
    )
  if len(keys) > 1 and usual not in keys:
    raise UserError(
      f'data set {name!r} has {len(keys)} features of type {kind.__name__}; choose '
      f'one, as in --config.data.{usual}={keys[0]}: {", ".join(keys)}'
    )
  return keys[0] if len(keys) == 1 else usual
