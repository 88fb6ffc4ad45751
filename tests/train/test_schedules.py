"""Schedules at their corners, and against timm's and big_vision's (tests/golden/optim.npz)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.config import Duration, Optim
from vit_jax.train.schedules import fit_ends, make_schedule

GOLDEN = np.load(Path(__file__).parent.parent / 'golden' / 'optim.npz')


def rates(steps: int = 100, **keys) -> np.ndarray:
  schedule = make_schedule(Optim(lr=1.0, **keys), steps, batch_size=10, num_examples=100)
  return np.array([schedule(step) for step in range(steps + 1)])


def test_cosine_with_warmup():
  lr = rates(schedule='cosine', warmup=Duration(steps=10), end_lr=0.1)
  np.testing.assert_allclose(lr[:10], np.arange(10) / 10, rtol=1e-6)
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


def test_warmup_and_cooldown_that_do_not_fit_are_shortened():
  lr = rates(warmup=Duration(steps=60), cooldown=Duration(steps=60), schedule='constant')
  np.testing.assert_allclose(lr[[0, 5, 10, 90, 95, 100]], [0, 0.5, 1, 1, 0.5, 0], atol=1e-6)
  long = Optim(warmup=Duration(epochs=5), cooldown=Duration(steps=10))
  found = fit_ends(long, 100, 10, 1000)
  assert found.warmup == 19 and found.cooldown == 0
  assert found.line == (
    'shortened, to fit into 100 steps: config.optim.warmup from 500 steps to 19 and '
    'config.optim.cooldown from 10 steps to 0'
  )
  assert fit_ends(long, 510, 10, 1000) == (500, 10, '')


@pytest.mark.parametrize('name', ['timm_cosine', 'noam', 'rsqrt', 'linear', 'cosine'])
def test_every_schedule_can_be_shorter_than_its_warmup(name):
  lr = np.array(rates(schedule=name, warmup=Duration(epochs=50), warmup_lr=0.1))
  assert np.isfinite(lr).all() and lr.max() > 0
  assert lr[:30].argmax() >= 18 or name == 'timm_cosine'


def test_the_schedule_runs_inside_jit():
  schedule = make_schedule(Optim(lr=1.0, warmup=Duration(steps=3)), 10, 1, 10)
  np.testing.assert_allclose(jax.jit(schedule)(jnp.int32(5)), schedule(5), rtol=1e-6)


@pytest.mark.parametrize(
  'name, keys',
  [
    ('cosine', {}),
    ('linear', dict(end_lr=1e-5)),
    ('rsqrt', dict(timescale=50, cooldown=Duration(steps=40))),
  ],
)
def test_those_of_big_vision(name, keys):
  optim = Optim(lr=0.1, schedule=name, warmup=Duration(steps=20), **keys)
  schedule = make_schedule(optim, 200, batch_size=10, num_examples=100)
  ours = [schedule(step) for step in range(200)]
  np.testing.assert_allclose(ours, GOLDEN[f'schedule/big_vision_{name}'], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize('examples, warmup', [(100, dict(epochs=5.0)), (107, dict(examples=535))])
def test_that_of_timm_is_constant_in_an_epoch(examples, warmup):
  optim = Optim(
    lr=1e-3, schedule='timm_cosine', warmup=Duration(**warmup), warmup_lr=1e-6, end_lr=1e-5
  )
  steps = Duration(epochs=30.0).to_steps(10, examples)
  schedule = jax.jit(make_schedule(optim, steps, batch_size=10, num_examples=examples))
  for step in range(steps):
    epoch = 10 * step // examples  # of its first example
    np.testing.assert_allclose(schedule(step), GOLDEN['schedule/timm_cosine'][epoch], rtol=1e-6)


def test_a_run_of_other_than_whole_epochs_has_timms_cosine_too():
  schedule = make_schedule(Optim(lr=1.0, schedule='timm_cosine'), 25, 10, 100)
  expected = (1 + np.cos(np.pi * np.array([0, 1, 2]) / 2.5)) / 2
  np.testing.assert_allclose([schedule(s) for s in (0, 10, 24)], expected, rtol=1e-6)


def test_warmup_starts_where_it_should():
  lr = rates(schedule='constant', warmup=Duration(steps=4), warmup_lr=0.2)
  np.testing.assert_allclose(lr[:6], [0.2, 0.4, 0.6, 0.8, 1.0, 1.0], rtol=1e-6)
