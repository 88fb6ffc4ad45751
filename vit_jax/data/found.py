"""What was found in the data, said once at the start of a run, and in full in its folder."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vit_jax.data.decode import READ_ERRORS
from vit_jax.data.listing import Listing
from vit_jax.data.pixels import AS_SEEN, Pixels, remarks
from vit_jax.data.sources import listing_of
from vit_jax.data.stores import Store

HEAD = 8192  # bytes of a file that are compared first
PROBED = 16  # images whose pixels are looked at
COMPARED = 50_000  # files of one split at most that are compared with those of others


@dataclass(frozen=True)
class Found:
  """What a data set has, in numbers.

  Attributes:
    counts: split -> number of examples of each class, int [K].
    examples: split -> number of examples.
    left_out: reason -> names of what is no example.
    duplicates: (split, split) -> pairs of examples that are the same byte by byte.
    unread: examples whose content was not compared, because there are too many.
    pixels: what is decided about stored pixels -> number of PROBED images that it holds for.
  """

  name: str
  class_names: tuple[str, ...]
  examples: Mapping[str, int]
  counts: Mapping[str, np.ndarray]
  left_out: Mapping[str, Sequence[str]]
  notes: tuple[str, ...]
  duplicates: Mapping[tuple[str, str], Sequence[tuple[str, str]]]
  unread: int = 0
  pixels: Mapping[str, int] = field(default_factory=dict)

  @property
  def line(self) -> str:
    """One line for a person."""
    K = len(self.class_names)
    parts = ', '.join(f'{split} {count:,}' for split, count in self.examples.items())
    words = [f'{K:,} classes', parts]
    if K > 1:
      first = 'train' if 'train' in self.counts else next(iter(self.counts))
      count_K = self.counts[first]
      low, high = int(count_K.argmin()), int(count_K.argmax())
      if count_K[low] == count_K[high]:
        words.append(f'{first} has {count_K[low]:,} of each class')
      else:
        words.append(
          f'{first} has {count_K[low]:,} (class {self.class_names[low]}) to {count_K[high]:,} '
          f'({self.class_names[high]}) per class'
        )
    words += self.notes
    words += [
      f'of the first {PROBED} images {count:,} {what}' for what, count in self.pixels.items()
    ]
    if self.left_out:
      reasons = (f'{len(files):,} {reason}' for reason, files in self.left_out.items())
      words.append(f'left out: {", ".join(reasons)}')
    for (one, other), pairs in self.duplicates.items():
      words.append(f'{len(pairs):,} images of {other} are in {one}, byte by byte')
    if self.unread:
      words.append(f'{self.unread:,} images not compared across splits')
    return f'data: {self.name}: {"; ".join(words)}'

  def details(self) -> dict[str, Any]:
    """The same in full, as JSON can hold it."""
    return {
      'name': self.name,
      'line': self.line,
      'examples': dict(self.examples),
      'classes': {
        name: {split: int(count_K[k]) for split, count_K in self.counts.items()}
        for k, name in enumerate(self.class_names)
      },
      'notes': list(self.notes),
      'pixels': dict(self.pixels),
      'left_out': {reason: list(files) for reason, files in self.left_out.items()},
      'duplicates': [
        {'splits': list(splits), 'files': list(pair)}
        for splits, pairs in self.duplicates.items()
        for pair in pairs
      ],
      'not_compared': self.unread,
    }


def found(listing: Listing, how: Pixels = AS_SEEN) -> Found:
  """Reads the first bytes of the files that have the size of one in another split.

  Args:
    how: as the images will be read.
  """
  K = len(listing.class_names)
  counts = {}
  for split, index_n in listing.parts.items():
    if listing.right_N is None:
      labels = listing.labels_N[index_n]
    else:
      labels = np.array([k for i in index_n.tolist() for k in listing.right_N[i]], int)
    counts[split] = np.bincount(labels[labels >= 0], minlength=K)
  duplicates, unread = _duplicates(listing)
  where = listing.store.where
  return Found(
    listing.name,
    listing.class_names,
    {split: len(index_n) for split, index_n in listing.parts.items()},
    counts,
    {why: [where(key) for key in keys] for why, keys in listing.left_out.items()},
    listing.notes,
    {
      splits: [(where(one), where(other)) for one, other in pairs]
      for splits, pairs in duplicates.items()
    },
    unread,
    _pixels(listing, how),
  )


def found_in(used: Iterable[Any], how: Pixels) -> list[Found]:
  """What was found of each listing that these sources are parts of, read as `how` says."""
  kept = {}
  for source in used:
    if listing := listing_of(source):
      kept.setdefault((listing.name, listing.notes), listing)
  return [found(listing, how) for listing in kept.values()]


def _pixels(listing: Listing, how: Pixels) -> dict[str, int]:
  """What is decided about the pixels of the first images, which are a fair sample."""
  said = Counter()
  for key in listing.keys[:PROBED]:
    try:
      said.update(remarks(listing.store.read(key), how))
    except READ_ERRORS:
      continue  # whoever reads it reports it
  return dict(said)


def _duplicates(
  listing: Listing,
) -> tuple[dict[tuple[str, str], list[tuple[str, str]]], int]:
  """Pairs of equal content in two splits, and how many examples were not compared.

  Sizes are compared first, then the first bytes, and only what still agrees is read in full.
  """
  keys, store, unread = listing.keys, listing.store, 0
  if len(listing.parts) > 1 and not store.seeks:
    return {}, len(keys)
  part_of = {}
  for split, index_n in listing.parts.items():
    unread += max(len(index_n) - COMPARED, 0)
    part_of |= dict.fromkeys(index_n[:COMPARED].tolist(), split)
  groups = [list(part_of)]
  for mark in (_size, _head, _whole):
    groups = [part for group in groups for part in _split_by(mark, group, keys, store, part_of)]
  pairs = defaultdict(list)
  for group in groups:
    first = min(group, key=lambda i: (part_of[i] != 'train', part_of[i], keys[i]))
    for i in group:
      if part_of[i] != part_of[first]:
        pairs[part_of[first], part_of[i]].append((keys[first], keys[i]))
  return dict(pairs), unread


def _split_by(
  mark: Any, group: list[int], keys: Sequence[str], store: Store, part_of: Mapping[int, str]
) -> list[list[int]]:
  """Parts of a group whose mark is the same, and that are in more than one split."""
  parts = defaultdict(list)
  for i in group:
    try:
      parts[mark(store, keys[i])].append(i)
    except OSError:
      continue  # whoever reads it reports it
  return [part for part in parts.values() if len({part_of[i] for i in part}) > 1]


def _size(store: Store, key: str) -> int:
  return store.size(key)


def _head(store: Store, key: str) -> bytes:
  return hashlib.sha256(store.head(key, HEAD)).digest()


def _whole(store: Store, key: str) -> bytes:
  return hashlib.sha256(store.read(key)).digest()
