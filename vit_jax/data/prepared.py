"""Prepared TFDS data sets, read by random access and without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming, read_only_builder
from tensorflow_datasets.proto import tf_example_pb2

from vit_jax.data import folder, splits
from vit_jax.errors import UserError

Example: Any = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]

# How TFDS's own command is run; where it is named it stands before its arguments.
TFDS_COMMAND = (
  'in an environment of its own (it needs TensorFlow, which vit_jax does not): '
  'pip install tensorflow tensorflow-datasets array-record && tfds'
)


@dataclass(frozen=True)
class PreparedSource:
  """Records of one split; `open_prepared` makes it."""

  name: str
  split: str
  class_names: tuple[str, ...]
  metadata: dict[str, Any]
  directory: Path = field(repr=False)
  records: Any = field(repr=False)  # a TFDS data source that gives serialised examples
  features: Any = field(repr=False)
  image_key: str = field(repr=False)
  label_key: str = field(repr=False)

  def __len__(self) -> int:
    return len(self.records)

  def read(self, indices: Sequence[int]) -> list[tuple[bytes | np.ndarray, int]]:
    return [self._read(index) for index in indices]

  def _read(self, index: int) -> tuple[bytes, int]:
    # TFDS's own parser makes arrays of every feature, which costs several times as much and holds
    # the GIL; its batched read starts a thread for each file on each call.
    values = Example.FromString(self.records[index]).features.feature
    image = values[self.image_key].bytes_list.value[0]
    return image, values[self.label_key].int64_list.value[0] if self.label_key else -1

  def column(self, name: str) -> np.ndarray | None:
    if name not in self.features or len(self.features[name].shape) > 1:
      return None
    return np.array(self.values(name)).reshape(len(self), *self.features[name].shape)

  def values(self, name: str) -> list[np.ndarray]:
    """All numbers of a feature, flat, of each example: of 'objects/size' one an object."""
    found = []
    for index in range(len(self)):
      value = Example.FromString(self.records[index]).features.feature[name]
      kind = value.WhichOneof('kind')  # none of them where a sequence is empty
      found.append(np.array(getattr(value, kind).value if kind else ()))
    return found

  def where(self, index: int) -> str:
    return f'record {index} of {len(self)}'

  def content(self) -> bytes:
    files = sorted(path.name for path in self.directory.iterdir())
    keys = f'{self.image_key} {self.label_key}'
    return folder.stamps(self.directory, files) + keys.encode()


def find(name: str, data_dir: Path) -> Path | None:
  """Where NAME[/CONFIG][:VERSION] (else its newest version) lies prepared, if it does."""
  try:
    naming.parse_builder_name_kwargs(name)
  except ValueError:
    return None  # no name that TFDS could have given
  try:
    return Path(read_only_builder.builder_from_files(name, data_dir=data_dir).data_dir)
  except tfds.core.DatasetNotFoundError:
    return None


def open_prepared(
  directory: Path, name: str, split: str, image: str = '', label: str | None = ''
) -> PreparedSource:
  """Opens a split of the data set prepared in `directory`.

  Args:
    directory: data_dir/name[/config]/version, as TFDS lays it out.
    name: for messages.
    split: in TFDS split syntax.
    image, label: which features they are; '' is the only one of its type, or the one of several
      that is called 'image' or 'label'. With None every label is -1.

  Raises:
    UserError: unknown split, stored in a format without random access, or no such image or class
      label.
  """
  builder: Any = tfds.builder_from_directory(directory)
  features: Any = builder.info.features
  image_key = _pick(name, features, tfds.features.Image, 'image', image)
  label_key = (
    '' if label is None else _pick(name, features, tfds.features.ClassLabel, 'label', label)
  )
  splits.pieces(name, split, builder.info.splits)
  try:
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    records = builder.as_data_source(split, deserialize_method=raw, file_format='array_record')
  except (NotImplementedError, ValueError) as error:
    raise UserError(
      f'data set {name!r} in {directory} is stored in a format without random access; add the '
      f'right one beside it with one command, {TFDS_COMMAND} convert_format '
      f'--dataset_version_dir={directory} --out_file_format=array_record'
    ) from error
  return PreparedSource(
    name=name,
    split=split,
    class_names=tuple(features[label_key].names) if label_key else (),
    metadata=dict(builder.info.metadata or {}),
    directory=directory,
    records=records,
    features=features,
    image_key=image_key,
    label_key=label_key,
  )


def _pick(name: str, features: Any, kind: type, usual: str, wanted: str) -> str:
  """The feature of a type that is meant."""
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
