"""Batches ahead of their use: in order, within the bound, and faults where they belong."""

import threading
import time

import pytest
from made_up_source import Memory, assert_same, make

from vit_jax.data.loader import prefetch
from vit_jax.errors import UserError


def test_prefetch_gives_the_batches_in_order_and_stays_ahead_by_its_bound():
  loader, other = make(prefetch=3), make()
  made = []

  def put(batch):
    made.append(batch['index'])
    return batch

  stream = prefetch(loader, 5, 30, put)
  for taken, step in enumerate(range(5, 30), 1):
    assert_same(next(stream), other.batch(step))
    time.sleep(0.005)
    assert len(made) <= taken + 3
  with pytest.raises(StopIteration):
    next(stream)


def test_prefetch_hands_over_an_error_at_its_step_and_ends_its_threads():
  loader = make(Memory(broken=frozenset({70})), train=False)
  stream = prefetch(loader, 0, loader.num_batches, lambda batch: batch)
  assert next(stream)['index'][0] == 0
  with pytest.raises(UserError, match='example 70'):
    next(stream)

  def broken_put(batch):
    raise RuntimeError('no device')

  with pytest.raises(RuntimeError, match='no device'):
    next(prefetch(make(), 0, 10, broken_put))

  stream = prefetch(make(), 0, 1000, lambda batch: batch)
  next(stream)
  assert _prefetch_threads()
  stream.close()
  assert not _prefetch_threads()


def _prefetch_threads():
  return [thread for thread in threading.enumerate() if thread.name.startswith('prefetch')]
