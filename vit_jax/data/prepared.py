"""Prepared TFDS data sets, read by random access and without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder
from tensorflow_datasets.proto import tf_example_pb2

from vit_jax.data import splits
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
    image, label = values[self.image_key], values[self.label_key]
    return image.bytes_list.value[0], label.int64_list.value[0]

  def column(self, name: str) -> np.ndarray | None:
    if name not in self.features or len(self.features[name].shape) > 1:
      return None
    values = []
    for index in range(len(self)):
      value = Example.FromString(self.records[index]).features.feature[name]
      values.append(getattr(value, value.WhichOneof('kind')).value)
    return np.array(values).reshape(len(self), *self.features[name].shape)

  def where(self, index: int) -> str:
    return f'record {index} of {len(self)}'


def find(name: str, data_dir: Path) -> Path | None:
  """Where NAME[/CONFIG][:VERSION] (else its newest version) lies prepared, if it does."""
  try:
    return Path(read_only_builder.builder_from_files(name, data_dir=data_dir).data_dir)
  except tfds.core.DatasetNotFoundError:
    return None


def open_prepared(directory: Path, name: str, split: str) -> PreparedSource:
  """Opens a split of the data set prepared in `directory`.

  Args:
    directory: data_dir/name[/config]/version, as TFDS lays it out.
    name: for messages.
    split: in TFDS split syntax.

  Raises:
    UserError: unknown split, stored in a format without random access, or not a data set with
      one image and one class label.
  """
  builder: Any = tfds.builder_from_directory(directory)
  features: Any = builder.info.features
  image_key = _only(name, features, tfds.features.Image)
  label_key = _only(name, features, tfds.features.ClassLabel)
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
    class_names=tuple(features[label_key].names),
    metadata=dict(builder.info.metadata or {}),
    records=records,
    features=features,
    image_key=image_key,
    label_key=label_key,
  )


def _only(name: str, features: Any, kind: type) -> str:
  keys = [key for key, feature in features.items() if isinstance(feature, kind)]
  if len(keys) != 1:
    raise UserError(
      f'data set {name!r} has {len(keys)} features of type {kind.__name__}; image '
      'classification needs one Image and one ClassLabel'
    )
  return keys[0]
