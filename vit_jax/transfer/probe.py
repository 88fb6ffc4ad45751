"""The linear probe: multinomial logistic regression on frozen features, by L-BFGS.

The L2 penalty is chosen on held-out training examples, never on the test split. Features are
standardised with the mean and deviation of the training examples; the penalty is on the weights
and not on the bias. On one device, so that no sum depends on how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vit_jax.transfer.linear import hold_out

PENALTIES = tuple(10.0**power for power in range(-6, 1))  # per example
MAX_STEPS = 500
TOLERANCE = 1e-5  # of the gradient's norm, where the loss is a mean over examples
EPSILON = 1e-6  # of the deviations: constant features stay zero

Array = jax.Array


class Probe(NamedTuple):
  """A fitted classifier of features."""

  mean_D: np.ndarray
  std_D: np.ndarray
  weights_DK: np.ndarray
  bias_K: np.ndarray

  def predict(self, features_ND: np.ndarray) -> np.ndarray:
    """The most probable class of each row."""
    x_ND = (features_ND - self.mean_D) / self.std_D
    return np.argmax(x_ND @ self.weights_DK + self.bias_K, axis=1)

  def top1(self, features_ND: np.ndarray, labels_N: np.ndarray) -> float:
    return float(np.mean(self.predict(features_ND) == labels_N))


class Choice(NamedTuple):
  """A penalty, and the accuracy it reached on the held-out part of train."""

  penalty: float
  validation_top1: float


def fit(features_ND: np.ndarray, labels_N: np.ndarray, num_classes: int, penalty: float,
        start: Probe | None = None) -> Probe:
  """Minimises mean cross-entropy + penalty / 2 * |weights|^2.

  Args:
    start: a probe of the same features to begin at, such as that of the penalty before.
  """
  features_ND = np.asarray(features_ND, np.float32)
  mean_D, std_D = features_ND.mean(axis=0), features_ND.std(axis=0)
  std_D = np.where(std_D > EPSILON, std_D, 1.0).astype(np.float32)
  if start is None:
    params = {'weights_DK': np.zeros((features_ND.shape[1], num_classes), np.float32),
              'bias_K': np.zeros(num_classes, np.float32)}
  else:
    params = {'weights_DK': start.weights_DK, 'bias_K': start.bias_K}
  solved = _solve(params, (features_ND - mean_D) / std_D, labels_N.astype(np.int32),
                  np.float32(penalty))
  return Probe(mean_D, std_D, **jax.device_get(solved))


def choose(features_ND: np.ndarray, labels_N: np.ndarray, num_classes: int,
           penalties: Sequence[float] = PENALTIES, seed: int = 0) -> Choice:
  """The penalty that does best on a random fifth of the examples when fitted on the rest."""
  held, kept = hold_out(len(labels_N), seed)
  choices, probe = [], None
  for penalty in sorted(penalties, reverse=True):  # from the simplest, each beginning at the last
    probe = fit(features_ND[kept], labels_N[kept], num_classes, penalty, probe)
    choices.append(Choice(penalty, probe.top1(features_ND[held], labels_N[held])))
  return max(choices, key=lambda choice: choice.validation_top1)


def predict(train_ND: np.ndarray, train_labels_N: np.ndarray, test_ND: np.ndarray,
            num_classes: int) -> tuple[np.ndarray, Choice]:
  """(the class of each test example by a probe of all training ones, its penalty)."""
  choice = choose(train_ND, train_labels_N, num_classes)
  probe = fit(train_ND, train_labels_N, num_classes, choice.penalty)
  return probe.predict(test_ND), choice


@jax.jit
def _solve(params: dict[str, Array], x_ND: Array, labels_N: Array, penalty: Array) -> Any:
  """L-BFGS with a zoom line search, until the gradient is small or the steps are used up."""

  def loss(params: dict[str, Array]) -> Array:
    logits_NK = jnp.matmul(x_ND, params['weights_DK'], precision=jax.lax.Precision.HIGHEST)
    logits_NK += params['bias_K'][None]
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits_NK, labels_N)
    return jnp.mean(entropy) + penalty / 2 * jnp.sum(jnp.square(params['weights_DK']))

  solver = optax.lbfgs()
  value_and_grad = optax.value_and_grad_from_state(loss)

  def go_on(carry: Any) -> Array:
    step, size, *_ = carry
    return (step < MAX_STEPS) & (size > TOLERANCE)

  def step(carry: Any) -> Any:
    count, _, params, state = carry
    value, grad = value_and_grad(params, state=state)
    updates, state = solver.update(grad, state, params, value=value, grad=grad, value_fn=loss)
    return count + 1, optax.tree.norm(grad), optax.apply_updates(params, updates), state

  begin = jnp.int32(0), jnp.float32(jnp.inf), params, solver.init(params)
  return jax.lax.while_loop(go_on, step, begin)[2]
