"""The linear probe: multinomial logistic regression on frozen features, by L-BFGS.

The L2 penalty is chosen on held-out training examples, never on the test split. Features are
standardized with the mean and deviation of the training examples; the penalty is on the weights
and not on the bias. On one device, so that no sum depends on how many there are.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

PENALTIES = tuple(10.0**power for power in range(-6, 2))  # per example
MAX_STEPS = 500
# Of the gradient's norm, where the loss is a mean over examples: of the final probe, and of those
# among which a penalty is chosen, whose accuracies are known to a few examples anyway.
TOLERANCE, CHOICE_TOLERANCE = 1e-5, 1e-3
PATIENCE = 2  # penalties in a row that do worse than the best so far; then no weaker one is tried
EPSILON = 1e-6  # of the deviations: constant features stay zero

Array = jax.Array


class Probe(NamedTuple):
  """A fitted classifier of features."""

  mean_D: np.ndarray
  std_D: np.ndarray
  weights_KD: np.ndarray
  bias_K: np.ndarray

  def predict(self, features_ND: np.ndarray) -> np.ndarray:
    """The most probable class of each row."""
    x_ND = (features_ND - self.mean_D) / self.std_D
    return np.argmax(x_ND @ self.weights_KD.T + self.bias_K, axis=1)

  def top1(self, features_ND: np.ndarray, labels_N: np.ndarray) -> float:
    return float(np.mean(self.predict(features_ND) == labels_N))


class Choice(NamedTuple):
  """A penalty, and the accuracy it reached on the held-out part of train."""

  penalty: float
  validation_top1: float


def fit(features_ND: np.ndarray, labels_N: np.ndarray, num_classes: int, penalty: float) -> Probe:
  """Minimizes mean cross-entropy + penalty / 2 * |weights|^2."""
  mean_D, std_D, x_ND = _standardize(np.array(features_ND, np.float32))
  params = _solve(_zeros(num_classes, x_ND), x_ND, labels_N, penalty, TOLERANCE)
  return Probe(mean_D, std_D, **params)


def choose(
  features_ND: np.ndarray,
  labels_N: np.ndarray,
  num_classes: int,
  split: tuple[np.ndarray, np.ndarray],
) -> Choice:
  """The penalty that does best on the held-out rows when fitted on the kept ones.

  From the strongest down, each starting from the solution of the last.

  Args:
    split: (held, kept), indices of rows; see `sets.Part.hold_out`.
  """
  held, kept = split
  mean_D, std_D, x_ND = _standardize(features_ND[kept].astype(np.float32, copy=False))
  params, choices = _zeros(num_classes, x_ND), []
  for penalty in reversed(PENALTIES):
    params = _solve(params, x_ND, labels_N[kept], penalty, CHOICE_TOLERANCE)
    probe = Probe(mean_D, std_D, **params)
    choices.append(Choice(penalty, probe.top1(features_ND[held], labels_N[held])))
    best = max(choices, key=lambda choice: choice.validation_top1)
    if all(choice.validation_top1 < best.validation_top1 for choice in choices[-PATIENCE:]):
      break
  return best


def predict(
  train_ND: np.ndarray,
  train_labels_N: np.ndarray,
  test_ND: np.ndarray,
  num_classes: int,
  split: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, Choice]:
  """(the class of each test example by a probe of all training ones, its penalty)."""
  choice = choose(train_ND, train_labels_N, num_classes, split)
  probe = fit(train_ND, train_labels_N, num_classes, choice.penalty)
  return probe.predict(test_ND), choice


def _standardize(x_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray, Array]:
  """(mean, deviation, standardized on the device); overwrites `x_ND`, which is large."""
  mean_D = x_ND.mean(axis=0)
  x_ND -= mean_D
  std_D = np.sqrt(np.einsum('nd,nd->d', x_ND, x_ND) / len(x_ND))  # no second array of their size
  std_D = np.where(std_D > EPSILON, std_D, 1.0).astype(np.float32)
  x_ND /= std_D
  return mean_D, std_D, jax.device_put(x_ND)


def _zeros(num_classes: int, x_ND: Array) -> dict[str, np.ndarray]:
  return {
    'weights_KD': np.zeros((num_classes, x_ND.shape[1]), np.float32),
    'bias_K': np.zeros(num_classes, np.float32),
  }


def _solve(
  params: dict[str, np.ndarray], x_ND: Array, labels_N: np.ndarray, penalty: float, tolerance: float
) -> dict[str, np.ndarray]:
  return jax.device_get(
    _lbfgs(params, x_ND, labels_N.astype(np.int32), np.float32(penalty), np.float32(tolerance))
  )


@jax.jit
def _lbfgs(
  params: dict[str, Array], x_ND: Array, labels_N: Array, penalty: Array, tolerance: Array
) -> Any:
  """L-BFGS with a zoom line search, until the gradient is small or the steps are used up."""

  def loss(params: dict[str, Array]) -> Array:
    # Rows of D along which both products of a step run: half the time of [D, K] on a CPU.
    logits_NK = jnp.matmul(x_ND, params['weights_KD'].T, precision=jax.lax.Precision.HIGHEST)
    logits_NK += params['bias_K'][None]
    entropy = optax.softmax_cross_entropy_with_integer_labels(logits_NK, labels_N)
    return jnp.mean(entropy) + penalty / 2 * jnp.sum(jnp.square(params['weights_KD']))

  solver = optax.lbfgs()
  value_and_grad = optax.value_and_grad_from_state(loss)

  def go_on(carry: Any) -> Array:
    step, size, *_ = carry
    return (step < MAX_STEPS) & (size > tolerance)

  def step(carry: Any) -> Any:
    count, _, params, state = carry
    value, grad = value_and_grad(params, state=state)
    updates, state = solver.update(grad, state, params, value=value, grad=grad, value_fn=loss)
    return count + 1, optax.tree.norm(grad), optax.apply_updates(params, updates), state

  begin = jnp.int32(0), jnp.float32(jnp.inf), params, solver.init(params)
  return jax.lax.while_loop(go_on, step, begin)[2]
