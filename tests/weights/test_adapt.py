"""Loaded parameters fitted to a model: positions zoomed, heads replaced, all else refused."""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.weights.adapt import adapt, resize_positions


def params(num_classes: int = 5, image_size: tuple[int, int] = (16, 16), **options) -> dict:
  keys = dict(width=32, depth=2, heads=2, mlp=64) | options
  model = models.build('Ti/8', num_classes, **keys)
  images_BHWC = np.zeros((1, *image_size, 3), np.float32)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images_BHWC, train=False))
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype),
                      shapes['params'])


def test_a_zoom_keeps_corners_and_is_bilinear_between():
  ramp_HWD = np.stack(np.meshgrid(np.arange(3.0), np.arange(2.0), indexing='ij'), -1)
  table_1ND = np.concatenate([np.full((1, 1, 2), 9.0), ramp_HWD.reshape(1, 6, 2)], axis=1)
  zoomed_1ND = resize_positions(table_1ND, (3, 2), (5, 3))
  np.testing.assert_array_equal(zoomed_1ND[:, :1], 9.0)  # the class token's
  expected = np.stack(np.meshgrid(np.linspace(0, 2, 5), np.linspace(0, 1, 3), indexing='ij'), -1)
  np.testing.assert_allclose(zoomed_1ND[0, 1:].reshape(5, 3, 2), expected, atol=1e-6)


def test_the_same_model_matches_whole():
  loaded = params()
  out, line = adapt(loaded, params(), 'run', (2, 2), (2, 2))
  assert jax.tree.all(jax.tree.map(np.array_equal, out, loaded))
  count = len(jax.tree.leaves(loaded))
  assert line == f'run: {count} leaves matched, 0 resized, 0 fresh'


def test_another_head_and_another_image_size():
  loaded, wanted = params(), params(7, (24, 16))
  out, line = adapt(loaded, wanted, 'run', (2, 2), (3, 2))
  assert out['head']['kernel'].shape == (32, 7)
  assert out['pos_embedding'].shape == (1, 7, 32)
  np.testing.assert_array_equal(out['pos_embedding'][:, 0], loaded['pos_embedding'][:, 0])
  np.testing.assert_array_equal(out['cls'], loaded['cls'])
  assert line.endswith('1 resized, 2 fresh')


@pytest.mark.parametrize('options, sentence', [
    (dict(depth=3), 'encoder/blocks/attention/out/bias is (2, 32), not (3, 32)'),
    (dict(qk_norm=True), 'q_norm/bias is missing'),
    (dict(width=64), 'and 1[0-9] more'),
])
def test_any_other_difference_is_refused(options, sentence):
  with pytest.raises(UserError) as error:
    adapt(params(), params(**options), 'run', (2, 2), (2, 2))

  assert re.search(sentence if 'more' in sentence else re.escape(sentence), str(error.value))


def test_leaves_that_the_model_lacks_are_refused():
  with pytest.raises(UserError, match='registers is not of this model'):
    adapt(params(registers=1), params(), 'run', (2, 2), (2, 2))
