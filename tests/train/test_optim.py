"""Schedules at their corners, and optimizers against updates computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax.config import Duration, Optim
from vit_jax.errors import UserError
from vit_jax.train.optim import make_optimizer, make_schedule


def rates(steps: int = 100, **keys) -> np.ndarray:
  schedule = make_schedule(Optim(lr=1.0, **keys), steps, batch_size=10, num_examples=100)
  return np.array([schedule(step) for step in range(steps + 1)])


def test_cosine_with_warmup():
  lr = rates(schedule='cosine', warmup=Duration(steps=10), end_lr=0.1)
  np.testing.assert_allclose(lr[:10], np.arange(1, 11) / 11, rtol=1e-6)
  np.testing.assert_allclose(lr[[10, 55, 100]], [1, 0.55, 0.1], rtol=1e-5)
  assert (np.diff(lr[10:]) < 0).all()


def test_linear_falls_evenly():
  lr = rates(schedule='linear', warmup=Duration(epochs=2))  # 20 steps
  np.testing.assert_allclose(np.diff(lr[20:]), -1 / 80, rtol=1e-3)


def test_rsqrt_with_cooldown():
  lr = rates(
    schedule='rsqrt', timescale=25, warmup=Duration(steps=10), cooldown=Duration(examples=200)
  )  # 20 steps
  np.testing.assert_allclose(lr[[10, 35, 80]], [1, 2**-0.5, (1 + 70 / 25) ** -0.5], rtol=1e-5)
  np.testing.assert_allclose(lr[90], (1 + 80 / 25) ** -0.5 / 2, rtol=1e-5)
  assert lr[100] == 0


def test_noam_is_that_of_the_paper():
  """arXiv:1706.03762 equation 3 with the values of its base model."""
  optim = Optim(lr=512**-0.5, schedule='noam', warmup=Duration(steps=4000))
  schedule = make_schedule(optim, 100_000, batch_size=10, num_examples=100)
  for s in (1, 2, 100, 3999, 4000, 4001, 50_000, 100_000):  # the paper counts from 1
    expected = 512**-0.5 * min(s**-0.5, s * 4000**-1.5)
    np.testing.assert_allclose(schedule(s - 1), expected, rtol=1e-6)
  rising, falling = (np.diff([schedule(s) for s in steps]) for steps in ((0, 3999), (3999, 90_000)))
  assert rising > 0 > falling


def test_noam_in_epochs():
  lr = rates(schedule='noam', warmup=Duration(epochs=2), cooldown=Duration(steps=10))  # 20 steps
  np.testing.assert_allclose(lr[[0, 19, 79]], [20**-1.5, 20**-0.5, 80**-0.5], rtol=1e-6)
  np.testing.assert_allclose(lr[95], 96**-0.5 / 2, rtol=1e-6)
  assert lr[100] == 0


def test_constant():
  np.testing.assert_array_equal(rates(schedule='constant'), 1)


def test_warmup_and_cooldown_must_fit():
  with pytest.raises(UserError, match='do not fit into a run of 100 steps'):
    rates(warmup=Duration(steps=60), cooldown=Duration(steps=60))


PARAMS = {'layer': {'kernel': jnp.array([[1.0, -2.0]]), 'bias': jnp.array([3.0])}}
GRADS = {'layer': {'kernel': jnp.array([[0.3, 0.4]]), 'bias': jnp.array([1.2])}}  # norm 1.3


def updated(optim: Optim, count: int = 1):
  tx = make_optimizer(optim, lambda step: optim.lr)
  params, state = PARAMS, tx.init(PARAMS)
  for _ in range(count):
    updates, state = tx.update(GRADS, state, params)
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


def test_the_schedule_runs_inside_jit():
  schedule = make_schedule(Optim(lr=1.0, warmup=Duration(steps=3)), 10, 1, 10)
  np.testing.assert_allclose(jax.jit(schedule)(jnp.int32(5)), schedule(5), rtol=1e-6)
