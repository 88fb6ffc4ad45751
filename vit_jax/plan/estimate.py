"""What a step needs, by arithmetic on shapes, without a compiler. Search prunes with it."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax import models
from vit_jax.config import Experiment
from vit_jax.models import flops
from vit_jax.parallel import rules
from vit_jax.plan.collectives import Collective
from vit_jax.train.trainer import Trainer


def option(x: Experiment, name: str, default: Any) -> Any:
  return getattr(x.model.options, name, default)


def with_options(x: Experiment, **options: Any) -> Experiment:
  """The experiment with other options of its model."""
  changed = dataclasses.replace(x.model.options, **options)
  return dataclasses.replace(x, model=dataclasses.replace(x.model, options=changed))


def tree_bytes(tree: Any) -> int:
  """Bytes that one device holds of a tree of shapes with shardings."""
  return sum(rules.bytes_per_chip(tree).values())


def state_bytes(trainer: Trainer) -> dict[str, int]:
  """Bytes that one device holds of the state, by purpose."""
  state = trainer.abstract_state
  return {
    'parameters': tree_bytes(state.params),
    'optimizer': tree_bytes(state.opt_state),
    'averages': tree_bytes((state.ema, state.batch_stats)),
    'teacher': tree_bytes(trainer.abstract_frozen),
  }


def examples_per_pass(trainer: Trainer) -> float:
  """Images or pairs that one device takes through the model at once."""
  shape, x = trainer.mesh.shape, trainer.experiment
  return trainer.domain.rows[-1] / (shape['replica'] * shape['fsdp'] * x.optim.accumulate)


def has_heads(model: Any) -> bool:
  """Whether `tensor` divides the model's work; each of its devices repeats that of a convnet."""
  return hasattr(model.options, 'heads')


def devices_per_image(trainer: Trainer) -> int:
  """Devices that share the work on one image."""
  shape = trainer.mesh.shape
  return shape['sequence'] * (shape['tensor'] if has_heads(trainer.model) else 1)


def activation_bytes(trainer: Trainer) -> float:
  """Bytes one device keeps for the backward pass: what automatic differentiation saves.

  The compiler may keep less (it computes cheap things again) or more (copies, padding).
  """
  saved = saved_bytes(trainer.model, trainer.shape)
  return examples_per_pass(trainer) * saved / devices_per_image(trainer)


@functools.lru_cache(maxsize=256)
def saved_bytes(model: Any, shape: tuple[int, ...]) -> float:
  """Bytes that automatic differentiation saves for the backward pass of one example, without those
  of parameters: the difference that a second one makes."""
  variables, logits = _training(model, shape)

  def residuals(variables, inputs):
    return jax.vjp(lambda params: logits(params, variables, inputs), variables['params'])[1]

  def size(batch: int) -> int:
    inputs = models.example(shape, batch)
    leaves = jax.tree.leaves(jax.eval_shape(residuals, variables, inputs))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)

  return size(2) - size(1)


@functools.lru_cache(maxsize=256)
def pass_flops(model: Any, shape: tuple[int, ...]) -> float:
  """FLOP of matrix products of an example, forward and backward, with what remat repeats."""
  variables, logits = _training(model, shape)

  def gradient(variables, inputs):
    return jax.grad(lambda *args: jnp.sum(logits(*args)))(variables['params'], variables, inputs)

  inputs = models.example(shape)
  return 2.0 * flops.jaxpr_macs(jax.make_jaxpr(gradient)(variables, inputs).jaxpr)


def _training(model: Any, shape: tuple[int, ...]) -> tuple[Any, Callable]:
  """(shapes of the variables, (params, variables, inputs) -> logits as in a train step)."""
  if hasattr(model.options, 'unroll'):
    model = model.clone(options=dataclasses.replace(model.options, unroll=False))

  def logits(params, variables, inputs):
    output, _ = model.apply(
      {**variables, 'params': params},
      inputs,
      train=True,
      rngs={'dropout': jax.random.key(0)},
      mutable=['batch_stats'],
    )
    return output.logits

  return models.variable_shapes(model, shape), logits


def memory_bytes(trainer: Trainer) -> float:
  """Roughly what one device needs: state, gradients, batch, saved and working activations."""
  state, model = state_bytes(trainer), trainer.model
  gradients = state['parameters'] * (2 if trainer.experiment.optim.accumulate > 1 else 1)
  activations = activation_bytes(trainer)
  if option(trainer.experiment, 'remat', 'none') != 'none':
    # Recomputing a layer needs all of its activations.
    plain = model.clone(options=dataclasses.replace(model.options, remat='none'))
    saved = examples_per_pass(trainer) * saved_bytes(plain, trainer.shape)
    activations += saved / (model.options.depth * devices_per_image(trainer))
  return sum(state.values()) + gradients + tree_bytes(trainer.abstract_batch) + activations


def expected_collectives(trainer: Trainer, group_devices: int) -> list[Collective]:
  """Roughly the collectives of a step: the bytes that fsdp, replica and tensor send.

  Args:
    group_devices: of a slice or node; the last axes are on the nearest devices.
  """
  shape, x, options = trainer.mesh.shape, trainer.experiment, trainer.model.options
  mine, passes = trainer.parameters / shape['tensor'], x.optim.accumulate
  rows, inner = [], shape['tensor'] * shape['sequence']

  def add(kind: str, axis: str, sent: float, inside: int) -> None:
    n = shape[axis]
    near = max(1, min(n, group_devices // inside))
    apart = n / near
    far = sent * (apart - 1) / apart / near
    rows.append(Collective(kind, axis, passes, sent, sent * (near - 1) / near, far))

  # Weights and tokens in the compute dtype, forward and backward, unless gathered once a step.
  size = jnp.dtype(option(x, 'dtype', 'float32')).itemsize
  reduced = jnp.dtype(x.optim.reduce_dtype).itemsize
  gathered = reduced if x.mesh.gather == 'step' else passes * 2 * size
  if hasattr(options, 'width'):
    tokens = passes * examples_per_pass(trainer) * trainer.domain.tokens
    layers = getattr(options, 'depth', 0)
    add('all-reduce', 'tensor', 8 * layers * tokens * options.width * size, 1)
  add('all-gather', 'fsdp', mine * gathered, inner)
  add('reduce-scatter', 'fsdp', passes * mine * reduced, inner)
  add('all-reduce', 'replica', 2 * mine / shape['fsdp'] * reduced, inner * shape['fsdp'])
  return rows
