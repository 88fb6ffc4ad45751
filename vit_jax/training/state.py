"""The train state: what a step changes, and nothing else."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
  """Random keys are not here: they are derived, fold_in(key(seed), step)."""

  step: jax.Array  # int32, updates done so far
  params: Any
  opt_state: optax.OptState
  ema: Any = None  # averaged parameters, where config.optim.ema asks for them

  @property
  def eval_params(self) -> Any:
    return self.params if self.ema is None else self.ema


def init_state(model: Any, tx: optax.GradientTransformation, image_shape: tuple[int, int, int],
               seed: int, ema: bool = False) -> TrainState:
  """A fresh state; pure, so `jax.eval_shape` and `jax.jit` with shardings both take it.

  Args:
    image_shape: (H, W, C) of one image.
  """
  images_BHWC = jnp.zeros((1, *image_shape), jnp.float32)
  params = model.init(jax.random.key(seed), images_BHWC, train=False)['params']
  return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params),
                    jax.tree.map(jnp.copy, params) if ema else None)
