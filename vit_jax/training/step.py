"""The step: one jitted function. `train`, `bench` and `plan` compile this same one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh as DeviceMesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vit_jax.parallel import rules
from vit_jax.parallel.mesh import BATCH_SPEC
from vit_jax.training.state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


def make_train_step(model: Any, task: Any, tx: optax.GradientTransformation, *,
                    mesh: DeviceMesh, state: TrainState, seed: int = 0, accumulate: int = 1,
                    ema: float = 0.0) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """The jitted (state, batch) -> (state, metrics), state donated.

  A batch has `image` (B, H, W, C) uint8, `label` (B,) int32 and `mask` (B,) bool; a masked row
  counts nowhere. Metrics are sums over examples (`loss`, `top1`, `examples`) and, of the update,
  `grad_norm` before clipping. With `accumulate` > 1 the batch runs as that many micro-batches
  whose gradients add up to the whole batch's.

  Args:
    state: arrays or shapes, from which the shardings follow.
  """

  def micro_loss(params, batch, key, total):
    augment_key, dropout_key = jax.random.split(key)
    images_BHWC, targets_BK = task.inputs(batch, augment_key)
    output = model.apply({'params': params}, images_BHWC, train=True,
                         rngs={'dropout': dropout_key})
    mask_B = batch['mask'].astype(jnp.float32)
    loss = jnp.sum(task.loss(output, targets_BK, train=True) * mask_B)
    correct_B = jnp.argmax(output.logits_BK, axis=-1) == jnp.argmax(targets_BK, axis=-1)
    sums = {'loss': loss, 'top1': jnp.sum(correct_B * mask_B), 'examples': jnp.sum(mask_B)}
    return loss / total, sums

  def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      key = jax.random.fold_in(jax.random.key(seed), state.step)
      total = jnp.maximum(jnp.sum(batch['mask'].astype(jnp.float32)), 1.0)
      grad = jax.grad(micro_loss, has_aux=True)
      if accumulate == 1:
        grads, sums = grad(state.params, batch, key, total)
      else:
        # Row i goes to micro-batch i % accumulate, so that no row leaves its device.
        micro = jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(-1, accumulate, *x.shape[1:]), 1, 0), batch)
        add_one = lambda carry, xs: (  # noqa: E731
            jax.tree.map(jnp.add, carry, grad(state.params, xs[0], xs[1], total)), None)
        shapes = jax.eval_shape(grad, state.params, jax.tree.map(lambda x: x[0], micro), key, total)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        (grads, sums), _ = jax.lax.scan(add_one, zeros, (micro, jax.random.split(key, accumulate)))
      updates, opt_state = tx.update(grads, state.opt_state, state.params)
      params = optax.apply_updates(state.params, updates)
      averaged = state.ema
      if averaged is not None:
        # Warmed up as in Adam's bias correction, or the first epochs would average the init.
        decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
        averaged = jax.tree.map(lambda a, p: a * decay + p * (1 - decay), averaged, params)
      metrics = {**sums, 'grad_norm': optax.global_norm(grads)}
      return TrainState(state.step + 1, params, opt_state, averaged), metrics

  state_shardings = rules.shardings(state, mesh)
  return jax.jit(train_step, donate_argnums=0,
                 in_shardings=(state_shardings, NamedSharding(mesh, BATCH_SPEC)),
                 out_shardings=(state_shardings, NamedSharding(mesh, P())))


def make_eval_step(model: Any, task: Any, *, mesh: DeviceMesh, params: Any
                   ) -> Callable[[Any, Batch], Batch]:
  """The jitted (params, batch) -> arrays over B, the same on every process.

  Args:
    params: arrays or shapes, from which the shardings follow.
  """

  def eval_step(params, batch: Batch) -> Batch:
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      images_BHWC, targets_BK = task.inputs(batch, None)
      output = model.apply({'params': params}, images_BHWC, train=False)
      rows = task.metrics(output, batch, task.loss(output, targets_BK, train=False))
      return {**rows, 'label': batch['label'], 'index': batch['index'], 'mask': batch['mask']}

  return jax.jit(eval_step, out_shardings=NamedSharding(mesh, P()),
                 in_shardings=(rules.shardings(params, mesh), NamedSharding(mesh, BATCH_SPEC)))
