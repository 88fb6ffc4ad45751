"""From images to features, logits and attention, with any model: jitted, in batches of one size."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vit_jax.data.augment import normalize
from vit_jax.trees import flatten

Array = jax.Array


class Answers(NamedTuple):
  """What a model says of N images; `logits_NK` has no columns where it has no head."""

  logits_NK: Any  # arrays of jax, then of numpy
  features_ND: Any


def answers_fn(
  model: Any, variables: Any, mean: Sequence[float], std: Sequence[float], batch_size: int = 64
) -> Callable[[np.ndarray], Answers]:
  """images_NHWC -> Answers, for any number of images.

  Args:
    mean, std: of pixels in [0, 1], one for each channel. Images of uint8 are normalized with
      them on the device; floats go in as they are.
    batch_size: images at a time on each of this process's devices.
  """

  def answer(variables: Any, images_BHWC: Array) -> Answers:
    output = model.apply(variables, _normalized(images_BHWC, mean, std), train=False)
    logits_BK = output.logits_BK
    if logits_BK is None:
      logits_BK = jnp.zeros((len(images_BHWC), 0), jnp.float32)
    return Answers(logits_BK, output.features_BD)

  return in_batches(answer, variables, batch_size)


def attention_fn(
  model: Any, variables: Any, mean: Sequence[float], std: Sequence[float], batch_size: int = 1
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
  """images_NHWC -> {stack of layers, such as 'encoder/blocks': attention weights, mean over heads}.

  The weights have axes (images, layers, queries, keys). Empty for a model without attention.
  """

  def attend(variables: Any, images_BHWC: Array) -> dict[str, Array]:
    weights = attention_weights(model, variables, _normalized(images_BHWC, mean, std))
    return {
      stack: jnp.mean(weights_LBANT, axis=2).swapaxes(0, 1)
      for stack, weights_LBANT in weights.items()
    }

  return in_batches(attend, variables, batch_size)


def attention_weights(model: Any, variables: Any, images_BHWC: Array) -> dict[str, Array]:
  """Weights (L, B, A, N, T) in float32 of every stack of layers that sows `weights_BANT`."""
  _, sown = model.apply(variables, images_BHWC, train=False, mutable=['intermediates'])
  found = {}
  for name, weights in flatten(sown).items():
    names = name.split('/')
    if 'weights_BANT' in names:  # below intermediates/STACK/attention
      stack = '/'.join(names[1 : names.index('weights_BANT') - 1])
      found[stack] = weights.astype(jnp.float32).reshape(-1, *weights.shape[-4:])
  return found


def _normalized(images_BHWC: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
  if images_BHWC.dtype == jnp.uint8:
    return normalize(images_BHWC, mean, std)
  return images_BHWC.astype(jnp.float32)


def in_batches(
  function: Callable[[Any, Array], Any], variables: Any, batch_size: int
) -> Callable[[np.ndarray], Any]:
  """An array of any number of rows -> function(variables, rows), as numpy arrays.

  Each of this process's devices gets `batch_size` rows at a time, however many devices there are:
  so they compute the same numbers.
  """
  devices = jax.local_devices()
  mesh = Mesh(np.array(devices), ('batch',))
  size = batch_size * len(devices)
  variables = jax.device_put(variables, NamedSharding(mesh, P()))
  rows = NamedSharding(mesh, P('batch'))
  jitted = jax.jit(function, out_shardings=rows)

  def run(everything: np.ndarray) -> Any:
    parts = []
    for start in range(0, max(len(everything), 1), size):
      batch = np.asarray(everything[start : start + size])
      count = len(batch)
      batch = np.pad(batch, [(0, size - count)] + [(0, 0)] * (batch.ndim - 1))
      out = jax.device_get(jitted(variables, jax.device_put(batch, rows)))
      parts.append(jax.tree.map(lambda array, count=count: array[:count], out))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)

  return run
