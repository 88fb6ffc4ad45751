"""Order, exactly-once, restarts, bad records, caching."""

import logging
from dataclasses import dataclass

import cv2
import jax
import numpy as np
import pytest
from made_up_source import BATCH, SIZE, Memory, N, assert_same, make

from vit_jax.data.loader import prefetch, uniforms
from vit_jax.errors import UserError


def rows_of(process, processes):
  """Uneven shares of the batch, so that 3 processes are possible."""
  return slice(BATCH * process // processes, BATCH * (process + 1) // processes)


@pytest.mark.parametrize('processes', [1, 2, 3])
def test_every_example_once_an_epoch(processes):
  loaders = [make(rows=rows_of(p, processes)) for p in range(processes)]
  epochs = 4
  stream = []
  for step in range(-(-epochs * N // BATCH)):
    for loader in loaders:
      batch = loader.batch(step)
      assert batch['mask'].all()
      spelled = batch['image'][:, 0, 0].astype(int) @ [1, 256, 0]
      np.testing.assert_array_equal(spelled, batch['index'])
      np.testing.assert_array_equal(batch['label'], batch['index'] % 7)
      stream += batch['index'].tolist()
  orders = [stream[e * N : (e + 1) * N] for e in range(epochs)]
  for order in orders:
    assert sorted(order) == list(range(N))
  assert len({tuple(order) for order in orders}) == epochs  # shuffled anew
  assert orders[0] != list(range(N))
  # And the shuffle is of the whole set: the first batch reaches into every tenth of it.
  assert len({i * 10 // N for i in orders[0][:BATCH]}) == 10


@pytest.mark.parametrize('crop', ['random_resized', 'pad'])
def test_same_batches_after_a_restart_at_any_step(crop):
  augmented = dict(crop=crop, flip=True)
  whole = make(**augmented)
  run = [whole.batch(step) for step in range(40)]
  plain = make().batch(3)
  np.testing.assert_array_equal(plain['index'], run[3]['index'])
  assert (plain['image'] != run[3]['image']).any((1, 2, 3)).mean() > 0.5  # crops do happen
  for start in (0, 1, 15, 16, 39):
    restarted = make(**augmented)
    for step in range(start, min(start + 2, 40)):
      assert_same(restarted.batch(step), run[step])
  assert (make(seed=1, **augmented).batch(0)['index'] != run[0]['index']).any()


@dataclass
class Shares(Memory):
  """Example i is 1 / (i + 1) of its class, and the rest is of the class after."""

  def column(self, name):
    if name != 'shares':
      return None
    i_N = np.arange(self.n)
    share_NK = np.zeros((self.n, 7))
    share_NK[i_N, i_N % 7] = 1 / (i_N + 1)
    share_NK[i_N, (i_N + 1) % 7] += 1 - 1 / (i_N + 1)
    return share_NK


def test_soft_labels_come_with_their_examples_and_in_training_only():
  source = Shares(broken=frozenset([3]))
  loader = make(source, soft_label='shares', on_bad_record='skip', num_classes=9)
  for step in (0, 17):
    batch = loader.batch(step)
    expected = source.column('shares')[batch['index']]
    np.testing.assert_allclose(batch['soft_label'], np.pad(expected, ((0, 0), (0, 2))), atol=1e-7)
  assert 'soft_label' not in make(Shares(), train=False, soft_label='shares').batch(0)
  assert 'soft_label' not in make(Shares()).batch(0)


@pytest.mark.parametrize(
  'share, told',
  [
    ((None, 'weights'), 'has no feature of that name'),
    ((np.ones(N), 'shares'), 'of its 7 classes'),
    ((np.full((N, 7), 0.2), 'shares'), 'example 0 of'),
  ],
)
def test_soft_labels_that_are_none(share, told, monkeypatch):
  monkeypatch.setattr(Shares, 'column', lambda self, name: share[0])
  with pytest.raises(UserError, match=told):
    make(Shares(), soft_label=share[1])


def test_another_epoch_crops_the_same_example_otherwise():
  loader = make(Memory(8), crop='random_resized', batch_size=8)
  first, second = (loader.batch(step) for step in (0, 1))
  order = np.argsort(first['index']), np.argsort(second['index'])
  assert (first['image'][order[0]] != second['image'][order[1]]).any((1, 2, 3)).sum() >= 7


def test_the_number_of_processes_may_change_on_the_way():
  augmented = dict(crop='random_resized', flip=True)
  one = make(**augmented)
  for step, processes in [(0, 1), (1, 2), (15, 2), (16, 3), (17, 1)]:
    shares = [make(rows=rows_of(p, processes), **augmented).batch(step) for p in range(processes)]
    joined = {key: np.concatenate([share[key] for share in shares]) for key in shares[0]}
    assert_same(joined, one.batch(step))


@pytest.mark.parametrize('processes', [1, 2, 3])
def test_evaluation_shows_each_example_once_in_order(processes):
  loaders = [make(train=False, rows=rows_of(p, processes)) for p in range(processes)]
  assert loaders[0].num_batches == 16
  seen = []
  for step in range(loaders[0].num_batches):
    for loader in loaders:
      batch = loader.batch(step)
      seen += batch['index'][batch['mask']].tolist()
      assert (batch['index'][~batch['mask']] == -1).all()
      assert (batch['image'][~batch['mask']] == 0).all()
  assert seen == list(range(N))
  last = [loader.batch(15) for loader in loaders]
  assert sum((~batch['mask']).sum() for batch in last) == 16 * BATCH - N


def test_a_batch_larger_than_the_data_holds_several_epochs():
  index = make(Memory(10), batch_size=25).batch(0)['index'].tolist()
  assert sorted(index[:10]) == sorted(index[10:20]) == list(range(10))


def test_a_bad_record_is_an_error_that_names_it():
  loader = make(Memory(broken=frozenset({700})), train=False)
  loader.batch(0)
  with pytest.raises(UserError, match=r"'memory', split 'train': example 700 \(place 700\)"):
    loader.batch(700 // BATCH)


@pytest.mark.parametrize('cache', ['always', 'never'])
@pytest.mark.parametrize('train', [True, False])
def test_skipped_records_count_nowhere_and_are_told_once(cache, train, caplog):
  source = Memory(broken=frozenset({3, 700}))
  loader = make(source, train=train, on_bad_record='skip', cache=cache)
  with caplog.at_level(logging.WARNING):
    for step in [*range(loader.num_batches), *range(loader.num_batches)]:
      batch = loader.batch(step)
      bad = np.isin(batch['index'], [3, 700])
      np.testing.assert_array_equal(batch['mask'], ~bad & (batch['index'] >= 0))
      assert (batch['image'][bad] == 0).all()
      assert (batch['label'][bad] == 0).all()
  assert loader.bad_records == 2
  told = [record.getMessage() for record in caplog.records]
  assert len(told) == 2
  assert any('example 700 (place 700)' in line for line in told)


def test_a_source_that_fails_on_one_index_does_not_spoil_its_neighbors():
  class Torn(Memory):
    def read(self, indices):
      if 5 in indices:
        raise OSError('input/output error')
      return super().read(indices)

  loader = make(Torn(), train=False, on_bad_record='skip')
  assert loader.batch(0)['index'][~loader.batch(0)['mask']].tolist() == [5]


class Bug(Memory):
  def read(self, indices):
    raise KeyError('a bug, not bad data')


@pytest.mark.parametrize('cache', ['always', 'never'])
def test_a_bug_in_a_worker_surfaces(cache):
  loader = make(Bug(), cache=cache, on_bad_record='skip')
  with pytest.raises(KeyError, match='a bug'):
    loader.batch(0)
  with pytest.raises(KeyError, match='a bug'):
    next(prefetch(loader, 0, 10, lambda batch: batch))


def test_cached_equals_uncached_and_reads_once(monkeypatch):
  source = Memory(200)
  augmented = dict(crop='random_resized', flip=True)
  cached, uncached = make(source, **augmented), make(Memory(200), cache='never', **augmented)
  source.reads.clear()  # of the size estimate
  for step in range(8):
    assert_same(cached.batch(step), uncached.batch(step))
  assert sorted(source.reads) == list(range(200))
  assert len(uncached.source.reads) == 8 * BATCH
  # Whatever is handed out, the cache is not.
  cached.batch(9)['image'][...] = 0
  assert_same(cached.batch(9), uncached.batch(9))

  monkeypatch.setattr('vit_jax.data.loader.CACHE_BYTES', 200 * SIZE * SIZE * 3 - 1)
  large = make(source, **augmented)
  source.reads.clear()
  large.batch(0), large.batch(0)
  assert len(source.reads) == 2 * BATCH  # too large to keep


@dataclass
class Encoded(Memory):
  """Large images in one format after the other, which crops and small targets scale down."""

  def read(self, indices):
    records = super().read(indices)
    suffixes = ('.jpg', '.png', '.bmp')
    return [
      (cv2.imencode(suffixes[i % 3], record)[1].tobytes(), label)
      for i, (record, label) in zip(indices, records, strict=True)
    ]

  def pixels(self, i):
    noise_HWC = np.random.default_rng(i).integers(0, 256, (60, 80, 3), np.uint8)
    return cv2.resize(noise_HWC, (160, 120))


@pytest.mark.parametrize('train', [True, False])
def test_caching_changes_no_pixel_of_any_format(train):
  never, auto, always = (
    make(
      Encoded(12),
      train,
      cache=cache,
      image_size=(32, 32),
      eval_crop=1.0,
      crop='random_resized',
      batch_size=12,
    )
    for cache in ('never', 'auto', 'always')
  )
  for step in (0, 0, *([1] if train else [])):
    expected = never.batch(step)
    assert_same(auto.batch(step), expected)
    assert_same(always.batch(step), expected)
  assert len(auto.source.reads) == 12 + 12  # the size estimate, and each once


def test_a_jpeg_weighs_in_the_cache_what_its_file_does(monkeypatch):
  source = Encoded(1)
  ((record, _),) = source.read([0])
  monkeypatch.setattr('vit_jax.data.loader.CACHE_BYTES', len(record))
  assert len(record) < source.pixels(0).nbytes
  loader = make(source)
  source.reads.clear()
  loader.batch(0), loader.batch(1)
  assert set(source.reads) == {0} and len(source.reads) <= BATCH  # the second read nothing


def test_each_batch_is_fresh_memory():
  """A CPU device may keep the host's buffer instead of a copy."""
  loader = make()
  first = loader.batch(0)
  held = jax.device_put(first['image'])
  kept = np.array(held)
  second = loader.batch(1)
  assert not np.shares_memory(first['image'], second['image'])
  assert (kept != second['image']).any()
  np.testing.assert_array_equal(held, kept)


def test_random_numbers_belong_to_seed_and_position():
  all_PU = uniforms(0, np.arange(4000), 5)
  assert all_PU.shape == (4000, 5)
  assert all_PU.min() >= 0 and all_PU.max() < 1
  np.testing.assert_array_equal(uniforms(0, np.array([17, 3999]), 5), all_PU[[17, 3999]])
  assert not np.isin(uniforms(1, np.arange(4000), 5), all_PU).any()
  assert len(np.unique(all_PU)) == all_PU.size
  np.testing.assert_allclose(np.histogram(all_PU, 10, (0, 1))[0] / all_PU.size, 0.1, atol=0.01)
  correlation = np.corrcoef(np.concatenate([all_PU[:-1].T, all_PU[1:].T]))
  np.testing.assert_allclose(correlation, np.eye(10), atol=0.06)


def test_half_of_the_images_are_mirrored():
  loader, plain = make(flip=True), make()
  mirrored = 0
  for step in range(16):
    flipped, straight = loader.batch(step)['image'], plain.batch(step)['image']
    turned = (flipped == straight[:, :, ::-1]).all((1, 2, 3))
    assert (turned | (flipped == straight).all((1, 2, 3))).all()
    mirrored += turned.sum()
  assert 0.45 < mirrored / (16 * BATCH) < 0.55
