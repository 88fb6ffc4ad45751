"""Losses against their definitions."""

import numpy as np
import pytest

from vit_jax import losses


@pytest.fixture
def logits_and_targets():
  rng = np.random.default_rng(0)
  targets_BK = rng.dirichlet(np.ones(7), 5).astype(np.float32)
  return 3 * rng.normal(size=(5, 7)).astype(np.float32), targets_BK


def test_softmax_cross_entropy_is_its_definition(logits_and_targets):
  logits_BK, targets_BK = logits_and_targets
  p_BK = np.exp(logits_BK) / np.exp(logits_BK).sum(1, keepdims=True)
  np.testing.assert_allclose(
    losses.softmax_cross_entropy(logits_BK, targets_BK),
    -(targets_BK * np.log(p_BK)).sum(1),
    rtol=1e-5,
  )


def test_sigmoid_cross_entropy_is_its_definition(logits_and_targets):
  logits_BK, targets_BK = logits_and_targets
  p_BK = 1 / (1 + np.exp(-logits_BK))
  expected_B = -(targets_BK * np.log(p_BK) + (1 - targets_BK) * np.log(1 - p_BK)).sum(1)
  np.testing.assert_allclose(
    losses.sigmoid_cross_entropy(logits_BK, targets_BK), expected_B, rtol=1e-5
  )


@pytest.mark.parametrize('name', losses.LOSSES)
def test_huge_logits_give_finite_losses(name):
  loss_B = losses.LOSSES[name](np.array([[1e4, -1e4]], np.float32), np.array([[0.0, 1.0]]))
  assert np.isfinite(loss_B).all() and loss_B[0] >= 1e4


def test_smoothing_keeps_the_mass():
  smooth_BK = losses.smooth(np.eye(4, dtype=np.float32), 0.2)
  np.testing.assert_allclose(smooth_BK.sum(1), 1, rtol=1e-6)
  np.testing.assert_allclose(np.diag(smooth_BK), 0.85, rtol=1e-6)
