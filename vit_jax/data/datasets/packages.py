"""What our builders share: where packages lie, npm's and Debian's, none of which is imported;
images as TFDS takes them without TensorFlow; and a split by hash."""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vit_jax.errors import UserError


def npm(data_set: str, versions: Mapping[str, str], data_dir: Path) -> dict[str, Path]:
  """The folders of npm packages, name -> folder.

  They are looked for in `data_dir`/node_modules, then in the folders that Node's own environment
  variable NODE_PATH names. Another version could hold other images under the same name, so it is
  not taken.

  Args:
    data_set: for messages.
    versions: package -> its version.

  Raises:
    UserError: a package is not there, or is of another version, with the command that installs
      all of them.
  """
  more = os.environ.get('NODE_PATH', '').split(os.pathsep)
  places = [data_dir / 'node_modules', *(Path(place).expanduser() for place in more if place)]
  wanted = ' '.join(f'{name}@{version}' for name, version in versions.items())
  command = (
    f'npm install --prefix {data_dir} {wanted} (where there is no network, copy '
    f'{data_dir}/node_modules there, or name its place in NODE_PATH)'
  )
  folders = {}
  for name, version in versions.items():
    found = [place / name for place in places if (place / name / 'package.json').is_file()]
    if not found:
      raise UserError(
        f'data set {data_set!r} is made from the npm package {name}, which is not '
        f'installed: {command}'
      )
    installed = read_json(found[0] / 'package.json').get('version')
    if installed != version:
      raise UserError(
        f'data set {data_set!r} is made from version {version} of the npm package '
        f'{name}, and {found[0]} holds {installed}: {command}'
      )
    folders[name] = found[0]
  return folders


def read_json(path: Path) -> dict[str, Any]:
  """The object in a JSON file of a package.

  Raises:
    UserError: missing or damaged.
  """
  try:
    content = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise UserError(f'{path} cannot be read: {error}; install its package anew') from error
  if not isinstance(content, dict):
    raise UserError(f'{path} holds no JSON object; install its package anew')
  return content


def debian(data_set: str, package: str, folder: Path, data_dir: Path) -> Path:
  """`folder`, where Debian's package is installed, or its copy in `data_dir`, where it is unpacked.

  Raises:
    UserError: it is in neither place, with the commands for both.
  """
  for place in (folder, data_dir / folder.relative_to('/')):
    if place.is_dir():
      return place
  raise UserError(
    f"data set {data_set!r} is made from Debian's package {package}, which is not installed: "
    f'apt-get install {package} (or, without root, apt-get download {package} && '
    f'dpkg -x {package}_*.deb {data_dir})'
  )


def png(image: np.ndarray) -> io.BytesIO:
  """An image, uint8 [H, W] or [H, W, BGR], encoded: given an array, TFDS asks for TensorFlow."""
  return io.BytesIO(cv2.imencode('.png', image)[1].tobytes())


def is_of(split: str, index: int, test_share: int) -> bool:
  """Whether example `index` is of 'train' or 'test', where a hash puts one in so many."""
  return (zlib.crc32(f'{index}'.encode()) % test_share == 0) == (split == 'test')
