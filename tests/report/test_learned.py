"""What a ViT has learned: each picture's numbers against a slower way to the same."""

import functools

import jax
import numpy as np
import pytest

from vit_jax import models
from vit_jax.evaluate.features import attention_weights
from vit_jax.models import Inputs
from vit_jax.models.embedding import sincos2d
from vit_jax.report import learned
from vit_jax.weights import Opened

SHAPE = (16, 24, 3)


def opened(model, shape=SHAPE, scale: float = 0.2) -> Opened:
  """With random weights, so that no leaf is neutral."""
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda leaf: rng.normal(0, scale, leaf.shape).astype(np.float32),
    models.variable_shapes(model, shape),
  )
  inputs = Inputs(shape[:2], crop=1.0)
  return Opened('', '', model.clone(inputs=inputs), variables, '')


def pixels(count: int, shape=SHAPE) -> np.ndarray:
  return np.random.default_rng(1).integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize(
  'name, options',
  [
    ('Ti/8', dict(width=32, depth=2, heads=4, mlp=32, registers=2, pool='map')),
    ('CaiT-XXS24', dict(width=32, depth=1, heads=4, mlp=32, patch=8)),
  ],
)
def test_distance_equals_a_loop_over_pairs_of_patches(name, options):
  judged, images_NHWC = opened(models.build(name, 5, **options), scale=0.5), pixels(3)
  seen_NHWC = ((images_NHWC / 255 - 0.5) / 0.5).astype(np.float32)
  weights = jax.jit(functools.partial(attention_weights, judged.model))(judged.variables, seen_NHWC)
  weights_LBANT = np.asarray(weights['encoder/blocks'])
  L, B, A, _, T = weights_LBANT.shape
  columns, patches = 3, 6
  expected_LA = np.zeros((L, A))
  for layer, b, a in np.ndindex(L, B, A):
    for n in range(patches):
      row_T = weights_LBANT[layer, b, a, T - patches + n]
      spent = sum(row_T[T - patches + m] for m in range(patches))
      for m in range(patches):
        pixels_apart = 8 * np.hypot(n // columns - m // columns, n % columns - m % columns)
        expected_LA[layer, a] += row_T[T - patches + m] / spent * pixels_apart / patches / B
  found = learned.look(judged, images_NHWC)
  assert found is not None and found.grid == (2, 3)
  assert np.ptp(expected_LA) > 0.1  # heads differ, so the order of axes shows
  np.testing.assert_allclose(found.distance_LA, expected_LA, rtol=1e-4)


def test_uniform_attention_reaches_the_mean_of_all_distances():
  """n patches in a row: the mean of |i - j| is (n^2 - 1) / 3n."""
  n, shape = 7, (8, 56, 3)
  judged = opened(models.build('Ti/8', 5, width=32, depth=1, heads=2, mlp=32), shape)
  qkv = judged.variables['params']['encoder']['blocks']['attention']['qkv']
  qkv['kernel'] = np.zeros_like(qkv['kernel'])
  qkv['bias'] = np.zeros_like(qkv['bias'])
  found = learned.look(judged, pixels(2, shape))
  expected = 8 * (n**2 - 1) / (3 * n)
  np.testing.assert_allclose(found.distance_LA, expected, rtol=1e-5)
  assert found.uniform == pytest.approx(expected, rel=1e-5)


def test_similarity_of_sines_and_cosines():
  rows, columns = 5, 7
  similarity_NN = learned.similarity(sincos2d(rows, columns, 32)[0])
  np.testing.assert_allclose(similarity_NN, similarity_NN.T, atol=1e-12)
  np.testing.assert_allclose(np.diag(similarity_NN), 1, atol=1e-12)
  assert similarity_NN.max() <= 1 + 1e-12
  from_corner_HW = similarity_NN[0].reshape(rows, columns)
  assert (np.diff(from_corner_HW[0, :3]) < 0).all() and (np.diff(from_corner_HW[:3, 0]) < 0).all()


def test_positions_are_those_of_the_patches():
  judged = opened(models.build('Ti/8', 5, width=32, depth=1, heads=2, mlp=32, registers=3))
  table_ND = judged.variables['params']['pos_embedding'][0]
  assert len(table_ND) == 1 + 6  # of the class token first
  found = learned.look(judged, pixels(1))
  patches_ND = table_ND[1:].astype(np.float64)
  cosine = (
    patches_ND[2] @ patches_ND[4] / np.sqrt((patches_ND[2] ** 2).sum() * (patches_ND[4] ** 2).sum())
  )
  assert found.similarity_NN.shape == (6, 6)
  assert found.similarity_NN[2, 4] == pytest.approx(cosine)


def test_components_of_filters_made_of_two():
  rng = np.random.default_rng(0)
  pair_2V, _ = np.linalg.qr(rng.normal(size=(4 * 4 * 3, 2)))
  pair_2V = pair_2V.T
  weights_D2 = rng.normal(size=(50, 2))
  weights_D2 -= weights_D2.mean(0)
  weights_D2, _ = np.linalg.qr(weights_D2)
  mean_V = rng.normal(size=48)
  kernel_PPCD = (weights_D2 * (5, 2) @ pair_2V + mean_V).T.reshape(4, 4, 3, 50)
  found_FPPC, explained = learned.principal_components(kernel_PPCD, 2)
  for component_V, wanted_V in zip(found_FPPC.reshape(2, -1), pair_2V, strict=True):
    np.testing.assert_allclose(component_V * np.sign(component_V @ wanted_V), wanted_V, atol=1e-9)
    assert component_V[np.abs(component_V).argmax()] > 0
  assert explained == pytest.approx(1)
  _, first_alone = learned.principal_components(kernel_PPCD, 1)
  assert first_alone == pytest.approx(25 / 29)


def test_only_what_a_model_has():
  images_NHWC = pixels(1, (32, 32, 3))
  assert learned.look(opened(models.build('LeNet-5', 5), (32, 32, 3)), images_NHWC) is None
  small = dict(width=32, depth=1, heads=2, mlp=32)
  plain = learned.look(
    opened(models.build('Ti/8', 5, **small, posemb='none', conv_stem=(8,)), (32, 32, 3)),
    images_NHWC,
  )
  assert plain.filters_FPPC is None and plain.similarity_NN is None
  sines = learned.look(
    opened(models.build('Ti/8', 5, **small, posemb='sincos2d'), (32, 32, 3)),
    images_NHWC,
  )
  assert sines.filters_FPPC.shape == (28, 8, 8, 3) and sines.similarity_NN.shape == (16, 16)


def test_tiles_keep_every_pixel_in_its_place():
  tiles = np.arange(2 * 3 * 4 * 5, dtype=float).reshape(2, 3, 4, 5)
  whole = learned._tiles(tiles)
  assert whole.shape == (2 * 5 - 1, 3 * 6 - 1)
  np.testing.assert_array_equal(whole[5:9, 12:17], tiles[1, 2])
  assert np.isnan(whole[4]).all() and np.isnan(whole).sum() == whole.size - tiles.size
