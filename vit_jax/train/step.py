"""The step: one jitted function. `train`, `bench` and `plan` compile this same one."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh as DeviceMesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vit_jax.config import Spikes
from vit_jax.models import constraints
from vit_jax.parallel import rules
from vit_jax.parallel.mesh import BATCH_SPEC
from vit_jax.train import spikes as policy
from vit_jax.train.state import TrainState, as_variables

Batch = dict[str, Any]
Metrics = dict[str, jax.Array]
SPIKES = Spikes()


def make_train_step(
  model: Any,
  task: Any,
  tx: optax.GradientTransformationExtraArgs,
  *,
  mesh: DeviceMesh,
  state: TrainState,
  seed: int = 0,
  accumulate: int = 1,
  ema: float = 0.0,
  ema_warmup: bool = False,
  spikes: Spikes = SPIKES,
  trained: Any = None,
  reduce_dtype: str = 'float32',
  gather: Literal['pass', 'step'] = 'pass',
  frozen: tuple[Any, ...] = (),
) -> Callable[..., tuple[TrainState, Metrics]]:
  """The jitted (state, batch, *frozen) -> (state, metrics), state donated.

  A batch is what `task` reads, with `mask` (B,) bool: a masked row counts nowhere. The loss is the
  mean over what `task.weights` counts. Metrics are those of the task, sums over the batch, and of
  the update `grad_norm` before clipping, `skipped` (0 or 1) and `in_a_row`, how many were. With
  `accumulate` > 1 the batch runs as that many micro-batches whose gradients add up to the whole
  batch's; a BatchNorm sees one after the other. Augmentation is drawn for the whole batch
  (`task.drawn`), dropout for each micro-batch.

  An update that `spikes` skips leaves all of the state bit by bit as it was, but for the step and
  the count of skipped ones. It is decided on the device, and costs no pass over the parameters.

  Args:
    tx: its `update` takes the keyword `step`, as that of `make_optimizer`.
    ema: decay of the average, constant as in timm's ModelEmaV2.
    ema_warmup: let it rise to `ema`, or the first epochs would average the initial parameters.
    trained: bool by parameter; others have no gradient, which saves computing it.
    reduce_dtype: in which gradients of kernels are summed over devices, and in which kernels are
      gathered where they are split; the sum over a device's own rows stays float32.
    gather: as `config.Mesh.gather`.
    state: arrays or shapes, from which the shardings follow.
    frozen: likewise; trees that the task reads and no step changes.
  """

  state_shardings = rules.shardings(state, mesh)

  def micro_loss(params, batch_stats, batch, key, total, frozen):
    if trained is not None:
      params = jax.tree.map(lambda p, t: p if t else jax.lax.stop_gradient(p), params, trained)
    inputs, targets = task.inputs(batch, *frozen)
    options = {'rngs': {'dropout': key}, 'mutable': ['batch_stats']}
    if batch_stats is not None:
      options['mask_B'] = batch['mask']
    variables = as_variables(params, batch_stats)
    output, updated = model.apply(variables, inputs, train=True, **options)
    mask_B = batch['mask'].astype(jnp.float32)
    loss_B = task.loss(output, targets)
    sums = task.metrics(output, targets, loss_B, mask_B)
    return jnp.sum(loss_B * mask_B) / total, (sums, updated.get('batch_stats'))

  def whole(path, p, sharding):
    """A kernel on each device; without the first constraint it would be cast there."""
    if path[-1].key != 'kernel':
      return p
    p = jax.lax.with_sharding_constraint(p.astype(reduce_dtype), sharding)
    return jax.lax.with_sharding_constraint(p, rules.gathered(sharding))

  def micro_grad(params, *args):
    """Gradients, sharded as their parameters are."""
    # The gradient of a kernel has the dtype of the kernel.
    params = jax.tree.map_with_path(
      lambda path, p: p.astype(reduce_dtype) if path[-1].key == 'kernel' else p, params
    )
    grads, beside = jax.grad(micro_loss, has_aux=True)(params, *args)
    grads = jax.lax.with_sharding_constraint(grads, state_shardings.params)
    if constraints.platform() == 'gpu':
      # Else each moment would be a pass of its own over the gradients of all layers.
      grads = jax.lax.optimization_barrier(grads)
    return jax.tree.map(lambda g: g.astype(jnp.float32), grads), beside

  def train_step(state: TrainState, batch: Batch, *frozen: Any) -> tuple[TrainState, Metrics]:
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      step_key = jax.random.fold_in(jax.random.key(seed), state.step)
      augment_key, key = jax.random.split(step_key)
      batch = task.drawn(batch, augment_key)
      params = state.params
      if gather == 'step':
        params = jax.tree.map_with_path(whole, params, state_shardings.params)
      total = jnp.maximum(jnp.sum(task.weights(batch)), 1.0)
      if accumulate == 1:
        grads, (sums, batch_stats) = micro_grad(
          params, state.batch_stats, batch, key, total, frozen
        )
      else:
        # Row i goes to micro-batch i % accumulate, so that no row leaves its device.
        micro = jax.tree.map(
          lambda x: jnp.moveaxis(x.reshape(-1, accumulate, *x.shape[1:]), 1, 0), batch
        )

        def add_one(carry, xs):
          summed, batch_stats = carry
          grads, (sums, batch_stats) = micro_grad(params, batch_stats, *xs, total, frozen)
          return (jax.tree.map(jnp.add, summed, (grads, sums)), batch_stats), None

        xs = micro, jax.random.split(key, accumulate)
        first = jax.tree.map(lambda x: x[0], xs)
        grads, (sums, _) = jax.eval_shape(
          micro_grad, params, state.batch_stats, *first, total, frozen
        )
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (grads, sums))
        zeros = jax.lax.with_sharding_constraint(zeros[0], state_shardings.params), zeros[1]
        ((grads, sums), batch_stats), _ = jax.lax.scan(add_one, (zeros, state.batch_stats), xs)
      grad_norm = optax.global_norm(grads)
      good, counters = policy.judge(spikes, state.spikes, sums['loss'] / total, grad_norm)
      updates, opt_state = tx.update(grads, state.opt_state, state.params, step=state.step)
      params = optax.apply_updates(state.params, updates)
      averaged = state.ema
      if averaged is not None:
        decay = ema
        if ema_warmup:
          decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
        # In this form what does not change has an average that does not.
        averaged = jax.tree.map(
          lambda a, v: a + (1.0 - decay) * (v - a), averaged, as_variables(params, batch_stats)
        )
      after = TrainState(state.step + 1, params, opt_state, counters, averaged, batch_stats)
      before = TrainState(
        after.step, state.params, state.opt_state, counters, state.ema, state.batch_stats
      )
      kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, before)
      metrics = {
        **sums,
        'grad_norm': grad_norm,
        'skipped': 1.0 - good,
        'in_a_row': counters['in_a_row'],
      }
      return kept, metrics

  return jax.jit(
    train_step,
    donate_argnums=0,
    compiler_options=compiler_options(mesh),
    in_shardings=(state_shardings, NamedSharding(mesh, BATCH_SPEC), *rules.shardings(frozen, mesh)),
    out_shardings=(state_shardings, NamedSharding(mesh, P())),
  )


def compiler_options(mesh: DeviceMesh) -> dict[str, Any]:
  """Options of XLA for a training step on the devices of `mesh`."""
  if mesh.devices.flat[0].platform != 'tpu':
    return {}
  # On some numbers of chips (16, but not 64 or 256), XLA would split a product and the gather of
  # its weight into a ring of small ones, which takes more memory.
  collectives = 'all_gather', 'reduce_scatter'
  return {f'xla_tpu_enable_windowed_einsum_for_{name}': False for name in collectives}
