"""Optimizers of optax, from `config.Optim`. Paths and shapes are read in `parameters.py`."""

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from vit_jax.config import Optim
from vit_jax.train.parameters import (
  Factors,
  factors,
  is_head,
  is_hidden_matrix,
  is_stacked,
  matrix,
  per_leaf,
  unit_axes,
)

# arXiv:2106.04560 section 3.4 and big_vision's `optax.py`: the second moment is factored over axes
# of so many elements, and its decay rises to b2 as 1 - t^-0.8.
FACTOR_FROM, DECAY_POWER = 32, 0.8
# arXiv:2502.16982 section 2.2: root mean square of AdamW's updates, which those of Muon are given.
MUON_RMS = 0.2


def make_optimizer(optim: Optim, schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
  """Clip, scale as the optimizer says, decay weights, multiply by the learning rate.

  `update` takes `step`, of which the rate is a function: a skipped update leaves all of the state
  as it was, and the clock goes on. Decay is of matrices only, and times the rate. Frozen parameters
  have neither updates nor state and count in no norm.

    adamw      Adam (arXiv:1412.6980) with decoupled decay (arXiv:1711.05101).
    sgd        torch's: the momentum is a sum, without dampening; coupled decay is added to the
               gradient before it.
    lamb       arXiv:1904.00962 as timm's `lamb.py` and apex's FusedLAMB have it: decay is a part of
               the update whose norm is compared, and parameters without decay are not rescaled.
               Both clip gradients to a global norm of 1 unless told not to; here clip_norm says so.
    adafactor  arXiv:2106.04560 section 3.4 as big_vision's `optax.py`: no relative steps, no
               clipping or scaling by the parameters; momentum b1 after scaling.
    lion       arXiv:2302.06675.
    muon       orthogonalized momentum for hidden matrices, AdamW for all else; see `_muon`.

  Raises (from `init`):
    UserError: as `factors`.
  """

  def build(params: Any) -> optax.GradientTransformationExtraArgs:
    found = factors(optim, params)
    tx = optax.with_extra_args_support(_chain(optim, schedule, found))
    frozen = per_leaf(lambda name, _: found[name].frozen, params)
    if not any(jax.tree.leaves(frozen)):
      return tx
    trained = jax.tree.map(lambda leaf: not leaf, frozen)
    return optax.chain(optax.masked(tx, trained), optax.masked(optax.set_to_zero(), frozen))

  def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
    return build(params).update(updates, state, params, **extra)

  return optax.GradientTransformationExtraArgs(lambda params: build(params).init(params), update)


def trained(optim: Optim, params: Any) -> Any:
  """False at the leaves that are frozen."""
  found = factors(optim, params)
  return per_leaf(lambda name, _: not found[name].frozen, params)


def _chain(
  optim: Optim, schedule: optax.Schedule, found: Mapping[str, Factors]
) -> optax.GradientTransformation:
  parts = []
  if optim.clip_agc:
    parts.append(_stateless(lambda name, g, p: _clip_units(name, g, p, optim.clip_agc)))
  if optim.clip_norm:
    parts.append(optax.clip_by_global_norm(optim.clip_norm))
  scale = {
    'adamw': _adam,
    'sgd': _momentum,
    'lamb': _adam,
    'adafactor': _adafactor,
    'lion': lambda o: optax.scale_by_lion(b1=o.b1, b2=o.b2, mu_dtype=o.mu_dtype),
    'muon': _muon,
  }[optim.name](optim)
  decay = _stateless(
    lambda name, u, p: u + found[name].weight_decay * p if found[name].weight_decay else u
  )
  parts += [decay, scale] if optim.decay == 'coupled' else [scale, decay]
  if optim.name == 'lamb':
    parts.append(
      _stateless(lambda name, u, p: _trusted(name, u, p) if found[name].weight_decay else u)
    )
  if any(jnp.ndim(factor.lr) or factor.lr != 1 for factor in found.values()):
    parts.append(_stateless(lambda name, u, p: u * found[name].lr))
  return optax.chain(*parts, _by_rate(schedule))


def _stateless(function: Callable[[str, Any, Any], Any]) -> optax.GradientTransformation:
  """Makes function(path, update, parameter) of every update."""
  return optax.stateless(lambda updates, params: per_leaf(function, updates, params))


def _by_rate(schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
  """Times -schedule(step): as `optax.scale_by_learning_rate`, by a clock that is not its own."""

  def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> Any:
    rate = -jnp.asarray(schedule(extra['step']))
    return jax.tree.map(lambda u: rate * u, updates), state

  return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def _adam(optim: Optim) -> optax.GradientTransformation:
  return optax.scale_by_adam(b1=optim.b1, b2=optim.b2, eps=optim.eps, mu_dtype=optim.mu_dtype)


def _momentum(optim: Optim) -> optax.GradientTransformation:
  return optax.trace(
    decay=optim.momentum, nesterov=optim.nesterov, accumulator_dtype=optim.mu_dtype
  )


def _clip_units(name: str, grad: Any, param: Any, clipping: float) -> Any:
  """Adaptive clipping (arXiv:2102.06171 section 4), with the unit-wise norms of timm's `agc.py`."""
  if is_head(name):
    return grad
  tx = optax.adaptive_grad_clip(clipping, axis=unit_axes(name, grad.ndim))
  return tx.update(grad, optax.EmptyState(), param)[0]


def _trusted(name: str, update: Any, param: Any) -> Any:
  """Times the norm of the parameter over that of the update, in each layer."""

  def one(update: Any, param: Any) -> Any:
    return optax.scale_by_trust_ratio().update(update, optax.EmptyState(), param)[0]

  return jax.vmap(one)(update, param) if is_stacked(name) else one(update, param)


def _adafactor(optim: Optim) -> optax.GradientTransformation:
  """`optax.scale_by_factored_rms` in each layer, for it factors the two largest axes; momentum."""
  rms = optax.scale_by_factored_rms(
    decay_rate=DECAY_POWER,
    min_dim_size_to_factor=FACTOR_FROM,
    decay_rate_fn=lambda count, power: jnp.minimum(
      optim.b2, 1 - (jnp.asarray(count, jnp.float32) + 1) ** -jnp.asarray(power)
    ),
  )

  def by_layer(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    return jax.vmap(function) if is_stacked(name) else function

  def split(tree: Any, like: Any) -> list[Any]:
    """A tree of tuples as a tuple of trees."""
    return jax.tree.transpose(jax.tree.structure(like), None, tree)

  def init(params: Any) -> Any:
    def one(name: str, param: Any) -> tuple[Any, ...]:
      return by_layer(name, lambda p: tuple(cast(Any, rms.init(p)))[1:])(param)

    return optax.FactoredState(jnp.zeros((), jnp.int32), *split(per_leaf(one, params), params))

  def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
    def one(name: str, grad: Any, row: Any, column: Any, whole: Any, param: Any) -> tuple[Any, ...]:
      def layer(grad: Any, row: Any, column: Any, whole: Any, param: Any) -> tuple[Any, ...]:
        before = optax.FactoredState(state.count, row, column, whole)
        scaled, after = rms.update(grad, cast(Any, before), param)
        return scaled, *cast(Any, after)[1:]

      return by_layer(name, layer)(grad, row, column, whole, param)

    scaled, *moments = split(per_leaf(one, updates, *state[1:], params), updates)
    return scaled, optax.FactoredState(optax.safe_increment(state.count), *moments)

  momentum = optax.ema(optim.b1, debias=False, accumulator_dtype=optim.mu_dtype)
  return optax.chain(optax.GradientTransformation(init, update), momentum)


def _muon(optim: Optim) -> optax.GradientTransformation:
  """Muon (https://kellerjordan.github.io/posts/muon/) where it is meant for, and AdamW elsewhere.

  As torch.optim.Muon with adjust_lr_fn='match_rms_adamw': five steps of Newton and Schulz, in
  float32, and updates of AdamW's size (arXiv:2502.16982), so that one rate and one decay suit all
  parameters. Each layer is orthogonalized by itself, as are query, key and value.
  """

  def orthogonalize(updates: Any, params: Any = None) -> Any:
    dims = per_leaf(
      lambda name, leaf: contrib.MuonDimensionNumbers(*_axes(name, leaf.ndim)), updates
    )
    # Without momentum, which `optax.trace` keeps: theirs is corrected for its start twice.
    tx = contrib.scale_by_muon(beta=0.0, nesterov=False, weight_dimension_numbers=dims)
    return tx.update(updates, tx.init(updates), params)[0]

  def scale(name: str, update: Any, param: Any) -> Any:
    sizes = (math.prod(update.shape[i] for i in axes) for axes in _axes(name, update.ndim))
    return update * (MUON_RMS * max(sizes) ** 0.5)

  hidden = optax.chain(_momentum(optim), optax.stateless(orthogonalize), _stateless(scale))
  return optax.partition(
    {'muon': hidden, 'adamw': _adam(optim)},
    lambda params: per_leaf(lambda name, _: 'muon' if is_hidden_matrix(name) else 'adamw', params),
  )


def _axes(name: str, ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
  found = matrix(name, ndim)
  assert found is not None
  return found
