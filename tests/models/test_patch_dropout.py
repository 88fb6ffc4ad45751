"""Patch dropout: which patches a training step sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import models
from vit_jax.models import flops
from vit_jax.models.embedding import drop_patches


@pytest.mark.parametrize('rate, kept', [(0.5, 8), (0.75, 4), (0.99, 1)])
def test_keeps_a_share_of_the_patches_in_order_and_all_that_stands_before(rate, kept):
  x_BND = jnp.broadcast_to(jnp.arange(18.0)[None, :, None], (64, 18, 1))  # each token: its place
  places_BN = np.asarray(drop_patches(jax.random.key(0), x_BND, 2, rate))[..., 0]
  assert places_BN.shape == (64, 2 + kept)
  assert (places_BN[:, :2] == [0, 1]).all()
  assert (np.diff(places_BN, axis=1) > 0).all()
  counts = np.bincount(places_BN[:, 2:].astype(int).ravel(), minlength=18)[2:]
  assert counts.sum() == 64 * kept and (kept == 1 or (counts > 0).all())
  assert len({tuple(row) for row in places_BN}) > 8  # each image draws its own


def test_only_training_drops():
  keys = dict(width=32, depth=1, heads=2, mlp=64, pool='mean')
  plain = models.build('Ti/8', 3, **keys)
  dropping = models.build('Ti/8', 3, patch_dropout=0.5, **keys)
  images_BHWC = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
  variables = jax.jit(lambda: plain.init(jax.random.key(0), images_BHWC, train=False))()
  evaluated = dropping.apply(variables, images_BHWC, train=False)
  np.testing.assert_array_equal(
    evaluated.tokens_BND, plain.apply(variables, images_BHWC, train=False).tokens_BND
  )
  trained = dropping.apply(variables, images_BHWC, train=True, rngs={'dropout': jax.random.key(2)})
  assert trained.tokens_BND.shape == (2, 8, 32)


def test_dropped_patches_cost_the_embedding_only():
  keys = dict(width=32, depth=2, heads=2, mlp=64, pool='mean')
  plain, half = (models.build('Ti/8', 3, patch_dropout=rate, **keys) for rate in (0.0, 0.5))
  small = flops.forward_macs(plain, (32, 16, 3))  # half of the patches
  embedding_of_eight = 8 * 8 * 8 * 3 * 32
  assert flops.forward_macs(half, (32, 32, 3), train=True) == small + embedding_of_eight
  assert flops.forward_macs(half, (32, 32, 3)) == flops.forward_macs(plain, (32, 32, 3))
