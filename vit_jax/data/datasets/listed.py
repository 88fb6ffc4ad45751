"""Data as people have them, prepared once: ArrayRecord, which is read at random and fast.

Features: `image` as it was, or re-encoded; `label`, of several classes a sequence; `file`, where it
was; `group`, if some images belong together. The splits are those of the listing.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from vit_jax.config import ImageData
from vit_jax.data import decode, found, sources
from vit_jax.data.datasets import remove_stale
from vit_jax.data.listing import Listing
from vit_jax.data.pixels import BadImage, Pixels
from vit_jax.errors import UserError, first_few
from vit_jax.paths import local, shown

VERSION = tfds.core.Version('1.0.0')
QUALITY = 95  # of re-encoded JPEGs
AHEAD = 64  # images that are read and re-encoded at a time


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """A listing as a data set; its class is made for each, as TFDS names a builder by its class."""

  VERSION = VERSION
  url_infos = {}
  listing: Listing
  data: ImageData
  shorter_side: int
  unreadable: list[str]

  def _info(self) -> tfds.core.DatasetInfo:
    listing, one = self.listing, tfds.features.ClassLabel(names=list(self.listing.class_names))
    features = {
      'image': tfds.features.Image(shape=(None, None, None)),
      'label': one if listing.right_N is None else tfds.features.Sequence(one),
      'file': tfds.features.Text(),
    }
    metadata: dict[str, Any] = {'made_from': listing.name, 'notes': list(listing.notes)}
    if len(np.unique(listing.groups_N)) < len(listing.keys):
      features['group'], metadata['group'] = np.int64, 'group'
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(features),
      metadata=tfds.core.MetadataDict(metadata),
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
    parts = self.listing.parts.items()
    return {split: self._examples(split) for split, index_n in parts if len(index_n)}

  def _generate_examples(self, examples: Iterator[Any]) -> Iterator[Any]:
    return examples

  def _examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    features: Any = self.info.features
    listing, grouped = self.listing, 'group' in features
    index_n: list[int] = listing.parts[split].tolist()
    index_n.sort(key=lambda i: listing.store.place(listing.keys[i]))
    with decode.thread_pool() as pool:
      records = _in_order(pool, self._record, index_n)
      records = tqdm(records, f'preparing {self.name}, {split}', len(index_n), disable=None)
      for i, record in zip(index_n, records, strict=True):
        key = listing.keys[i]
        if isinstance(record, Exception):
          self.unreadable.append(f'{listing.store.where(key)}: {record}')
          continue
        label = int(listing.labels_N[i]) if listing.right_N is None else list(listing.right_N[i])
        example = {'image': io.BytesIO(record), 'label': label, 'file': shown(key)}
        yield i, {**example, **({'group': int(listing.groups_N[i])} if grouped else {})}

  def _record(self, i: int) -> bytes | Exception:
    try:
      record = self.listing.store.read(self.listing.keys[i])
      return smaller(record, self.shorter_side, self.data) if self.shorter_side else record
    except decode.READ_ERRORS as error:
      return error


def _in_order(pool: ThreadPoolExecutor, function: Any, items: list[Any]) -> Iterator[Any]:
  """As pool.map, but at most AHEAD results wait."""
  for start in range(0, len(items), AHEAD):
    yield from pool.map(function, items[start : start + AHEAD])


def smaller(record: bytes, side: int, data: ImageData) -> bytes:
  """An image re-encoded so that its shorter side is `side` pixels; unchanged if it is smaller.

  A JPEG stays one, of quality 95; others become PNG. Pillow's antialiased bicubic filter.

  Raises:
    BadImage: it is none.
  """
  how, jpeg = Pixels.of(data), record[:2] == b'\xff\xd8'
  image_HWC = decode.decode(record, data.channels, how=how)
  h, w, C = image_HWC.shape
  if min(h, w) <= side:
    return record
  if C not in (1, 3):
    raise BadImage(f'it has {C} channels, and only gray and color images are made smaller')
  size = round(h * side / min(h, w)), round(w * side / min(h, w))
  small_HWC = decode.pillow_resize(image_HWC, size, Image.Resampling.BICUBIC)
  file = io.BytesIO()
  image = Image.fromarray(small_HWC if C == 3 else small_HWC[..., 0])
  image.save(file, 'JPEG' if jpeg else 'PNG', quality=QUALITY)
  return file.getvalue()


def prepare_listed(
  data: ImageData, name: str, data_dir: str | os.PathLike[str], shorter_side: int = 0
) -> list[str]:
  """Writes the data set that `data` names to `data_dir` as `name`; returns what to say.

  Args:
    shorter_side: in pixels, of images that are larger; 0 keeps them as they are.

  Raises:
    UserError: the name is taken or none, or the data are not there or not clear.
  """
  if not re.fullmatch('[a-z][a-z0-9_]*', name):
    raise UserError(
      f'--to={name} is no name of a data set; use small letters, digits and _, such as my_birds'
    )
  directory: Path = local(data_dir).absolute() / name
  left = [*directory.glob('incomplete.*')]  # by preparations that were killed, or are under way
  if directory.exists() and (not left or len(left) < len([*directory.iterdir()])):
    raise UserError(f'{directory} is there already; remove it, or choose another --to')
  listing = sources.open_listing(data)
  if listing is None:
    raise UserError(f'{data.name!r} is prepared under its own name; leave --to out')
  lines = [found.found(listing, Pixels.of(data)).line]
  unreadable: list[str] = []
  values = dict(listing=listing, data=data, shorter_side=shorter_side, unreadable=unreadable)
  cls: Any = type(name, (_Builder,), {**values, 'name': name}, skip_registration=True)
  tfds.disable_progress_bar()
  try:
    with contextlib.redirect_stdout(None):  # TFDS prints about downloads, of which there are none
      builder = cls(data_dir=directory.parent)
      builder.download_and_prepare(file_format='array_record')
  except AssertionError:  # of TFDS, about a split without examples
    raise UserError(f'no image of a split can be read: {first_few(unreadable)}') from None
  except OSError as error:
    raise UserError(f'{name} cannot be written to {directory.parent}: {error}') from error
  remove_stale(directory, 'incomplete.*')
  counts = ', '.join(f'{part} {info.num_examples:,}' for part, info in builder.info.splits.items())
  lines += [f'left out, unreadable: {sentence}' for sentence in unreadable]
  lines.append(f'prepared data set {name} in {directory / str(VERSION)}: {counts}')
  return lines
