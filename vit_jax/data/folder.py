"""Image folders: one sub-folder per class, with or without a test part of their own."""

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.data import identity, splits
from vit_jax.errors import UserError
from vit_jax.paths import local

SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp')
HELD_OUT = ('test', 'val', 'validation')  # if there is only one part, each of these names it


@dataclass
class FolderSource:
  """A `Source` of files, which `open_folder` makes."""

  name: str
  split: str
  class_names: tuple[str, ...]
  files: tuple[str, ...] = field(repr=False)  # relative to root
  labels: np.ndarray = field(repr=False)
  root: Path
  metadata: dict[str, Any] = field(default_factory=dict)

  def __len__(self) -> int:
    return len(self.files)

  def read(self, indices: Sequence[int]) -> list[tuple[bytes | np.ndarray, int]]:
    return [((self.root / self.files[i]).read_bytes(), int(self.labels[i])) for i in indices]

  def label_sets(self) -> None:
    return None

  def column(self, name: str) -> np.ndarray | None:
    return self.labels if name == 'label' else None

  def groups(self) -> np.ndarray:
    return np.arange(len(self))[:, None]

  def where(self, index: int) -> str:
    return str(self.root / self.files[index])

  def digest(self) -> str:
    stamps = identity.stamps(self.root, self.files, times=False)
    return identity.digest(stamps, self.labels, self.class_names, identity.sample(self))

  def content(self) -> bytes:
    return identity.stamps(self.root, self.files, times=True) + self.labels.tobytes()


def open_folder(directory: str, split: str, test_fraction: float) -> FolderSource:
  """Opens a split of an image folder.

  The folder contains either train/ and at least one of test/, val/, validation/, each with one
  sub-folder per class, or the class folders themselves; then `test_fraction` of the files are
  'test', chosen by a hash of their path below the folder, so that adding files moves none. Files
  are ordered by that hash: a slice such as 'train[:10%]' is a fair sample. Class folders are
  searched to any depth; names that begin with a dot are skipped.

  Raises:
    UserError: no folder, no classes, an empty class, a class that is not in train/.
  """
  if not directory:
    raise UserError("data.name 'folder' needs data.dir: a folder with one sub-folder per class")
  root = local(directory)
  if not root.is_dir():
    raise UserError(
      f'data.dir {directory!r} is not a folder; it should be one with a sub-folder per class'
    )
  top = _folders(root)
  parts = [part for part in ('train', *HELD_OUT) if part in top] if 'train' in top else ['']
  files = {part: _scan(root, part) for part in parts}
  class_names = tuple(sorted(files[parts[0]]))
  examples = {}
  for part, files_by_class in files.items():
    if strange := sorted(set(files_by_class) - set(class_names)):
      raise UserError(
        f'{root / part / strange[0]} is a class that {root / "train"} does not have; both '
        'should have the same class folders'
      )
    pairs = [
      (file, class_names.index(name)) for name in files_by_class for file in files_by_class[name]
    ]
    examples[part] = sorted(pairs, key=lambda pair: (_hash(pair[0]), pair[0]))
  if '' in examples:
    first, pairs = test_fraction * 2**32, examples.pop('')
    examples['train'] = [pair for pair in pairs if _hash(pair[0]) >= first]
    examples['test'] = [pair for pair in pairs if _hash(pair[0]) < first]
  held_out = [part for part in HELD_OUT if part in examples]
  if len(held_out) == 1:  # 'test' also means val/, and the other way round
    examples |= dict.fromkeys(HELD_OUT, examples[held_out[0]])
  import tensorflow_datasets as tfds  # here: those who predict images need none of it

  infos = {part: tfds.core.SplitInfo(part, [len(pairs)], 0) for part, pairs in examples.items()}
  name, chosen = f'folder:{root}', []
  for part, start, end in splits.pieces(name, split, infos):
    chosen += examples[part][start:end]
  labels = np.array([label for _, label in chosen], np.int32)
  return FolderSource(name, split, class_names, tuple(file for file, _ in chosen), labels, root)


def _scan(root: Path, part: str) -> dict[str, list[str]]:
  """Class name -> image files, relative to root."""
  base = root / part
  classes = _folders(base)
  if not classes:
    raise UserError(
      f'{base} has no class folders; it should have one sub-folder of images per class'
    )
  files_by_class = {}
  for name in classes:
    files = []
    for directory, inner, names in os.walk(base / name):
      inner[:] = [folder for folder in inner if not folder.startswith('.')]
      files += [
        os.path.relpath(os.path.join(directory, file), root)
        for file in names
        if file.lower().endswith(SUFFIXES) and not file.startswith('.')
      ]
    if not files:
      raise UserError(
        f'class folder {base / name} has no image ({", ".join(SUFFIXES)}); fill or remove it'
      )
    files_by_class[name] = files
  return files_by_class


def _folders(directory: Path) -> list[str]:
  with os.scandir(directory) as entries:
    return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith('.'))


def _hash(file: str) -> int:
  """32 bits; the same on every machine."""
  return zlib.crc32(file.replace(os.sep, '/').encode())
