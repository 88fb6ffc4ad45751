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

PARTS = ('params', 'opt_state', 'ema', 'batch_stats')


def option(x: Experiment, name: str, default: Any) -> Any:
  """An option of the model."""
  return getattr(x.model.options, name, default)


def with_options(x: Experiment, **options: Any) -> Experiment:
  """The experiment with other options of its model."""
  changed = dataclasses.replace(x.model.options, **options)
  return dataclasses.replace(x, model=dataclasses.replace(x.model, options=changed))


def tree_bytes(tree: Any) -> int:
  """Bytes that one device holds of a tree of shapes with shardings."""
  return sum(rules.bytes_per_chip(tree).values())


def state_bytes(trainer: Trainer) -> dict[str, int]:
  """Bytes that one device holds of parameters, optimizer, averages and statistics, and teacher."""
  state = trainer.abstract_state
  sizes = {part: tree_bytes(getattr(state, part)) for part in PARTS}
  return {
    'parameters': sizes['params'],
    'optimizer': sizes['opt_state'],
    'averages': sizes['ema'] + sizes['batch_stats'],
    'teacher': tree_bytes(trainer.abstract_frozen),
  }


def images_per_pass(trainer: Trainer) -> float:
  """Images that one device takes through the model at the same time."""
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
  """Bytes that automatic differentiation saves for the backward pass of one image.

  It is the difference that a second image makes, so parameters do not count.
  """
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
    return jax.grad(lambda params: jnp.sum(logits(params, variables, images_BHWC)))(
      variables['params']
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
  """About what one device needs: state, gradients, batch, and the saved and working activations."""
  state = state_bytes(trainer)
  working = 0.0
  if (
    option(trainer.experiment, 'remat', 'none') != 'none'
  ):  # one layer, in full while it is repeated
    options = dataclasses.replace(trainer.model.options, remat='none')
    plain = trainer.model.clone(options=options)
    working = (
      images_per_pass(trainer)
      * saved_bytes(plain, trainer.image_shape)
      / (trainer.model.options.depth * devices_per_image(trainer))
    )
  return (
    sum(state.values())
    + state['parameters'] * (1 + (trainer.experiment.optim.accumulate > 1))
    + tree_bytes(trainer.abstract_batch)
    + activation_bytes(trainer)
    + working
  )


def expected_collectives(trainer: Trainer, group_devices: int) -> list[Collective]:
  """About the collectives of a step: what fsdp, replica and tensor cost in bytes that are sent.

  Args:
    group_devices: of a slice or node; the last axes are on the nearest devices.
  """
  shape, x = trainer.mesh.shape, trainer.experiment
  elements = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(trainer.abstract_state.params))
  mine = elements / shape['tensor']
  passes = x.optim.accumulate
  rows, inner = [], shape['tensor'] * shape['sequence']

  def add(kind: str, axis: str, sent: float, inside: int) -> None:
    n = shape[axis]
    near = max(1, min(n, group_devices // inside))
    apart = n / near
    rows.append(
      Collective(
        kind, axis, passes, sent, sent * (near - 1) / near, sent * (apart - 1) / apart / near
      )
    )

  width = getattr(trainer.model.options, 'width', 0)
  tokens = math.prod(trainer.grid) if width else 0
  layers = getattr(trainer.model.options, 'depth', 0)
  # Weights in the compute dtype, forward and backward; gradients in float32.
  size = jnp.dtype(option(x, 'dtype', 'float32')).itemsize
  add(
    'all-reduce',
    'tensor',
    passes * images_per_pass(trainer) * layers * 8 * tokens * width * size,
    1,
  )
  add('all-gather', 'fsdp', passes * mine * 2 * size, inner)
  add('reduce-scatter', 'fsdp', passes * mine * 4, inner)
  add('all-reduce', 'replica', 2 * mine / shape['fsdp'] * 4, inner * shape['fsdp'])
  return rows
