"""What a step needs, by arithmetic on shapes: nothing is compiled. Search prunes with it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax import models
from vit_jax.models import flops
from vit_jax.parallel import rules
from vit_jax.plan.collectives import Row
from vit_jax.training.setup import Setup

PARTS = ('params', 'opt_state', 'ema', 'batch_stats')


def tree_bytes(tree: Any) -> int:
  """Bytes that one device holds of a tree of shapes with shardings."""
  return sum(rules.bytes_per_chip(tree).values())


def state_bytes(setup: Setup) -> dict[str, int]:
  """Bytes one device holds of parameters, optimizer, averages and statistics, and a teacher."""
  state = setup.abstract_state
  sizes = {part: tree_bytes(getattr(state, part)) for part in PARTS}
  return {
    'parameters': sizes['params'],
    'optimizer': sizes['opt_state'],
    'averages': sizes['ema'] + sizes['batch_stats'],
    'teacher': tree_bytes(setup.abstract_frozen),
  }


def images_a_pass(setup: Setup) -> float:
  """Images that one device takes through the model at a time."""
  shape, x = setup.mesh.shape, setup.experiment
  return x.batch_size / (shape['replica'] * shape['fsdp'] * x.optim.accumulate)


def has_heads(model: Any) -> bool:
  """They are what `tensor` divides: each of its devices would do all of a convnet's work."""
  return hasattr(model, 'heads')


def devices_an_image(setup: Setup) -> int:
  """Devices that share the work on one image."""
  shape = setup.mesh.shape
  return shape['sequence'] * (shape['tensor'] if has_heads(setup.model) else 1)


def activation_bytes(setup: Setup) -> float:
  """Bytes one device keeps for the backward pass: what automatic differentiation saves.

  The compiler may keep less (it computes cheap things again) or more (copies, padding).
  """
  saved = saved_bytes(setup.model, setup.image_shape)
  return images_a_pass(setup) * saved / devices_an_image(setup)


@functools.lru_cache(maxsize=256)
def saved_bytes(model: Any, image_shape: tuple[int, int, int]) -> float:
  """Bytes saved for the backward pass of each image, as automatic differentiation asks for.

  Counted as the difference that a second image makes, so parameters do not count.
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
  """FLOP of matrix products, forward and backward, for one image; those done again count too."""
  variables, logits = _training(model, image_shape)

  def gradient(variables, images_BHWC):
    return jax.grad(lambda params: jnp.sum(logits(params, variables, images_BHWC)))(
      variables['params']
    )

  images_BHWC = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  return 2.0 * flops.jaxpr_macs(jax.make_jaxpr(gradient)(variables, images_BHWC).jaxpr)


def _training(model: Any, image_shape: tuple[int, int, int]) -> tuple[Any, Callable]:
  """(shapes of the variables, (params, variables, images_BHWC) -> logits_BK as a step has them)."""
  fields = {field.name for field in dataclasses.fields(model)}
  model = model.clone(**({'unroll': False} if 'unroll' in fields else {}))

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


def memory_bytes(setup: Setup) -> float:
  """About what one device needs: state, gradients, batch, and the saved and working activations."""
  state = state_bytes(setup)
  working = 0.0
  options = setup.experiment.model.options
  if options.get('remat', 'none') != 'none':  # one layer is there in full while it is done again
    plain = setup.model.clone(remat='none')
    working = (
      images_a_pass(setup)
      * saved_bytes(plain, setup.image_shape)
      / (setup.model.depth * devices_an_image(setup))
    )
  return (
    sum(state.values())
    + state['parameters'] * (1 + (setup.experiment.optim.accumulate > 1))
    + tree_bytes(setup.abstract_batch)
    + activation_bytes(setup)
    + working
  )


def expected_rows(setup: Setup, group_devices: int) -> list[Row]:
  """About the collectives of a step: what fsdp, replica and tensor cost in bytes that are sent.

  Args:
    group_devices: of a slice or node; axes lie on near devices from the last to the first.
  """
  shape, x = setup.mesh.shape, setup.experiment
  elements = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(setup.abstract_state.params))
  mine = elements / shape['tensor']
  passes = x.optim.accumulate
  rows, inner = [], shape['tensor'] * shape['sequence']

  def add(kind: str, axis: str, sent: float, inside: int) -> None:
    n = shape[axis]
    near = max(1, min(n, group_devices // inside))
    apart = n / near
    rows.append(
      Row(kind, axis, passes, sent, sent * (near - 1) / near, sent * (apart - 1) / apart / near)
    )

  width = getattr(setup.model, 'width', 0)
  tokens = math.prod(setup.grid) if width else 0
  layers = getattr(setup.model, 'depth', 0)
  # Weights in the compute dtype, forward and backward; gradients in float32.
  size = jnp.dtype(x.model.options.get('dtype', 'float32')).itemsize
  add('all-reduce', 'tensor', passes * images_a_pass(setup) * layers * 8 * tokens * width * size, 1)
  add('all-gather', 'fsdp', passes * mine * 2 * size, inner)
  add('reduce-scatter', 'fsdp', passes * mine * 4, inner)
  add('all-reduce', 'replica', 2 * mine / shape['fsdp'] * 4, inner * shape['fsdp'])
  return rows
