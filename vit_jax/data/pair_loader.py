"""Batches of sentence pairs as a pure function of (seed, step), in few shapes.

A pair belongs to the first bucket that is as long as both of its sides, their end tokens included.
A bucket of length L has batches of `batch_size` // L rows, so that all have about as many tokens.
In an epoch the pairs of each bucket are permuted and cut into batches, and the batches of all
buckets are permuted: each pair comes exactly once. A process takes its rows of the global batch, so
a restart or another number of processes changes nothing.
"""

import functools
import logging
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np

from vit_jax.config.pairs import PairData
from vit_jax.data.pairs import PairSource
from vit_jax.data.vocabulary import Vocabularies, Vocabulary
from vit_jax.errors import UserError
from vit_jax.models.texts import END, PAD, UNKNOWN

CHUNK = 4096  # pairs encoded at a time

log = logging.getLogger(__name__)


class PairBatch(TypedDict):
  """This process's rows of a global batch. A row with `mask` False is padding and counts nowhere.

  A sentence is its tokens, the end token and padding; a row of padding is all padding.
  """

  source: np.ndarray  # int32 [b, S]
  target: np.ndarray  # int32 [b, T]
  mask: np.ndarray  # bool [b]
  index: np.ndarray  # int32 [b], position in the PairSource; -1 in a row of padding


class Bucket(NamedTuple):
  """Pairs of about one length, in batches of one shape."""

  length: int  # S and T
  rows: int  # of the global batch
  row_b: np.ndarray  # those of this process
  pair_n: np.ndarray  # indices of its pairs

  @property
  def num_batches(self) -> int:
    return -(-len(self.pair_n) // self.rows)


@dataclass(frozen=True)
class Ids:
  """The token ids of all sentences of a side, one after the other."""

  flat: np.ndarray  # int32
  start_N: np.ndarray  # int64
  length_N: np.ndarray  # int64, without the end token

  @classmethod
  def of(cls, vocabulary: Vocabulary, texts: Iterable[Sequence[str]]) -> 'Ids':
    """Encodes chunks of sentences."""
    flat, lengths = array('i'), array('q')
    for chunk in texts:
      for ids in vocabulary.encode(chunk):
        flat.extend(ids)
        lengths.append(len(ids))
    length_N = np.array(lengths, np.int64)
    return cls(np.array(flat, np.int32), np.cumsum(length_N) - length_N, length_N)

  def batch(self, pair_b: np.ndarray, length: int) -> np.ndarray:
    """The sentences of these pairs, cut to fit, with end and padding: int32 [b, length].

    A pair of -1 gives padding alone.
    """
    place_T = np.arange(length)
    present_b1 = (pair_b >= 0)[:, None]
    length_b1 = np.minimum(self.length_N[pair_b], length - 1)[:, None]
    flat_bT = np.minimum(self.start_N[pair_b][:, None] + place_T, len(self.flat) - 1)
    out_bT = np.where(place_T < length_b1, self.flat[flat_bT], PAD)
    return np.where(present_b1, np.where(place_T == length_b1, END, out_bT), PAD).astype(np.int32)

  def count(self, token: int, pair_n: np.ndarray) -> int:
    """How often a token occurs in these pairs."""
    found = np.flatnonzero(self.flat == token)
    return int(np.isin(np.searchsorted(self.start_N, found, side='right') - 1, pair_n).sum())


class PairLoader:
  """Encodes all pairs once and makes batches of them.

  Args:
    seed: of the order; an evaluation is not random.
    batch_size: of the global batch, in tokens of a side, padding included.
    train: an endless stream of epochs that leaves out pairs longer than `data.max_length`, or one
      ordered pass of `num_batches`, bucket by bucket, that cuts them.
    rows: gives this process's rows of a global batch of so many rows; all by default.

  Attributes:
    num_batches: batches of an epoch.
    num_examples: pairs of an epoch.
    shapes: (rows, S, T) of each bucket in use; a program is compiled for each.
    counts: batches of each of these buckets.
    left_out: training pairs that are too long.
    cut: pairs of an evaluation with a side that is cut.
    unknown: tokens of the pairs in use that are not in the vocabulary.

  Raises:
    UserError: no training pair fits, or a sentence has no tokens.

  `batch` may be called from several threads and for any step in any order. Each call returns fresh
  memory.
  """

  bad_records = 0  # sentences are checked when they are opened

  def __init__(
    self,
    source: PairSource,
    vocabularies: Vocabularies,
    data: PairData,
    *,
    seed: int,
    batch_size: int,
    train: bool,
    rows: Callable[[int], Sequence[int]] | None = None,
  ):
    self.source, self.data, self.train = source, data, train
    self.batch_size = batch_size
    self._seed = seed
    self._ids = [
      Ids.of(vocabulary, ([pair[side] for pair in pairs] for pairs in _chunks(source)))
      for side, vocabulary in enumerate(vocabularies)
    ]
    for name, ids in zip(('source', 'target'), self._ids, strict=True):
      if len(empty := np.flatnonzero(ids.length_N == 0)):
        raise UserError(
          f'{source.where(int(empty[0]))}: the {name} sentence has no tokens; remove the pair'
        )
    length_N = np.maximum(self._ids[0].length_N, self._ids[1].length_N) + 1
    too_long = int((length_N > data.max_length).sum())
    self.left_out, self.cut = (too_long, 0) if train else (0, too_long)
    if train and too_long == len(source):
      raise UserError(
        f'data.max_length is {data.max_length}, but every pair of data set {source.name!r}, split '
        f'{source.split!r} is longer: the shortest has {length_N.min()} tokens'
      )
    if too_long:
      log.warning(
        '%s: %s %s of %s pairs, which are longer than data.max_length=%s tokens',
        f'{source.name} {source.split}', 'left out' if train else 'cut', f'{too_long:,}',
        f'{len(source):,}', data.max_length,
      )  # fmt: skip
    buckets_L = np.array(data.buckets)
    place_N = np.searchsorted(buckets_L, length_N if train else np.minimum(length_N, buckets_L[-1]))
    self._buckets: list[Bucket] = []
    for place, length in enumerate(data.buckets):
      pair_n = np.flatnonzero(place_N == place)
      if len(pair_n):
        count = data.rows(length, batch_size)
        row_b = np.array(range(count) if rows is None else rows(count), np.int64)
        self._buckets.append(Bucket(length, count, row_b, pair_n))
    self._table = [
      (bucket, number) for bucket in self._buckets for number in range(bucket.num_batches)
    ]
    used_n = np.concatenate([bucket.pair_n for bucket in self._buckets])
    self.counts = [bucket.num_batches for bucket in self._buckets]
    self.num_examples, self.num_batches = len(used_n), len(self._table)
    self.unknown = sum(ids.count(UNKNOWN, used_n) for ids in self._ids)
    if self.unknown:
      log.warning(
        '%s %s: %s tokens are not in the vocabulary', source.name, source.split, f'{self.unknown:,}'
      )
    self.shapes = [(bucket.rows, bucket.length, bucket.length) for bucket in self._buckets]
    self._permutation = functools.lru_cache(maxsize=2 * len(self._buckets) + 2)(self._draw)

  def batch(self, step: int) -> PairBatch:
    """This process's rows of the global batch `step`.

    Raises:
      IndexError: beyond the end of an evaluation.
    """
    epoch, place = divmod(step, self.num_batches)
    if self.train:
      place = self._permutation(epoch, 0, self.num_batches)[place]
    elif epoch:
      raise IndexError(f'batch {step} of {self.num_batches}')
    bucket, number = self._table[place]
    order_n, count = bucket.pair_n, len(bucket.pair_n)
    if self.train:
      order_n = order_n[self._permutation(epoch, bucket.length, count)]
    position_b = number * bucket.rows + bucket.row_b
    pair_b = np.where(position_b < count, order_n[np.minimum(position_b, count - 1)], -1)
    source, target = (ids.batch(pair_b, bucket.length) for ids in self._ids)
    return PairBatch(source=source, target=target, mask=pair_b >= 0, index=pair_b.astype(np.int32))

  def _draw(self, epoch: int, length: int, count: int) -> np.ndarray:
    """A permutation of the pairs of a bucket, or of all batches with `length` 0."""
    return np.random.default_rng([self._seed, epoch, length]).permutation(count)


def _chunks(source: PairSource) -> Iterable[list[tuple[str, str]]]:
  for start in range(0, len(source), CHUNK):
    yield source.read(range(start, min(start + CHUNK, len(source))))
