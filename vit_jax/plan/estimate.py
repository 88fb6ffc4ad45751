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


def images_per_pass(trainer: Trainer) -> float:
  """Images that one device takes through the model at once."""
  shape, x = trainer.mesh.shape, trainer.experiment
  return x.batch_size / (shape['replica'] * shape['fsdp'] * x.optim.accumulate)


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
  saved = saved_bytes(trainer.model, trainer.image_shape)
  return images_per_pass(trainer) * saved / devices_per_image(trainer)


@functools.lru_cache(maxsize=256)
def saved_bytes(model: Any, image_shape: tuple[int, int, int]) -> float:
  """Bytes that automatic differentiation saves for the backward pass of one image, without those
  of parameters: the difference that a second image makes."""
  variables, logits = _training(model, image_shape)

  def residuals(variables, images_BHWC):
    return jax.vjp(lambda params: logits(params, variables, images_BHWC), variables['params'])[1]

  def size(batch: int) -> int:
    images_BHWC = jax.ShapeDtypeStruct((batch, *image_shape), jnp.float32)
    leaves = jax.tree.leaves(jax.eval_shape(residuals, variables, images_BHWC))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)

  return size(2) - size(1)


@functools.lru_cache(maxsize=256)
def pass_flops(model: Any, image_shape: tuple[int, int, int]) -> float:
  """FLOP of matrix products, forward and backward, for one image, with those that remat repeats."""
  variables, logits = _training(model, image_shape)

  def gradient(variables, images_BHWC):
    return jax.grad(lambda *args: jnp.sum(logits(*args)))(
      variables['params'], variables, images_BHWC
    )

  images_BHWC = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  return 2.0 * flops.jaxpr_macs(jax.make_jaxpr(gradient)(variables, images_BHWC).jaxpr)


def _training(model: Any, image_shape: tuple[int, int, int]) -> tuple[Any, Callable]:
  """(shapes of the variables, (params, variables, images_BHWC) -> logits_BK as in a train step)."""
  if hasattr(model.options, 'unroll'):
    model = model.clone(options=dataclasses.replace(model.options, unroll=False))

  def logits(params, variables, images_BHWC):
    output, _ = model.apply(
      {**variables, 'params': params},
      images_BHWC,
      train=True,
      rngs={'dropout': jax.random.key(0)},
      mutable=['batch_stats'],
    )
    return output.logits_BK

  return models.variable_shapes(model, image_shape), logits


def memory_bytes(trainer: Trainer) -> float:
  """Roughly what one device needs: state, gradients, batch, saved and working activations."""
  state, model = state_bytes(trainer), trainer.model
  gradients = state['parameters'] * (2 if trainer.experiment.optim.accumulate > 1 else 1)
  activations = activation_bytes(trainer)
  if option(trainer.experiment, 'remat', 'none') != 'none':
    # Recomputing a layer needs all of its activations.
    plain = model.clone(options=dataclasses.replace(model.options, remat='none'))
    saved = images_per_pass(trainer) * saved_bytes(plain, trainer.image_shape)
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

  # Weights and tokens in the compute dtype, forward and backward; gradients in float32.
  size = jnp.dtype(option(x, 'dtype', 'float32')).itemsize
  if hasattr(options, 'width'):
    tokens = passes * images_per_pass(trainer) * math.prod(trainer.grid)
    layers = getattr(options, 'depth', 0)
    add('all-reduce', 'tensor', 8 * layers * tokens * options.width * size, 1)
  add('all-gather', 'fsdp', passes * mine * 2 * size, inner)
  add('reduce-scatter', 'fsdp', passes * mine * 4, inner)
  add('all-reduce', 'replica', 2 * mine / shape['fsdp'] * 4, inner * shape['fsdp'])
  return rows
