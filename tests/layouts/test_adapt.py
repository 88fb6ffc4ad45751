"""Loaded leaves fitted to a model: positions resized, heads replaced, all else refused."""

import re

import numpy as np
import pytest
import scipy.ndimage

from tests.weights.made_up import tiny
from vit_jax.errors import UserError
from vit_jax.layouts import positions
from vit_jax.layouts.adapt import adapt
from vit_jax.layouts.layout import Reading


def adapted(loaded, wanted, where='run', grid=(2, 2), old_grid=(2, 2), **reading):
  return adapt(Reading(loaded, **reading), wanted, where, grid, old_grid)


def params(num_classes: int = 5, size=16, seed: int = 0, **options) -> dict[str, np.ndarray]:
  return tiny(num_classes=num_classes, size=size, seed=seed, **options)[1]


def table(rows: int, columns: int, slots: int, width: int = 4) -> np.ndarray:
  rng = np.random.default_rng(0)
  return rng.normal(size=(1, slots + rows * columns, width)).astype(np.float32)


def test_a_zoom_keeps_corners_and_is_bilinear_between():
  ramp_HWD = np.stack(np.meshgrid(np.arange(3.0), np.arange(2.0), indexing='ij'), -1)
  table_1ND = np.concatenate([np.full((1, 1, 2), 9.0), ramp_HWD.reshape(1, 6, 2)], axis=1)
  zoomed_1ND = positions.resize(table_1ND, (3, 2), (5, 3), 'bilinear')
  np.testing.assert_array_equal(zoomed_1ND[:, :1], 9.0)  # the class token's
  expected = np.stack(np.meshgrid(np.linspace(0, 2, 5), np.linspace(0, 1, 3), indexing='ij'), -1)
  np.testing.assert_allclose(zoomed_1ND[0, 1:].reshape(5, 3, 2), expected, atol=1e-6)


@pytest.mark.parametrize('old, new', [((14, 14), (24, 24)), ((7, 9), (3, 1)), ((1, 4), (2, 5))])
def test_bilinear_is_scipys_zoom(old, new):
  """As google-research/vision_transformer resizes them."""
  table_1ND = table(*old, slots=1)
  grid_HWD = table_1ND[0, 1:].reshape(*old, -1)
  factors = (new[0] / old[0], new[1] / old[1], 1)
  expected = scipy.ndimage.zoom(grid_HWD, factors, order=1).reshape(1, new[0] * new[1], -1)
  resized_1ND = positions.resize(table_1ND, old, new, 'bilinear')
  np.testing.assert_allclose(resized_1ND[:, 1:], expected, atol=1e-6)


@pytest.mark.parametrize('old, new', [(4, 2), (7, 16), (37, 16)])
@pytest.mark.parametrize('antialias', [False, True])
def test_bicubic_keeps_constants_and_mirror_images(old, new, antialias):
  matrix = positions.bicubic(old, new, antialias)
  np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-12)
  np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-12)
  if new > old:  # far from the edges a straight line stays one
    line = matrix @ (np.arange(old) + 0.5)
    inner = slice(3 * new // old, -3 * new // old)
    exact = (np.arange(new) + 0.5) * old / new
    np.testing.assert_allclose(line[inner], exact[inner], atol=0.05)


def test_antialias_matters_where_a_table_shrinks():
  table_1ND = table(8, 8, 1)
  plain, smooth = (
    positions.resize(table_1ND, (8, 8), (4, 4), method)
    for method in ('bicubic', 'bicubic_antialias')
  )
  np.testing.assert_array_equal(plain[:, :1], smooth[:, :1])
  assert np.abs(plain - smooth).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
  'old, new',
  [((14, 14), (24, 24)), ((37, 37), (16, 16)), ((16, 16), (37, 37)), ((14, 14), (9, 21))],
)
@pytest.mark.parametrize('antialias', [False, True])
def test_bicubic_is_torchs(old, new, antialias):
  torch = pytest.importorskip('torch')
  table_1ND = table(*old, slots=0, width=8)
  image_BCHW = torch.from_numpy(table_1ND.reshape(1, *old, 8)).permute(0, 3, 1, 2)
  theirs = torch.nn.functional.interpolate(
    image_BCHW, new, mode='bicubic', antialias=antialias, align_corners=False
  ).permute(0, 2, 3, 1)
  ours_1ND = positions.resize(table_1ND, old, new, 'bicubic_antialias' if antialias else 'bicubic')
  np.testing.assert_allclose(ours_1ND, theirs.numpy().reshape(1, -1, 8), atol=1e-5)


def test_the_same_model_matches_whole():
  loaded = params()
  out, line = adapted(loaded, params(seed=1))
  assert list(out) == list(loaded)
  assert all(np.array_equal(out[name], loaded[name]) for name in loaded)
  assert line == f'run: {len(loaded)} leaves matched, 0 resized, 0 fresh'


@pytest.mark.parametrize('grid', [(2, 2), None])
def test_another_head_and_another_image_size(grid):
  loaded, wanted = params(), params(7, (24, 16), seed=1)
  out, line = adapted(loaded, wanted, grid=(3, 2), old_grid=grid)
  np.testing.assert_array_equal(out['head/kernel'], wanted['head/kernel'])
  assert out['pos_embedding'].shape == (1, 7, 32)
  np.testing.assert_array_equal(out['pos_embedding'][:, 0], loaded['pos_embedding'][:, 0])
  np.testing.assert_array_equal(out['cls'], loaded['cls'])
  assert line.endswith('1 resized, 2 fresh')


def test_a_rectangle_of_as_many_patches_is_resized_where_its_source_is_known():
  loaded, wanted = params(size=(32, 8)), params(size=16, seed=1)
  assert loaded['pos_embedding'].shape == wanted['pos_embedding'].shape
  out, line = adapted(loaded, wanted, grid=(2, 2), old_grid=(4, 1))
  assert '1 resized' in line
  assert not np.array_equal(out['pos_embedding'], loaded['pos_embedding'])


def test_a_square_table_is_resized_for_a_rectangle_of_as_many_patches():
  loaded, wanted = params(size=16), params(size=(8, 32), seed=1)
  out, line = adapted(loaded, wanted, 'a file', (1, 4), None)
  resized_1ND = positions.resize(loaded['pos_embedding'], (2, 2), (1, 4), 'bilinear')
  np.testing.assert_array_equal(out['pos_embedding'], resized_1ND)
  assert '1 resized' in line


def test_a_rectangle_and_its_slot_are_not_read_as_a_square():
  loaded, wanted = params(size=(24, 40)), params(size=(24, 40), seed=1)
  assert loaded['pos_embedding'].shape[1] == 16
  out, line = adapted(loaded, wanted, 'a file', (3, 5), None)
  np.testing.assert_array_equal(out['pos_embedding'], loaded['pos_embedding'])
  assert '0 resized' in line


def test_a_class_slot_is_folded_where_the_model_has_none():
  """What stood in the slot was added to the class token anyway."""
  loaded = params(distilled=True)
  out, line = adapted(loaded, params(distilled=True, posemb_class=False, seed=1))
  slots_1ND = loaded['pos_embedding'][:, :2]
  np.testing.assert_array_equal(out['cls'], loaded['cls'] + slots_1ND[:, :1])
  np.testing.assert_array_equal(out['dist'], loaded['dist'] + slots_1ND[:, 1:])
  np.testing.assert_array_equal(out['pos_embedding'], loaded['pos_embedding'][:, 2:])
  assert '1 resized' in line


def test_a_class_slot_of_zeros_is_made_where_the_table_has_none():
  loaded = params(posemb_class=False)
  out, _ = adapted(loaded, params(size=(24, 16), seed=1), grid=(3, 2), old_grid=None)
  assert out['pos_embedding'].shape == (1, 7, 32) and not out['pos_embedding'][:, 0].any()
  np.testing.assert_array_equal(out['cls'], loaded['cls'])


def test_a_head_is_fresh_where_the_layer_below_it_is_another():
  """Of as many classes, but made for features that pass through pre_logits."""
  loaded, wanted = params(representation=True), params(seed=1)
  out, line = adapted(loaded, wanted)
  np.testing.assert_array_equal(out['head/kernel'], wanted['head/kernel'])
  assert line.endswith('2 fresh')
  assert adapted(wanted, loaded)[1].endswith('4 fresh')


def test_a_head_is_left_where_the_model_has_none():
  out, line = adapted(params(), params(0))
  assert 'head/kernel' not in out and line.endswith('0 fresh')


@pytest.mark.parametrize(
  'options, sentence',
  [
    (dict(depth=3), r'encoder/blocks/attention/out/bias is \(2, 32\), not \(3, 32\)'),
    (dict(qk_norm=True), 'q_norm/bias .* is missing'),
    (dict(width=64), 'and 1[0-9] more'),
  ],
)
def test_any_other_difference_is_refused(options, sentence):
  with pytest.raises(UserError) as error:
    adapted(params(), params(**options))
  assert re.search(sentence, str(error.value))


def test_leaves_that_the_model_lacks_are_refused():
  with pytest.raises(UserError, match='registers is not of this model'):
    adapted(params(registers=1), params())
  with pytest.raises(UserError, match='stem/odd is not of this model'):
    adapted(params(), params(), left={'stem/odd': ''})


def test_faults_of_reading_are_reported_and_not_what_follows_from_them():
  loaded = params()
  del loaded['encoder/blocks/mlp/up/bias']
  with pytest.raises(UserError) as error:
    adapted(loaded, params(), faults=('blocks.1.mlp.fc1.bias is missing',))
  assert str(error.value) == 'run does not fit the model: blocks.1.mlp.fc1.bias is missing'
