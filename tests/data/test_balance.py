"""data.balance: which examples an epoch shows."""

import numpy as np
import pytest
from made_up_source import Memory, make

from vit_jax.data.loader import balanced
from vit_jax.data.sources import MappedSource, labels
from vit_jax.errors import UserError

COUNTS = np.array([1000, 300, 50, 7, 1])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))
N = len(LABELS)


@pytest.mark.parametrize('balance', [0.0, 0.5, 1.0])
def test_classes_have_their_share_and_examples_within_one_alike(balance):
  shown = [balanced(LABELS, balance, np.random.default_rng([1, e])) for e in range(200)]
  share_K = COUNTS ** (1 - balance) / (COUNTS ** (1 - balance)).sum()
  for index_N in shown:
    assert len(index_N) == N
    times_K = np.bincount(LABELS[index_N], minlength=5)
    assert np.abs(times_K - share_K * N).max() <= 1
    for k in range(5):
      each = np.bincount(index_N, minlength=N)[LABELS == k]
      assert each.max() - each.min() <= 1
  mean_K = np.mean([np.bincount(LABELS[index_N], minlength=5) for index_N in shown], 0)
  np.testing.assert_allclose(mean_K, share_K * N, atol=0.15)
  assert (shown[0] != shown[1]).any()
  if balance == 0:
    assert sorted(shown[0]) == list(range(N))


def test_a_loader_shows_rare_classes_more_often_and_resumes():
  source = MappedSource(
    Memory(), 'rare', indices_N=np.flatnonzero((np.arange(1003) % 7 < 1) | (np.arange(1003) > 900))
  )
  count_K = np.bincount(labels(source))
  assert count_K.max() > 5 * count_K.min()
  plain, even = make(source, batch_size=50), make(source, batch_size=50, balance=1.0)

  def shown(loader):
    return np.concatenate([loader.batch(step)['label'] for step in range(len(source) // 50)])

  assert np.ptp(np.bincount(shown(even))) < 12 < np.ptp(np.bincount(shown(plain)))
  again = make(source, batch_size=50, balance=1.0)
  np.testing.assert_array_equal(again.batch(5)['index'], even.batch(5)['index'])
  halves = [
    make(source, batch_size=50, balance=1.0, rows=rows) for rows in (slice(25), slice(25, 50))
  ]
  parts = np.concatenate([half.batch(3)['index'] for half in halves])
  np.testing.assert_array_equal(parts, even.batch(3)['index'])


def test_several_classes_cannot_be_balanced():
  class Sets(Memory):
    def label_sets(self):
      return np.ones((self.n, 7), bool)

  with pytest.raises(UserError, match='config.data.balance is for one class'):
    make(Sets(), balance=1.0)
