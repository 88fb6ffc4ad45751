"""Batches of pairs: exactly once, restarts, processes, shapes, padding, limits."""

import logging
import threading

import numpy as np
import pytest
from made_up_pairs import made_up, write
from made_up_source import assert_same

from vit_jax.data.loader import prefetch
from vit_jax.data.pair_loader import PairLoader
from vit_jax.data.pairs import open_pairs
from vit_jax.data.vocabulary import vocabularies_of
from vit_jax.errors import UserError
from vit_jax.models.texts import END, PAD, UNKNOWN

TOKENS = 160  # of a batch


@pytest.fixture(scope='module')
def parts(tmp_path_factory):
  data, source = made_up(tmp_path_factory.mktemp('pairs'))
  return source, vocabularies_of(data, source), data


def loader_of(parts, train=True, seed=0, batch_size=TOKENS, rows=None):
  return PairLoader(*parts, seed=seed, batch_size=batch_size, train=train, rows=rows)


def epoch_of(loader, epoch=0):
  start = epoch * loader.num_batches
  return [loader.batch(step) for step in range(start, start + loader.num_batches)]


def indices(batches):
  return [index for batch in batches for index in batch['index'][batch['mask']].tolist()]


def test_every_pair_once_an_epoch_in_a_new_order(parts):
  loader = loader_of(parts)
  orders = [indices(epoch_of(loader, epoch)) for epoch in range(3)]
  for order in orders:
    assert sorted(order) == list(range(203))
  assert len({tuple(order) for order in orders}) == 3
  assert loader.num_examples == 203 and loader.left_out == loader.cut == loader.unknown == 0
  # Pairs come in new company, and shapes in a new order.
  company = [{frozenset(indices([batch])) for batch in epoch_of(loader, e)} for e in range(2)]
  assert len(company[0] & company[1]) <= 1  # a bucket of one batch has no other
  shapes = [tuple(batch['source'].shape for batch in epoch_of(loader, epoch)) for epoch in range(2)]
  assert shapes[0] != shapes[1] and sorted(shapes[0]) == sorted(shapes[1])
  assert indices(epoch_of(loader_of(parts, seed=1))) != orders[0]


def test_same_batches_after_a_restart_at_any_step(parts):
  whole = loader_of(parts)
  run = [whole.batch(step) for step in range(3 * whole.num_batches)]
  for step in (0, 1, whole.num_batches - 1, whole.num_batches, len(run) - 1):
    assert_same(loader_of(parts).batch(step), run[step])


@pytest.mark.parametrize('processes', [1, 2, 3, 8])
@pytest.mark.parametrize('train', [True, False])
def test_the_rows_of_all_processes_are_the_global_batch(parts, processes, train):
  def rows_of(process):
    return lambda rows: range(rows)[rows * process // processes : rows * (process + 1) // processes]

  whole = loader_of(parts, train)
  shares = [loader_of(parts, train, rows=rows_of(p)) for p in range(processes)]
  for step in range(whole.num_batches):
    pieces = [share.batch(step) for share in shares]
    together = {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}
    assert_same(together, whole.batch(step))
  assert shares[0].shapes == whole.shapes and shares[0].num_batches == whole.num_batches


@pytest.mark.parametrize('train', [True, False])
def test_rows_are_the_sentences_with_end_and_padding(parts, train):
  source, vocabularies, _ = parts
  padded = 0
  for batch in epoch_of(loader_of(parts, train)):
    assert {key: array.dtype.name for key, array in batch.items()} == dict(
      source='int32', target='int32', mask='bool', index='int32'
    )
    for row, index in enumerate(batch['index'].tolist()):
      for side, (vocabulary, key) in enumerate(
        zip(vocabularies, ('source', 'target'), strict=True)
      ):
        wanted = np.full(batch[key].shape[1], PAD)
        if index >= 0:
          (ids,) = vocabulary.encode([source.read([index])[0][side]])
          wanted[: len(ids) + 1] = [*ids, END]
        np.testing.assert_array_equal(batch[key][row], wanted)
      assert batch['mask'][row] == (index >= 0)
      padded += index < 0
  assert padded


def test_each_pair_is_in_the_first_bucket_that_holds_both_sides(parts):
  data = parts[2]
  loader = loader_of(parts)
  # 160 tokens: 20, 10 and 6 rows.
  assert loader.shapes == [(20, 8, 8), (10, 16, 16), (6, 24, 24)]
  batches = epoch_of(loader)
  assert {(*b['source'].shape, b['target'].shape[1]) for b in batches} == set(loader.shapes)
  for batch in batches:
    below = [length for length in data.buckets if length < batch['source'].shape[1]]
    if below:
      sides = np.maximum((batch['source'] != PAD).sum(1), (batch['target'] != PAD).sum(1))
      assert (sides[batch['mask']] > below[-1]).all()
  for rows, length, _ in loader.shapes:
    pairs = [batch['mask'].sum() for batch in batches if batch['source'].shape[1] == length]
    assert len(pairs) == -(-sum(pairs) // rows)


@pytest.mark.parametrize('multiple, rows', [(1, (20, 10, 6)), (4, (20, 8, 4)), (16, (16, 16, 16))])
def test_rows_are_a_multiple(tmp_path, multiple, rows):
  data, source = made_up(tmp_path, row_multiple=multiple)
  loader = PairLoader(
    source, vocabularies_of(data, source), data, seed=0, batch_size=TOKENS, train=True
  )
  assert tuple(shape[0] for shape in loader.shapes) == rows


def test_an_evaluation_is_one_ordered_pass(parts):
  loader = loader_of(parts, train=False)
  batches = epoch_of(loader)
  assert sorted(indices(batches)) == list(range(203))
  by_length = {}
  for batch in batches:
    by_length.setdefault(batch['source'].shape[1], []).append(batch)
  assert list(by_length) == sorted(by_length)
  for found in by_length.values():
    assert indices(found) == sorted(indices(found))
    assert all(batch['mask'].all() for batch in found[:-1])
  with pytest.raises(IndexError):
    loader.batch(loader.num_batches)


def test_long_pairs_are_left_out_of_training_and_cut_in_an_evaluation(tmp_path, caplog):
  data, source = made_up(tmp_path, max_length=12, buckets=(4, 12))
  vocabularies = vocabularies_of(data, source)
  lengths = [max(len(text.split()) for text in pair) + 1 for pair in source.read(range(203))]
  long = [i for i, length in enumerate(lengths) if length > 12]
  assert 10 < len(long) < 193
  keys = dict(seed=0, batch_size=TOKENS)
  with caplog.at_level(logging.WARNING):
    train = PairLoader(source, vocabularies, data, train=True, **keys)
  assert f'left out {len(long)} of 203' in caplog.text
  assert train.left_out == len(long) and train.num_examples == 203 - len(long)
  assert sorted(indices(epoch_of(train))) == sorted(set(range(203)) - set(long))

  evaluation = PairLoader(source, vocabularies, data, train=False, **keys)
  assert evaluation.cut == len(long) and evaluation.left_out == 0
  batches = epoch_of(evaluation)
  assert sorted(indices(batches)) == list(range(203))
  for batch in batches:
    for side, key in enumerate(('source', 'target')):
      assert ((batch[key] == END).sum(1) == batch['mask']).all()  # a cut sentence ends too
      for row, index in enumerate(batch['index'].tolist()):
        if index in long:
          words = source.read([index])[0][side].split()[:11]
          (ids,) = vocabularies[side].encode([' '.join(words)])
          assert batch[key][row][: len(ids)].tolist() == ids


def test_unknown_tokens_are_counted_where_they_are_used(tmp_path):
  write(tmp_path, src=['a b', 'a'], tgt=['x', 'y'])
  write(tmp_path, 'test', src=['a q', 'r s t u v w r s t u v w', 'b'], tgt=['x', 'x', 'z z z'])
  data, _ = made_up(tmp_path / 'other', max_length=8, buckets=(8,))
  train, test = (open_pairs(_renamed(data, tmp_path), name, tmp_path) for name in ('train', 'test'))
  vocabularies = vocabularies_of(data, train)
  keys = dict(seed=0, batch_size=64)
  assert PairLoader(train, vocabularies, data, train=True, **keys).unknown == 0
  assert PairLoader(test, vocabularies, data, train=True, **keys).unknown == 1 + 3
  evaluation = PairLoader(test, vocabularies, data, train=False, **keys)
  assert evaluation.unknown == 1 + 12 + 3
  assert (evaluation.batch(0)['target'] == UNKNOWN).sum() == 3


def _renamed(data, folder):
  return type(data)(**{**vars(data), 'name': f'pairs:{folder}'})


def test_a_split_in_which_nothing_fits_is_told(tmp_path):
  data, source = made_up(tmp_path, max_length=2, buckets=(2,))
  shortest = min(max(len(text.split()) for text in pair) for pair in source.read(range(203))) + 1
  told = f'data.max_length is 2, but every pair .* has {shortest} tokens'
  with pytest.raises(UserError, match=told):
    PairLoader(source, vocabularies_of(data, source), data, seed=0, batch_size=64, train=True)


def test_a_sentence_without_tokens_is_told(parts, tmp_path):
  class Blank(type(parts[0])):
    def read(self, indices):
      pairs = super().read(indices)
      return [(s, ' ' if i == 7 else t) for i, (s, t) in zip(indices, pairs, strict=True)]

  source = Blank(**vars(parts[0]))
  with pytest.raises(UserError, match=r'train\.src, line 8: the target sentence has no tokens'):
    PairLoader(source, *parts[1:], seed=0, batch_size=64, train=True)


def test_batches_are_fresh_memory_and_may_be_asked_for_by_several_threads(parts):
  loader = loader_of(parts)
  wanted = epoch_of(loader_of(parts))
  found = [None] * len(wanted)

  def take(start):
    for step in range(start, len(wanted), 4):
      found[step] = loader.batch(step)

  threads = [threading.Thread(target=take, args=(start,)) for start in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  for ours, theirs in zip(found, wanted, strict=True):
    assert_same(ours, theirs)
  loader.batch(0)['source'][:] = 99
  assert_same(loader.batch(0), wanted[0])


def test_prefetch_takes_it_as_any_loader(parts):
  loader = loader_of(parts)
  for step, batch in enumerate(prefetch(loader, 3, 9, lambda batch: batch), 3):
    assert_same(batch, loader.batch(step))
  assert step == 8
