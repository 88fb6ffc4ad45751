"""Sentence pairs by random access: our data sets, built once, and folders of the user."""

import importlib
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds

from vit_jax.config.pairs import PairData
from vit_jax.data import pair_files, splits
from vit_jax.data.datasets import remove_stale
from vit_jax.data.identity import digest
from vit_jax.data.pair_files import Lines, Links
from vit_jax.data.pair_sets import MODULES
from vit_jax.errors import UserError, nearest, writing
from vit_jax.paths import local

FOLDER = 'pairs'  # 'pairs:DIR' is a folder of the user


class Piece(NamedTuple):
  """Consecutive lines of a stored split, from `start`."""

  files: tuple[Path, ...]
  start: int
  count: int


@dataclass(frozen=True, eq=False)
class PairSource:
  """The pairs of a split; `open_pairs` makes it. Reading is safe from several threads."""

  name: str
  split: str
  pieces: tuple[Piece, ...] = field(repr=False)
  sources: Lines = field(repr=False)
  targets: Lines = field(repr=False)
  link_lines: Lines | None = field(repr=False)

  def __len__(self) -> int:
    return len(self.sources)

  def read(self, indices: Sequence[int]) -> list[tuple[str, str]]:
    """(source, target) of each index."""
    return [(self.sources[i], self.targets[i]) for i in indices]

  def links(self, index: int) -> Links | None:
    """Which (source word, target word) belong together, from 0; None: not known.

    Words are what `str.split` gives.
    """
    return None if self.link_lines is None else pair_files.parse_links(self.link_lines[index])

  def where(self, index: int) -> str:
    """File and line of a pair."""
    line = index
    for piece in self.pieces:
      if line < piece.count:
        break
      line -= piece.count
    return f'{piece.files[0]}, line {piece.start + line + 1}'

  def digest(self) -> str:
    """Identifies all text and links, and their order; the same on every machine."""
    links = None if self.link_lines is None else self.link_lines.text
    return digest(self.sources.text, self.targets.text, links)


def open_pairs(data: PairData, split: str, data_dir: Path) -> PairSource:
  """Opens a split of the data set that `data` names; prepares it first if it is one of ours.

  Args:
    split: in TFDS split syntax: 'train', 'test', 'train[:2000]'.
    data_dir: where prepared data sets are stored.

  Raises:
    UserError: unknown name (with the nearest ones), no such folder or split, or lines that are no
      pairs (see `pair_files`).
  """
  kind, _, place = data.name.partition(':')
  if kind == FOLDER:
    if not (place or data.dir):
      raise UserError(f"data.name is {data.name!r}; it needs a folder, as in 'pairs:DIR'")
    folder = local(place or data.dir)
  else:
    folder = prepare_pairs(data.name, data_dir)
  infos = {
    name: tfds.core.SplitInfo(name, [size], 0) for name, size in pair_files.sizes(folder).items()
  }
  pieces, source, target, links = [], [], [], []
  linked = False
  for name, start, end in splits.pieces(data.name, split, infos):
    stored = pair_files.read(folder, name)
    pair_files.check(stored, start, end, folder, name)
    pieces.append(Piece(stored.files, start, end - start))
    source += stored.source[start:end]
    target += stored.target[start:end]
    links += stored.links[start:end] if stored.links else [b''] * (end - start)
    linked |= stored.links is not None
  return PairSource(
    name=data.name,
    split=split,
    pieces=tuple(pieces),
    sources=Lines.of(source),
    targets=Lines.of(target),
    link_lines=Lines.of(links) if linked else None,
  )


def is_ours(name: str) -> bool:
  """Whether a name means pairs of sentences, rather than images."""
  base = name.partition(':')[0]
  return base in {FOLDER, *(known.partition(':')[0] for known in MODULES)}


def prepare_pairs(name: str, data_dir: Path) -> Path:
  """Finds one of our sets of pairs in `data_dir`, or builds it there.

  It is built in another folder and renamed when complete: a killed preparation leaves nothing that
  looks like a data set, and of several processes the first to finish wins.

  Returns:
    The folder of its version, in the format of `pair_files`.

  Raises:
    UserError: not one of ours, a package it is made from is not installed, or `data_dir` cannot be
      written.
  """
  if name.partition(':')[0] == FOLDER:
    raise UserError('a folder of pairs is read as it is: there is nothing to prepare')
  if name not in MODULES:
    raise UserError(f'there is no set of pairs {name!r}; {nearest(name, [*MODULES, "pairs:DIR"])}')
  data_dir = data_dir.absolute()
  module = importlib.import_module(f'vit_jax.data.pair_sets.{MODULES[name]}')
  parent = data_dir.joinpath(*name.split(':'))
  directory = parent / module.VERSION
  if directory.is_dir():
    return directory
  splits_of_it = module.splits(name.partition(':')[2], data_dir)
  with writing(parent):
    parent.mkdir(parents=True, exist_ok=True)
    remove_stale(parent, 'incomplete.*')
    fresh = parent / f'incomplete.{secrets.token_hex(4)}_{module.VERSION}'
    fresh.mkdir()
    try:
      for split, pairs in splits_of_it.items():
        pair_files.write(fresh, split, pairs)
      try:
        fresh.rename(directory)
      except OSError:
        if not directory.is_dir():  # else another process was faster
          raise
    finally:
      shutil.rmtree(fresh, ignore_errors=True)
  print(f'prepared data set {name} in {directory}', flush=True)
  return directory
