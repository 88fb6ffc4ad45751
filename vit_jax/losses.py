"""Losses per example, in float32."""

import jax
import jax.numpy as jnp

Array = jax.Array


def softmax_cross_entropy(
  logits_BK: Array, targets_BK: Array, weights_K: Array | float = 1.0
) -> Array:
  """loss_B = -sum_k weights targets log softmax(logits), in nats.

  As torch's cross_entropy for class probabilities. Targets of several classes have a mass of more
  than one, and count as often.
  """
  return -jnp.sum(weights_K * targets_BK * jax.nn.log_softmax(logits_BK), axis=-1)


def token_cross_entropy(logits_BTV: Array, target_BT: Array, label_smoothing: float = 0.0) -> Array:
  """loss_BT of the right tokens in nats, 0 at padding (token 0).

  Args:
    label_smoothing: mass spread evenly over the vocabulary (arXiv:1512.00567 section 7).
  """
  logp_BTV = jax.nn.log_softmax(logits_BTV)
  right_BT = jnp.take_along_axis(logp_BTV, target_BT[..., None], axis=-1)[..., 0]
  even_BT = jnp.mean(logp_BTV, axis=-1)
  loss_BT = (1 - label_smoothing) * right_BT + label_smoothing * even_BT
  return jnp.where(target_BT == 0, 0.0, -loss_BT)


def sigmoid_cross_entropy(
  logits_BK: Array, targets_BK: Array, weights_K: Array | float = 1.0
) -> Array:
  """loss_B: binary cross-entropy summed over classes ("Are we done with ImageNet?", sec. 4)."""
  log_p, log_not_p = jax.nn.log_sigmoid(logits_BK), jax.nn.log_sigmoid(-logits_BK)
  return -jnp.sum(weights_K * (targets_BK * log_p + (1 - targets_BK) * log_not_p), axis=-1)


def binary_cross_entropy(
  logits_BK: Array, targets_BK: Array, weights_K: Array | float = 1.0
) -> Array:
  """loss_B: the mean over classes, to each of which an example belongs or not.

  As in DeiT III (arXiv:2204.07118 section 3; deit's `engine.py`, targets.gt(0), and torch's
  BCEWithLogitsLoss): both classes of a mixed image are full targets.
  """
  whole_BK = (targets_BK > 0).astype(jnp.float32)
  return sigmoid_cross_entropy(logits_BK, whole_BK, weights_K) / logits_BK.shape[-1]


LOSSES = {
  'softmax': softmax_cross_entropy,
  'sigmoid': sigmoid_cross_entropy,
  'bce': binary_cross_entropy,
}
# The probability of each class that each loss takes logits for.
PROBABILITIES = {'softmax': jax.nn.softmax, 'sigmoid': jax.nn.sigmoid, 'bce': jax.nn.sigmoid}


def smooth(targets_BK: Array, label_smoothing: float) -> Array:
  """Scales targets by 1 - s and gives s / K to each class (Szegedy et al. 2016), s the smoothing.

  Of targets of m classes, the mass becomes (1 - s) m + s: each of them keeps 1 - s, and what all
  classes get does not grow with m.
  """
  return targets_BK * (1 - label_smoothing) + label_smoothing / targets_BK.shape[-1]


def hard_distillation(logits_BK: Array, teacher_BK: Array) -> Array:
  """loss_B: cross-entropy to the teacher's decision (arXiv:2012.12877 equation 3)."""
  decision_BK = jax.nn.one_hot(jnp.argmax(teacher_BK, axis=-1), teacher_BK.shape[-1])
  return softmax_cross_entropy(logits_BK, decision_BK)


def soft_distillation(logits_BK: Array, teacher_BK: Array, tau: float) -> Array:
  """loss_B: tau^2 KL(teacher, student) at temperature tau (arXiv:2012.12877 equation 2).

  In the direction of arXiv:1503.02531: the student approximates the teacher.
  """
  log_p_BK = jax.nn.log_softmax(teacher_BK / tau)
  log_q_BK = jax.nn.log_softmax(logits_BK / tau)
  return tau**2 * jnp.sum(jnp.exp(log_p_BK) * (log_p_BK - log_q_BK), axis=-1)
