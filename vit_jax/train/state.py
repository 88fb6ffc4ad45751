"""What a run carries from step to step: the train state, and the metrics not yet logged."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import flax.struct
import jax
import jax.numpy as jnp
import optax

from vit_jax import config, models
from vit_jax.train.spikes import begin


@flax.struct.dataclass
class TrainState:
  """What a step changes. Random keys are not in it: they are fold_in(key(seed), step)."""

  step: jax.Array  # int32, updates done or skipped so far
  params: Any
  opt_state: optax.OptState
  spikes: dict[str, jax.Array]  # see `spikes.begin`
  ema: Any = None  # averaged `variables`, if config.optim.ema asks for them
  batch_stats: Any = None  # running statistics, if the model has a BatchNorm

  @property
  def variables(self) -> dict[str, Any]:
    return as_variables(self.params, self.batch_stats)

  @property
  def eval_variables(self) -> dict[str, Any]:
    return self.variables if self.ema is None else self.ema

  def as_tree(self) -> dict[str, Any]:
    """The fields that are not None, by name: what a checkpoint holds."""
    return {name: value for name, value in vars(self).items() if value is not None}


def as_variables(params: Any, batch_stats: Any) -> dict[str, Any]:
  """What `model.apply` takes; `batch_stats` may be None."""
  return {'params': params} | ({} if batch_stats is None else {'batch_stats': batch_stats})


def init_state(
  model: Any,
  tx: optax.GradientTransformation,
  shape: tuple[int, ...],
  seed: int,
  ema: bool = False,
  spikes: config.Spikes | None = None,
) -> TrainState:
  """A new state; pure, for `jax.eval_shape` and `jax.jit`.

  Args:
    shape: of an example, as `models.example` takes it.
  """
  inputs = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), models.example(shape))
  variables = model.init(jax.random.key(seed), inputs, train=False)
  params, batch_stats = variables['params'], variables.get('batch_stats')
  averaged = jax.tree.map(jnp.copy, as_variables(params, batch_stats)) if ema else None
  return TrainState(
    jnp.zeros((), jnp.int32),
    params,
    tx.init(params),
    begin(spikes or config.Spikes()),
    averaged,
    batch_stats,
  )


class Window(NamedTuple):
  """Metrics summed over the steps since the last logged row.

  A checkpoint stores `sums`, so that a resumed run logs the same averages as an undisturbed one.
  `steps` and `began` (in seconds of training) are of this process alone, to measure throughput.
  """

  sums: Mapping[str, float]
  steps: int
  began: float

  def add(self, metrics: Mapping[str, Any]) -> Self:
    """Adds the metrics of one step, on the host; of one that was skipped, only that it was."""
    fetched = {**metrics, 'updates': 1.0}
    if metrics['skipped']:
      fetched = {**dict.fromkeys(fetched, 0.0), 'skipped': 1.0}
    sums = {name: self.sums.get(name, 0.0) + float(value) for name, value in fetched.items()}
    return self._replace(sums=sums, steps=self.steps + 1)
