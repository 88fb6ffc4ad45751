"""Checksums of arrays and of JSON objects.

An array's is computed on its devices and does not depend on its sharding: the sum modulo 2**32 of a
hash of each element's bits and position. At a position the hash is one-to-one, so a single wrong
element is always found; several wrong ones escape with a probability of 2**-32.
"""

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax.trees import flatten


def checksums(tree: Any) -> dict[str, int]:
  """A checksum of each leaf, by name. All processes that hold part of the tree call it."""
  return {name: int(value) for name, value in jax.device_get(_checksums(flatten(tree))).items()}


@jax.jit  # one program for all shapes, so that a pod compiles and starts once
def _checksums(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
  return {name: _checksum(leaf) for name, leaf in leaves.items()}


@jax.jit
def _checksum(x: jax.Array) -> jax.Array:
  width = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
  bits = x.astype(jnp.uint8) if x.dtype == bool else jax.lax.bitcast_convert_type(x, width)
  position = jnp.zeros(bits.shape, jnp.uint32)
  for axis in range(bits.ndim):
    stride = math.prod(bits.shape[axis + 1 :]) % 2**32
    position += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride)
  return jnp.sum(_mix(bits.astype(jnp.uint32) ^ _mix(position)), dtype=jnp.uint32)


def _mix(h: jax.Array) -> jax.Array:
  """A one-to-one mix of 32 bits (C. Wellons, 'lowbias32', nullprogram.com/blog/2018/07/31)."""
  h = (h ^ (h >> 16)) * jnp.uint32(0x7FEB352D)
  h = (h ^ (h >> 15)) * jnp.uint32(0x846CA68B)
  return h ^ (h >> 16)


def seal(values: Mapping[str, Any]) -> dict[str, Any]:
  """A JSON object with its checksum added."""
  return {**values, 'checksum': _crc(values)}


def unseal(stored: Mapping[str, Any] | None) -> dict[str, Any]:
  """What was sealed; raises a ValueError if it has changed."""
  values = dict(stored or {})
  if values.pop('checksum', None) != _crc(values):
    raise ValueError('what was saved beside the state has another checksum')
  return values


def _crc(values: Mapping[str, Any]) -> int:
  return zlib.crc32(json.dumps(values, sort_keys=True).encode())
