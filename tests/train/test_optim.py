"""Optimizers against updates computed by hand."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax.config import Optim
from vit_jax.train.optim import make_optimizer

PARAMS = {'layer': {'kernel': jnp.array([[1.0, -2.0]]), 'bias': jnp.array([3.0])}}
GRADS = {'layer': {'kernel': jnp.array([[0.3, 0.4]]), 'bias': jnp.array([1.2])}}  # norm 1.3


def updated(optim: Optim, count: int = 1):
  tx = make_optimizer(optim, lambda step: optim.lr)
  params, state = PARAMS, tx.init(PARAMS)
  for _ in range(count):
    updates, state = tx.update(GRADS, state, params, step=0)
    params = optax.apply_updates(params, updates)
  return params['layer']


def test_first_adamw_step_is_the_sign_plus_decay_of_matrices_only():
  layer = updated(Optim(lr=0.1, weight_decay=0.5, eps=0.0))
  np.testing.assert_allclose(
    layer['kernel'], [[1 - 0.1 * (1 + 0.5), -2 - 0.1 * (1 - 1.0)]], rtol=1e-5
  )
  np.testing.assert_allclose(layer['bias'], [3 - 0.1], rtol=1e-5)


def test_sgd_momentum_gathers():
  layer = updated(Optim(name='sgd', lr=0.1, momentum=0.9), count=2)
  np.testing.assert_allclose(layer['bias'], [3 - 0.1 * 1.2 * (1 + 1.9)], rtol=1e-6)


@pytest.mark.parametrize('clip, scale', [(0.13, 0.1), (13.0, 1.0)])
def test_clipping_is_by_the_global_norm(clip, scale):
  layer = updated(Optim(name='sgd', lr=1.0, clip_norm=clip))
  np.testing.assert_allclose(layer['bias'], [3 - 1.2 * scale], rtol=1e-6)
  np.testing.assert_allclose(layer['kernel'], [[1 - 0.3 * scale, -2 - 0.4 * scale]], rtol=1e-6)
