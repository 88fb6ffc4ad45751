"""The train state: what a step changes, and nothing else."""

import dataclasses
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
  ema: Any = None  # averaged `variables`, where config.optim.ema asks for them
  batch_stats: Any = None  # running statistics, where the model has a BatchNorm

  @property
  def variables(self) -> dict[str, Any]:
    return as_variables(self.params, self.batch_stats)

  @property
  def tree(self) -> dict[str, Any]:
    """The parts that there are, by name: what a checkpoint stores."""
    parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    return {name: part for name, part in parts.items() if part is not None}

  @property
  def eval_variables(self) -> dict[str, Any]:
    return self.variables if self.ema is None else self.ema

  def as_tree(self) -> dict[str, Any]:
    """The fields that are there, by name: what a checkpoint holds."""
    return {name: value for name, value in vars(self).items() if value is not None}


def as_variables(params: Any, batch_stats: Any) -> dict[str, Any]:
  """What `model.apply` takes; `batch_stats` may be None."""
  return {'params': params} | ({} if batch_stats is None else {'batch_stats': batch_stats})


def init_state(
  model: Any,
  tx: optax.GradientTransformation,
  image_shape: tuple[int, int, int],
  seed: int,
  ema: bool = False,
) -> TrainState:
  """A fresh state; pure, so `jax.eval_shape` and `jax.jit` with shardings both take it.

  Args:
    image_shape: (H, W, C) of one image.
  """
  images_BHWC = jnp.zeros((1, *image_shape), jnp.float32)
  variables = model.init(jax.random.key(seed), images_BHWC, train=False)
  params, batch_stats = variables['params'], variables.get('batch_stats')
  averaged = jax.tree.map(jnp.copy, as_variables(params, batch_stats)) if ema else None
  return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), averaged, batch_stats)
