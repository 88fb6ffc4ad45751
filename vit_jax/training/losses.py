"""Losses per example, in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array


def softmax_cross_entropy(logits_BK: Array, targets_BK: Array) -> Array:
  """loss_B = -sum_k targets log softmax(logits), in nats."""
  return -jnp.sum(targets_BK * jax.nn.log_softmax(logits_BK), axis=-1)


def sigmoid_cross_entropy(logits_BK: Array, targets_BK: Array) -> Array:
  """loss_B: binary cross-entropy summed over classes ("Are we done with ImageNet?", sec. 4)."""
  log_p, log_not_p = jax.nn.log_sigmoid(logits_BK), jax.nn.log_sigmoid(-logits_BK)
  return -jnp.sum(targets_BK * log_p + (1 - targets_BK) * log_not_p, axis=-1)


LOSSES = {'softmax': softmax_cross_entropy, 'sigmoid': sigmoid_cross_entropy}


def smooth(targets_BK: Array, label_smoothing: float) -> Array:
  """Moves `label_smoothing` of the mass to the uniform distribution (Szegedy et al. 2016)."""
  return targets_BK * (1 - label_smoothing) + label_smoothing / targets_BK.shape[-1]
