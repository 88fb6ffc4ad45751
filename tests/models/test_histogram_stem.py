"""Patches embedded by their colour histograms beside their pixels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.models import embedding
from vit_jax.trees import flatten

KEYS = dict(width=32, depth=1, heads=2, mlp=64)


def build(name: str = 'Ti/4', **options):
  return models.build(name, 3, **KEYS, **options)


def images(*shape: int) -> np.ndarray:
  return np.random.default_rng(0).normal(0, 2, shape).astype(np.float32)


def test_parameters_and_tokens():
  model = build(histogram_bins=5)
  assert model.grid((12, 20)) == (3, 5)
  shapes = flatten(models.variable_shapes(model, (12, 20, 3))['params'])
  found = {
    name.removeprefix('embedding/'): leaf.shape
    for name, leaf in shapes.items()
    if name.startswith('embedding/')
  }
  assert found == {'kernel': (4, 4, 3, 32), 'bias': (32,), 'histogram': (3, 5, 32)}


def test_histograms_are_counted_one_by_one():
  images_BHWC, bins = images(2, 8, 12, 3), 6
  low, high = embedding.SPAN
  centres_V = np.linspace(low, high, bins)
  wanted_BHWCV = np.zeros((2, 2, 3, 3, bins))
  for b, i, j, c in np.ndindex(images_BHWC.shape):
    value = np.clip(images_BHWC[b, i, j, c], low, high)
    right = int(np.clip(np.searchsorted(centres_V, value), 1, bins - 1))
    part = (value - centres_V[right - 1]) / (centres_V[right] - centres_V[right - 1])
    wanted_BHWCV[b, i // 4, j // 4, c, right - 1] += (1 - part) / 16
    wanted_BHWCV[b, i // 4, j // 4, c, right] += part / 16
  found_BHWCV = embedding.histograms(jnp.asarray(images_BHWC), 4, bins)
  np.testing.assert_allclose(found_BHWCV, wanted_BHWCV, atol=1e-6)
  np.testing.assert_allclose(found_BHWCV.sum(-1), 1, atol=1e-5)


def test_where_a_value_stands_in_its_patch_matters_to_the_pixels_alone():
  stem = build(histogram_bins=5).embedding
  images_BHWC = images(1, 4, 4, 3)
  turned_BHWC = images_BHWC[:, ::-1, ::-1]
  params = stem.init(jax.random.key(1), images_BHWC, True)['params']
  assert not np.allclose(
    stem.apply({'params': params}, images_BHWC, True),
    stem.apply({'params': params}, turned_BHWC, True),
    atol=1e-2,
  )
  blind = {**params, 'kernel': jnp.zeros_like(params['kernel'])}
  seen_BHWD = stem.apply({'params': blind}, images_BHWC, True)
  np.testing.assert_allclose(seen_BHWD, stem.apply({'params': blind}, turned_BHWC, True), atol=1e-5)
  roots_CV = np.sqrt(5 * embedding.histograms(jnp.asarray(images_BHWC), 4, 5)[0, 0, 0])
  np.testing.assert_allclose(
    seen_BHWD[0, 0, 0], np.einsum('cv,cvd->d', roots_CV, params['histogram']), atol=1e-5
  )


def test_learns_in_bfloat16():
  stem = build(histogram_bins=5, dtype='bfloat16').embedding
  images_BHWC = images(2, 8, 8, 3)
  params = stem.init(jax.random.key(0), images_BHWC, True)
  assert stem.apply(params, images_BHWC, True).dtype == jnp.bfloat16
  slope = jax.grad(lambda params: stem.apply(params, images_BHWC, True).astype(jnp.float32).var())
  histogram_CVD = slope(params)['params']['histogram']
  assert histogram_CVD.dtype == jnp.float32 and np.abs(histogram_CVD).max() > 0


@pytest.mark.parametrize(
  'options, told',
  [
    (dict(histogram_bins=-1), 'histogram_bins is -1; it must be at least 0'),
    (dict(histogram_bins=4, conv_stem=(4,)), 'are two stems; set one of them'),
  ],
)
def test_a_mistake_is_one_sentence(options, told):
  with pytest.raises(UserError, match=told):
    build(**options)
