"""Tar archives of images: WebDataset shards, and ImageNet's own archives."""

import json
import os
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from vit_jax.config import ImageData
from vit_jax.data import splits
from vit_jax.data.decode import SUFFIXES
from vit_jax.data.listing import Listing, Row, classes_of, make
from vit_jax.data.stores import Archives, Member, tar_members
from vit_jax.errors import UserError, first_few
from vit_jax.paths import local, shown

CLASS = ('cls', 'txt')  # members that hold the class of an example
ILSVRC = {'train': 'ILSVRC2012_img_train.tar', 'validation': 'ILSVRC2012_img_val.tar'}
DEVKIT = 'ILSVRC2012_devkit_t12.tar.gz'


def open_webdataset(place: str, data: ImageData, test_fraction: float | None) -> Listing:
  """Lists WebDataset shards: in each the members of an example share their name up to a dot.

  The class is in NAME.cls (a number) or NAME.txt, or, where data.label names it, in a member of
  another suffix or a key of NAME.json. The split is that of the shard's folder, or its name up to
  a hyphen: train-000000.tar.

  Raises:
    UserError: no shards, a compressed or damaged one, or an example without an image or class.
  """
  root = local(place)
  if not root.is_dir():
    raise UserError(f'data.dir {place!r} is not a folder; it should be one of .tar shards')
  shards = sorted(os.path.relpath(path, root) for path in root.rglob('*.tar'))
  if not shards:
    packed = next(root.rglob('*.tar.gz'), None) or next(root.rglob('*.tgz'), None)
    way = f'; unpack {shown(packed.name)} and the others by gunzip' if packed else ''
    raise UserError(f'{shown(root)} has no .tar shard{way}')
  members, rows, left_out = {}, [], defaultdict(list)
  for shard in shards:
    examples: dict[str, dict[str, Member]] = defaultdict(dict)
    for name, offset, size in tar_members(root / shard):
      folder, file = os.path.split(name)
      stem, _, suffix = file.partition('.')
      examples[os.path.join(folder, stem)][suffix.lower()] = Member(shard, offset, size)
    for stem, parts in examples.items():
      images = [suffix for suffix in parts if f'.{suffix}' in SUFFIXES]
      if data.image:
        images = [data.image] if data.image in parts else []
      key = f'{shard}/{stem}'
      if not images:
        left_out['without an image'].append(key)
      elif len(images) > 1:
        raise UserError(
          f'{shown(root / shard)}: {stem} has several images ({", ".join(images)}); name one, as '
          f'in --config.data.image={images[0]}'
        )
      else:
        members[key] = parts[images[0]]
        label = _label(root, shard, stem, parts, data)
        rows.append(Row(key, label, splits.of_path(shard)))
  return make(
    f'webdataset:{shown(root)}',
    Archives(root, members),
    rows,
    test_fraction=test_fraction,
    several=bool(data.label_separator) or any(len(row.labels) > 1 for row in rows),
    left_out=left_out,
  )


def _label(
  root: Path, shard: str, stem: str, parts: dict[str, Member], data: ImageData
) -> tuple[str, ...]:
  def text(suffix: str) -> str:
    return Archives(root, parts).read(suffix).decode('utf-8', 'replace').strip()

  def classes(value: Any) -> tuple[str, ...]:
    return classes_of(value, separator=data.label_separator)

  wanted = [data.label] if data.label else [suffix for suffix in CLASS if suffix in parts][:1]
  if wanted and wanted[0] in parts:
    return classes(text(wanted[0]))
  if 'json' in parts:
    try:
      values = json.loads(text('json'))
    except ValueError:
      raise UserError(f'{shown(root / shard)}: {stem}.json is no JSON') from None
    key = wanted[0] if wanted else 'label'
    if isinstance(values, dict) and key in values:
      return classes(values[key])
    if wanted or isinstance(values, dict):
      raise UserError(
        f'{shown(root / shard)}: {stem} has no {key!r}; name the key of its class by '
        f'--config.data.label, such as {first_few(list(values))}'
      )
  if wanted:
    raise UserError(
      f'config.data.label is {data.label!r}, but {shown(root / shard)}: {stem} has '
      f'{", ".join(sorted(parts))}'
    )
  return ()


def open_ilsvrc(place: str, data: ImageData, test_fraction: float | None) -> Listing:
  """Lists ImageNet's archives as they are published, without unpacking them.

  ILSVRC2012_img_train.tar has a tar per class, named by its WordNet id; ILSVRC2012_img_val.tar has
  images whose classes are in ILSVRC2012_devkit_t12.tar.gz, or if that is missing, for the 50,000
  images of the published one, in TFDS's list.

  Raises:
    UserError: an archive is missing or damaged, or the classes of validation are unknown.
  """
  root = local(place)
  present = {split: name for split, name in ILSVRC.items() if (root / name).is_file()}
  if not present:
    raise UserError(f'{shown(root)} has none of {", ".join(ILSVRC.values())}')
  members, rows = {}, []
  if train := present.get('train'):
    for name, start, _ in tar_members(root / train):
      wnid = Path(name).stem
      for inner, offset, length in tar_members(root / train, start):
        key = f'{train}/{wnid}/{os.path.basename(inner)}'
        members[key] = Member(train, offset, length)
        rows.append(Row(key, (wnid,), 'train'))
  if val := present.get('validation'):
    images = sorted(tar_members(root / val))
    for (name, offset, size), wnid in zip(
      images, _validation_classes(root, len(images)), strict=True
    ):
      key = f'{val}/{os.path.basename(name)}'
      members[key] = Member(val, offset, size)
      rows.append(Row(key, (wnid,), 'validation'))
  return make(f'ilsvrc:{shown(root)}', Archives(root, members), rows, test_fraction=test_fraction)


def _validation_classes(root: Path, count: int) -> list[str]:
  """The WordNet id of each validation image, in order of their names."""
  kit = root / DEVKIT
  if kit.is_file():
    import scipy.io  # here: it takes a while

    with tarfile.open(kit) as archive:
      found = {Path(member.name).name: member for member in archive if member.isfile()}
      truth, meta = found.get('ILSVRC2012_validation_ground_truth.txt'), found.get('meta.mat')
      if truth is None or meta is None:
        raise UserError(f'{shown(kit)} lacks meta.mat or the validation ground truth')
      numbers = [int(line) for line in archive.extractfile(truth).read().split()]  # type: ignore
      synsets = scipy.io.loadmat(archive.extractfile(meta), squeeze_me=True)['synsets']
    wnids = {int(each['ILSVRC2012_ID']): str(each['WNID']) for each in synsets}
    classes = [wnids[number] for number in numbers]
  else:
    listed = Path(tfds.__file__).parent / 'datasets' / 'imagenet2012' / 'validation_labels.txt'
    classes = listed.read_text().split() if listed.is_file() else []
  if len(classes) != count:
    raise UserError(
      f'{shown(root / ILSVRC["validation"])} has {count:,} images, but the classes of '
      f'{len(classes):,} are known; put {DEVKIT} beside it'
    )
  return classes
