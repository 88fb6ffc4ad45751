"""Image folders: one sub-folder per class, with or without folders of splits above them.

The one place that looks for images in a folder: to train on, to judge, and to predict.
"""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vit_jax.config import ImageData
from vit_jax.data import splits
from vit_jax.data.decode import SNIFFED, SUFFIXES, is_image
from vit_jax.data.listing import Listing, Row, make
from vit_jax.data.stores import Files
from vit_jax.errors import UserError, first_few
from vit_jax.paths import local, shown
from vit_jax.reads import is_special


class Scan(NamedTuple):
  """What is in a folder, by path below it, in order of names."""

  images: list[str]
  folders: dict[str, list[str]]  # folder -> names of the folders in it
  left_out: dict[str, list[str]]  # reason -> files and links


def scan(root: Path, base: str = '') -> Scan:
  """All images in `root`/`base`, at any depth; links are followed, but never in a circle.

  A file with a suffix that is no image's, or none, is an image if it begins like one. Names that
  begin with a dot are left out.
  """
  images, folders, left_out = [], defaultdict(list), defaultdict(list)

  def walk(below: str, above: frozenset[tuple[int, int]]) -> None:
    try:
      entries = sorted(os.scandir(root / below), key=lambda entry: entry.name)
    except OSError:
      left_out['unreadable folders'].append(below)
      return
    for entry in entries:
      path = os.path.join(below, entry.name)
      if entry.name.startswith('.'):
        left_out['hidden'].append(path)
        continue
      try:
        status = entry.stat()
        is_dir = entry.is_dir()
      except OSError:
        left_out['broken links'].append(path)
        continue
      identity = status.st_dev, status.st_ino
      if is_dir and identity in above:
        left_out['links in a circle'].append(path)
      elif is_dir:
        folders[below].append(entry.name)
        walk(path, above | {identity})
      elif is_special(status.st_mode):
        left_out['pipes, sockets and devices'].append(path)
      elif _is_image(root / path):
        images.append(path)
      else:
        left_out[_reason(path)].append(path)

  status = os.stat(root / base)
  walk(base, frozenset({(status.st_dev, status.st_ino)}))
  return Scan(images, dict(folders), dict(left_out))


def _is_image(path: Path) -> bool:
  if path.suffix.lower() in SUFFIXES:
    return True
  try:
    with open(path, 'rb') as file:
      return is_image(file.read(SNIFFED))
  except OSError:
    return False


def _reason(path: str) -> str:
  suffix = shown(os.path.splitext(path)[1].lower())
  return f'{suffix} files' if suffix else 'files without a suffix that are no images'


def open_folder(directory: str, data: ImageData, test_fraction: float | None) -> Listing:
  """Lists an image folder.

  The folder contains class folders, or folders of splits, each with class folders. Split folders
  are called train, val, test or as `splits.SPELLINGS` says. Class folders are searched to any
  depth, and their sub-folders (videos, patients) are groups.

  Args:
    data: `layout` says what the folders at the top are, where their names do not; with `group_by`
      'file' no sub-folder is a group.
    test_fraction: of a folder without a held-out split, the share drawn for 'test'; None: all of it
      is judged.

  Raises:
    UserError: no folder, no classes, an empty class, a class that is not in train, or folders of
      which it is not clear whether they are splits or classes.
  """
  root = local(directory)
  if not root.is_dir():
    raise UserError(
      f'data.dir {directory!r} is not a folder; it should be one with a sub-folder per class'
    )
  if data.group_by not in ('', 'file'):
    raise UserError(
      f"config.data.group_by is {data.group_by!r}; of a folder it must be '', where the "
      "sub-folders of a class are groups, or 'file'"
    )
  found = scan(root)
  bases = _bases(root, found, data.layout)
  by_class = {base: _by_class(found, base) for base in bases}
  names = {split: sorted(by_class[base]) for base, split in bases.items()}
  classes = names.get('train') or sorted({name for each in names.values() for name in each})
  for base in bases:
    _check_classes(root / base, found.folders.get(base, []), by_class[base])
  if '' in bases:
    _check_height(root, found.folders, classes)
  if test_fraction is not None and len(classes) == 1:
    base = next((base for base, split in bases.items() if split == 'train'), min(bases))
    raise _one_class(root, found.folders, base, classes[0])
  rows, used = [], set()
  for base, split in bases.items():
    for name, files in by_class[base].items():
      depth = None if data.group_by else _depth_of_groups([parts for _, parts in files])
      for path, parts in files:
        group = ''
        if depth is not None and len(parts) > depth + 1:
          group = os.path.join(base, *parts[: depth + 1])
        rows.append(Row(path, (shown(name),), split, group))
        used.add(path)
  outside = [path for path in found.images if path not in used]
  left_out = {**found.left_out, 'outside of class folders': outside}
  return make(
    f'folder:{shown(root)}',
    Files(root),
    rows,
    test_fraction=test_fraction,
    class_names=[shown(name) for name in classes],
    left_out={reason: paths for reason, paths in left_out.items() if paths},
  )


Paths = list[tuple[str, list[str]]]  # path below the root, and its parts below the splits


def _by_class(found: Scan, base: str) -> dict[str, Paths]:
  """Class folder of `base` -> its images."""
  head, files = f'{base}{os.sep}' if base else '', defaultdict(list)
  for path in found.images:
    parts = path[len(head) :].split(os.sep)
    if path.startswith(head) and len(parts) > 1:
      files[parts[0]].append((path, parts))
  return dict(files)


def _bases(root: Path, found: Scan, layout: str) -> dict[str, str]:
  """Folder of class folders -> its split; '' -> '' if there are no folders of splits."""
  full = set(_by_class(found, ''))
  tops = found.folders.get('', [])
  named = {name: split for name in tops if (split := splits.canonical(name))}
  others = [name for name in tops if name in full and name not in named]
  if layout == 'classes' or (layout == 'auto' and not named):
    return {'': ''}
  if layout == 'auto' and others:
    # A class may be called train: then it has images, or no class that another split has.
    if all(_has_images(found, name) for name in named):
      return {'': ''}
    inner = [set(found.folders.get(name, [])) for name in named]
    if len(inner) < 2 or not set.intersection(*inner):
      raise UserError(
        f'{shown(root)} has {first_few(list(named))}, which names a split, beside '
        f'{first_few(others)}, which do not; say which they are by --config.data.layout=classes '
        "or 'splits'"
      )
  if not named:
    raise UserError(
      f'{shown(root)} has no folder of a split (train, val, test), but config.data.layout is '
      "'splits'; set it to 'classes'"
    )
  for name, split in named.items():
    if twin := [other for other in named if named[other] == split and other != name]:
      raise UserError(
        f'{shown(root)} has {name} and {twin[0]}, which both name the split {split!r}; keep one'
      )
  return named


def _check_height(root: Path, folders: Mapping[str, list[str]], classes: Sequence[str]) -> None:
  """Refuses a folder of classes below which are the splits."""

  def splits_in(folder: str) -> list[str]:
    return [name for name in folders.get(folder, []) if splits.canonical(name)]

  if len(classes) > 1 and all(splits_in(name) for name in classes):
    name, split = classes[0], splits_in(classes[0])[0]
    raise UserError(
      f'every class folder of {shown(root)} has splits inside, as {shown(name)}/{split}; put the '
      f'split above the class, as {split}/{shown(name)}'
    )
  for name in classes:
    below = name
    while not splits_in(below) and len(folders.get(below, [])) == 1:
      below = os.path.join(below, folders[below][0])
    # A class may have a folder called train, but the only one hardly has.
    if len({splits.canonical(split) for split in splits_in(below)}) > (len(classes) > 1):
      place = shown(root / below)
      raise UserError(
        f'{shown(root)} has no folders of splits, but {place} has {first_few(splits_in(below))}; '
        f'the folder to name is probably {place}'
      )


def _one_class(root: Path, folders: Mapping[str, list[str]], base: str, name: str) -> UserError:
  below = os.path.join(base, name)
  way, deeper = 'two or more are needed to learn them', folders.get(below, [])
  if len(deeper) > 1 and not base:
    way = f'the folder to name is probably {shown(root / below)}, which has {len(deeper)} folders'
  return UserError(f'{shown(root / base)} has one class folder, {shown(name)}; {way}')


def _check_classes(base: Path, names: Sequence[str], by_class: Mapping[str, Paths]) -> None:
  if not by_class:
    raise UserError(
      f'{shown(base)} has no class folders with images; it should have one sub-folder of images '
      'per class'
    )
  if empty := [name for name in names if name not in by_class]:
    raise UserError(
      f'class folder {shown(base / empty[0])} has no image ({", ".join(SUFFIXES)}); fill or '
      'remove it'
    )


def _depth_of_groups(paths: Sequence[Sequence[str]]) -> int | None:
  """How many folders below the class the groups are; None if there are no sub-folders.

  A folder that holds all of the class, as in CLASS/images/*.jpg, is no group.
  """
  depth = 1
  while all(len(parts) > depth + 1 for parts in paths):
    if len({parts[depth] for parts in paths}) > 1:
      return depth
    depth += 1
  return depth if any(len(parts) > depth + 1 for parts in paths) else None


def _has_images(found: Scan, name: str) -> bool:
  """Whether a folder at the top holds images itself."""
  head = name + os.sep
  return any(path.startswith(head) and os.sep not in path[len(head) :] for path in found.images)
