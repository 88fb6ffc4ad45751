"""Batches as a pure function of (seed, step), and prefetching them.

The training stream is one long sequence: position p = step * batch + row shows example
permutation(seed, p // n)[(p % n) // repeats] of the n examples. So each example comes exactly once
per epoch, even if the batch size does not divide n, and a process takes its rows of the global
batch: a restart or another number of processes changes nothing. With data.repeats = r > 1, an epoch
is still n positions: it shows ceil(n / r) examples, drawn anew for each, r times in a row (the last
one as often as there is room), as repeated augmentation in DeiT does. With data.balance > 0,
rare classes are shown more often: an epoch is still n positions (`balanced`).
"""

import collections
import functools
import logging
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NotRequired, TypedDict

import numpy as np

from vit_jax.config import Augment, ImageData
from vit_jax.data import decode, sources
from vit_jax.data.sources import Record, Source, targets, unreadable
from vit_jax.data.train_view import TrainView
from vit_jax.data.view import View, inputs_of
from vit_jax.errors import UserError

CACHE_BYTES = 512 * 2**20  # what data.cache='auto' may take
CACHE_PROBES = 16  # images read to estimate the size of them all
CHUNKS = 4  # pieces of a batch per thread

log = logging.getLogger(__name__)


class Batch(TypedDict):
  """This process's rows of a global batch.

  A row with `mask` False must not count anywhere: padding at the end of an evaluation, whose index
  is -1, or a skipped bad record. Its image is black and its label 0.
  """

  image: np.ndarray  # uint8 [b, H, W, C]
  label: np.ndarray  # int32 [b]
  mask: np.ndarray  # bool [b]
  index: np.ndarray  # int32 [b], position in the source
  # float32 [b, K], of training with data.soft_label, or on sets of classes (1 for each).
  soft_label: NotRequired[np.ndarray]


class Loader:
  """Decodes a process's rows of each global batch on threads.

  `batch` may be called from several threads and for any step in any order. Each call returns
  fresh memory, which the device may keep without a copy.

  Args:
    seed: of order, crops, flips and policies; evaluation is not random.
    batch_size: of the global batch.
    train: an endless shuffled and augmented stream, or one ordered pass of `num_batches`.
    rows: this process's rows of the global batch; all by default.
    view: how an evaluation sees an image; by default as `data` says.
    augment: what training does to images, of which this is what the loader does.

  Raises:
    UserError: there are no such soft labels.
  """

  def __init__(
    self,
    source: Source,
    data: ImageData,
    *,
    seed: int,
    batch_size: int,
    train: bool,
    rows: slice | Sequence[int] | None = None,
    view: View | None = None,
    augment: Augment | None = None,
  ):
    self.source = source
    self.data = data
    self.batch_size = batch_size
    self.train = train
    self._rows_b = np.arange(batch_size, dtype=np.int64)[slice(None) if rows is None else rows]
    self._seed = seed
    self._view = view or View.of(inputs_of(data))
    self._train_view = TrainView(data, augment or Augment(), self._view) if train else None
    self.threads = data.threads or decode.cores()
    self._pool = decode.thread_pool(self.threads)
    self._permutation = functools.lru_cache(maxsize=2)(self._draw_permutation)
    self._bad: set[int] = set()
    self._bad_lock = threading.Lock()
    cached = data.cache == 'always' or (data.cache == 'auto' and self._fits())
    self._cache: dict[int, tuple[Record, int]] | None = {} if cached else None
    self._targets_NK = targets(source, data) if train else None
    self._labels_N = sources.labels(source) if train and data.balance else None

  @property
  def num_batches(self) -> int:
    """Batches that show every example at least once: the length of an evaluation."""
    return -(-len(self.source) // self.batch_size)

  @property
  def bad_records(self) -> int:
    """Records skipped so far, each counted once."""
    return len(self._bad)

  def batch(self, step: int) -> Batch:
    """Rows of the global batch `step`; raises UserError for a bad record if the recipe says so."""
    position_b = step * self.batch_size + self._rows_b
    index_b = self._index(position_b)
    b = len(index_b)
    batch = Batch(
      image=np.zeros((b, *self._view.image_shape), np.uint8),
      label=np.zeros(b, np.int32),
      mask=index_b >= 0,
      index=index_b.astype(np.int32),
    )
    if self._targets_NK is not None:
      batch['soft_label'] = self._targets_NK[index_b].astype(np.float32)
    uniform_bU = None
    if self._train_view:
      uniform_bU = uniforms(self._seed, position_b, self._train_view.count)
    present = np.flatnonzero(index_b >= 0)
    pieces = np.array_split(present, min(len(present), CHUNKS * self.threads) or 1)
    list(self._pool.map(lambda piece: self._fill(batch, piece, uniform_bU), pieces))
    return batch

  def _index(self, position_b: np.ndarray) -> np.ndarray:
    n = len(self.source)
    if not self.train:
      return np.where(position_b < n, position_b, -1)
    epoch_b, offset_b = np.divmod(position_b, n)
    index_b = np.empty_like(position_b)
    for epoch in np.unique(epoch_b).tolist():
      here = epoch_b == epoch
      index_b[here] = self._permutation(epoch)[offset_b[here] // self.data.repeats]
    return index_b

  def _draw_permutation(self, epoch: int) -> np.ndarray:
    rng = np.random.default_rng([self._seed, epoch])
    if self._labels_N is None:
      return rng.permutation(len(self.source))
    return balanced(self._labels_N, self.data.balance, rng)

  def _fill(self, batch: Batch, piece: np.ndarray, uniform_bU: np.ndarray | None) -> None:
    indices = batch['index'][piece].tolist()
    for row, index, loaded in zip(piece.tolist(), indices, self._load(indices), strict=True):
      try:
        if isinstance(loaded, Exception):
          raise loaded
        record, batch['label'][row] = loaded
        if self._train_view and uniform_bU is not None:
          self._train_view(record, batch['image'][row], uniform_bU[row])
        else:
          self._view(record, batch['image'][row])
      except decode.READ_ERRORS as error:
        self._report(index, error)
        batch['mask'][row], batch['label'][row], batch['image'][row] = False, 0, 0

  def _load(self, indices: list[int]) -> list[tuple[Record, int] | Exception]:
    """Records with their labels, or the error of each; from the cache if it is on."""
    cache = self._cache
    if cache is None:
      return self._read(indices)
    missing = [index for index in indices if index not in cache]
    fresh = dict(zip(missing, self._read_cacheable(missing), strict=True))
    cache |= {i: loaded for i, loaded in fresh.items() if not isinstance(loaded, Exception)}
    return [fresh[index] if index in fresh else cache[index] for index in indices]

  def _read_cacheable(self, indices: list[int]) -> list[tuple[Record, int] | Exception]:
    out = self._read(indices)
    for i, loaded in enumerate(out):
      if not isinstance(loaded, Exception):
        try:
          out[i] = decode.cacheable(loaded[0], self._view.channels, self._view.pixels), loaded[1]
        except decode.READ_ERRORS as error:
          out[i] = error
    return out

  def _read(self, indices: list[int]) -> list[tuple[Record, int] | Exception]:
    if not indices:
      return []
    try:
      return list(self.source.read(indices))
    except decode.READ_ERRORS as error:
      if len(indices) == 1:
        return [error]
      return [self._read([index])[0] for index in indices]

  def _report(self, index: int, error: Exception) -> None:
    sentence = unreadable(self.source, index, error)
    if self.data.on_bad_record == 'raise':
      raise UserError(f"{sentence}; repair it, or skip it with data.on_bad_record='skip'")
    with self._bad_lock:
      first = index not in self._bad
      self._bad.add(index)
    if first:
      log.warning('skipped: %s', sentence)

  def _fits(self) -> bool:
    """Whether a cache of all images takes less than CACHE_BYTES, estimated from a few."""
    n = len(self.source)
    probes = sorted({n * i // CACHE_PROBES for i in range(CACHE_PROBES)})
    found = self._read_cacheable(probes)  # what cannot be read is reported when it is shown
    records = [each[0] for each in found if not isinstance(each, Exception)]
    sizes = [len(each) if isinstance(each, bytes) else each.nbytes for each in records]
    return bool(sizes) and n * sum(sizes) / len(sizes) <= CACHE_BYTES


def balanced(label_N: np.ndarray, balance: float, rng: np.random.Generator) -> np.ndarray:
  """N positions of examples in which a class of n has a share in proportion to n ** (1 - balance).

  Shares are rounded at random, so that over epochs they are exact. Within a class each example
  comes as often as any other, but for one; examples of no class (-1) are a class of their own.
  """
  N, (_, class_N) = len(label_N), np.unique(label_N, return_inverse=True)
  count_K = np.bincount(class_N)
  share_K = count_K ** (1.0 - balance)
  edge_K = np.cumsum(share_K / share_K.sum()) * N + rng.random()
  edge_K[-1] = N
  times_K = np.diff(np.floor(edge_K).astype(int), prepend=0)
  order_N = rng.permutation(N)
  order_N = order_N[np.argsort(class_N[order_N], kind='stable')]  # by class, at random within it
  first_K = np.cumsum(count_K) - count_K
  class_P = np.repeat(np.arange(len(count_K)), times_K)
  turn_P = np.arange(N) - np.repeat(np.cumsum(times_K) - times_K, times_K)
  shown_P = order_N[first_K[class_P] + turn_P % count_K[class_P]]
  return rng.permutation(shown_P)


def uniforms(seed: int, position_b: np.ndarray, count: int) -> np.ndarray:
  """Numbers in [0, 1), float64 [b, count], that depend on seed and position only.

  SplitMix64 (Steele et al. 2014, figure 17) as a vectorized, counter-based generator: a generator
  object per example would cost more than decoding it.
  """
  key_1 = _mix(np.array([seed + 1], np.uint64) * GOLDEN)  # wraps around, on purpose
  counter_bU = position_b.astype(np.uint64)[:, None] * np.uint64(count)
  counter_bU = counter_bU + np.arange(1, count + 1, dtype=np.uint64)
  return (_mix(key_1 + counter_bU * GOLDEN) >> np.uint64(11)) * 2.0**-53


GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))


def prefetch(
  loader: Any, start_step: int, end_step: int, put: Callable[[Batch], Any]
) -> Generator[Any, None, None]:
  """Yields put(loader.batch(step)) for start_step <= step < end_step, data.prefetch steps ahead.

  `put` turns a host batch into device arrays, on a background thread. Two batches are made at a
  time, so that no thread idles during the last pieces of one. An error is raised at its own batch.
  Closing the iterator ends its threads.
  """
  jobs = collections.deque()
  pool = ThreadPoolExecutor(2, thread_name_prefix='prefetch')
  try:
    for step in range(start_step, end_step):
      jobs.append(pool.submit(lambda step=step: put(loader.batch(step))))
      if len(jobs) > loader.data.prefetch:
        yield jobs.popleft().result()
    while jobs:
      yield jobs.popleft().result()
  finally:
    pool.shutdown(cancel_futures=True)
