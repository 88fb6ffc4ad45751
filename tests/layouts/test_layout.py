"""Tables between published names and ours: hand-made cases of each rule, both directions."""

import numpy as np
import pytest

from vit_jax.errors import UserError
from vit_jax.layouts.layout import Layout, Pair, count_known, size, to_ours, to_published, unnamed

RNG = np.random.default_rng(0)
D, A, E, F, L, K = 6, 3, 2, 5, 2, 4


def leaf(*shape: int) -> np.ndarray:
  return RNG.normal(size=shape).astype(np.float32)


def there_and_back(row: Pair, ours: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Published leaves of ours; asserts that they come back bit by bit."""
  table = Layout('a table', (row,))
  published = to_published(table, ours)
  reading = to_ours(table, published, {name: value.shape for name, value in ours.items()})
  assert not reading.faults and not reading.left
  assert set(reading.ours) == set(ours)
  for name, value in ours.items():
    np.testing.assert_array_equal(reading.ours[name], value)
  return published


def test_a_transpose():
  kernel = leaf(D, K)
  published = there_and_back(
    Pair('head/kernel', 'DK', 'head.weight', 'KD'), {'head/kernel': kernel}
  )
  np.testing.assert_array_equal(published['head.weight'], kernel.T)


def test_merged_axes_over_layers():
  """timm's qkv: rows are all queries, then all keys, then all values, each head by head."""
  qkv = leaf(L, D, 3, A, E)
  published = there_and_back(Pair('qkv', 'LD3AE', 'blocks.{L}.qkv', '(3AE)D'), {'qkv': qkv})
  assert list(published) == ['blocks.0.qkv', 'blocks.1.qkv']
  key_of_head_2 = published['blocks.1.qkv'][D + 2 * E : D + 3 * E]
  np.testing.assert_array_equal(key_of_head_2, qkv[1, :, 1, 2].T)


def test_one_of_ours_from_several():
  qkv = leaf(L, D, 3, A, E)
  names = tuple(f'block_{{L}}/{name}' for name in ('query', 'key', 'value'))
  published = there_and_back(Pair('qkv', 'LD3AE', names, 'DAE'), {'qkv': qkv})
  assert list(published)[:4] == ['block_0/query', 'block_0/key', 'block_0/value', 'block_1/query']
  np.testing.assert_array_equal(published['block_1/key'], qkv[1, :, 1])


def test_several_of_ours_from_one():
  gate, up = leaf(L, D, F), leaf(L, D, F)
  published = there_and_back(
    Pair(('gate', 'up'), 'LDF', 'mlp.{L}.w12', '(2F)D'), {'gate': gate, 'up': up}
  )
  np.testing.assert_array_equal(published['mlp.1.w12'], np.concatenate([gate[1].T, up[1].T]))


def test_layers_that_are_stacked_already():
  qkv = leaf(L, D, 3, A, E)
  published = there_and_back(Pair('qkv', 'LD3AE', ('q', 'k', 'v'), 'LDAE'), {'qkv': qkv})
  np.testing.assert_array_equal(published['k'], qkv[:, :, 1])


def test_axes_of_one():
  row = Pair('norm', 'D', 'gn/scale', 'D')
  there_and_back(Pair('cls', '11D', 'cls', 'D'), {'cls': leaf(1, 1, D)})
  value = leaf(D)
  old = to_ours(Layout('', (row,)), {'gn/scale': value.reshape(1, 1, 1, D)}, {'norm': (D,)})
  np.testing.assert_array_equal(old.ours['norm'], value)


def test_another_size_of_an_axis_that_stands_alone_is_read():
  table = Layout('', (Pair('head/kernel', 'DK', 'head.weight', 'KD'),))
  reading = to_ours(table, {'head.weight': leaf(9, D)}, {'head/kernel': (D, K)})
  assert reading.ours['head/kernel'].shape == (D, 9) and not reading.faults
  assert size(table, {'head.weight': leaf(9, D)}, 'head/kernel', 'K', 'a file') == 9
  assert size(table, {}, 'head/kernel', 'K', 'a file') == 0


TABLE = Layout(
  '',
  (Pair('qkv', 'LD3AE', 'blocks.{L}.qkv', '(3AE)D'), Pair('dist', '1D', 'dist', '1D')),
  ignored=(r'.*\.count',),
)
WANTED = {'qkv': (L, D, 3, A, E)}


@pytest.mark.parametrize(
  'published, fault',
  [
    ({'blocks.0.qkv': (18, D)}, 'blocks.1.qkv is missing'),
    (
      {'blocks.0.qkv': (18, D), 'blocks.1.qkv': (18, 7)},
      'blocks.1.qkv is (18, 7) but blocks.0.qkv is (18, 6)',
    ),
    ({'blocks.0.qkv': (9, D), 'blocks.1.qkv': (9, D)}, 'blocks.0.qkv is (9, 6), not (18, 6)'),
  ],
)
def test_faults_name_leaves_and_shapes(published, fault):
  reading = to_ours(TABLE, {name: leaf(*shape) for name, shape in published.items()}, WANTED)
  assert reading.faults == [fault] and not reading.ours


def test_a_leaf_of_another_rank_has_no_sizes():
  table = Layout('', (Pair('head/kernel', 'DK', 'head.weight', 'KD'),))
  with pytest.raises(UserError) as error:
    size(table, {'head.weight': leaf(9, D, 1, 1)}, 'head/kernel', 'K', 'a file')
  assert str(error.value) == (
    'a file is of another model: head.weight is (9, 6, 1, 1), but should have 2 axes'
  )


def test_a_leaf_of_no_numbers_is_read():
  row = Pair('pos', '1ND', 'pos', '1ND')
  assert to_ours(Layout('', (row,)), {'pos': leaf(1, 0, D)}, {'pos': (1, 5, D)}).ours[
    'pos'
  ].shape == (1, 0, D)


def test_what_is_left_is_told_apart():
  published = {
    'blocks.0.qkv': leaf(18, D),
    'blocks.1.qkv': leaf(18, D),
    'blocks.2.qkv': leaf(18, D),
    'dist': leaf(1, D),
    'odd': leaf(1),
    'b.count': leaf(1),
  }
  reading = to_ours(TABLE, published, WANTED)
  assert reading.left == {'blocks.2.qkv': 'qkv', 'dist': 'dist', 'odd': ''}
  assert 'b.count' not in reading.left
  assert count_known(TABLE, set(published)) == 4
  assert unnamed(TABLE, ['qkv', 'cls']) == ['cls']


def test_the_first_row_whose_names_are_there_is_read_and_the_first_is_written():
  table = Layout('', (Pair('pos', '1ND', 'new', '1ND'), Pair('pos', '1ND', 'old', '1ND')))
  value = leaf(1, 3, D)
  reading = to_ours(table, {'old': value}, {'pos': (1, 3, D)})
  np.testing.assert_array_equal(reading.ours['pos'], value)
  assert list(to_published(table, {'pos': value})) == ['new']


def test_a_row_that_cannot_be_is_a_fault_of_ours():
  with pytest.raises(ValueError, match='does not fit'):
    to_published(Layout('', (Pair('pos', 'ND', 'pos', 'ND'),)), {'pos': leaf(1, 3, D)})
