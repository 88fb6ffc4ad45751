"""The device mesh, and how a global batch lies on it.

Three axes serve vision: `replica` (copies of the parameters), `fsdp` (parameters and optimizer
sharded), `tensor` (heads and hidden units sharded). The batch is split over the first two. One
device is the same code with a 1x1x1 mesh.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import Mesh as DeviceMesh
from jax.sharding import PartitionSpec as P

from vit_jax.config import Mesh
from vit_jax.errors import UserError

AXES = ('replica', 'fsdp', 'tensor')
BATCH_SPEC = P(('replica', 'fsdp'))


def make_mesh(mesh: Mesh, devices: Sequence[Any] | None = None) -> DeviceMesh:
  """Lays `devices` (default: all) out as (replica, fsdp, tensor); one -1 takes what is left.

  Raises:
    UserError: the axes do not multiply to the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  sizes = [mesh.replica, mesh.fsdp, mesh.tensor]
  given = math.prod(size for size in sizes if size != -1)
  if sizes.count(-1) > 1 or 0 in sizes:
    raise UserError(f'config.mesh is {dict(zip(AXES, sizes, strict=True))}; at most one axis is '
                    '-1 and none is 0')
  if -1 in sizes and len(devices) % given == 0:
    sizes[sizes.index(-1)] = len(devices) // given
  if math.prod(sizes) != len(devices):
    raise UserError(f'config.mesh is {dict(zip(AXES, sizes, strict=True))}, which does not '
                    f'multiply to the {len(devices)} devices here')
  return jax.make_mesh(tuple(sizes), AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def check_batch(batch_size: int, mesh: DeviceMesh, where: str, accumulate: int = 1) -> None:
  """Raises a UserError unless every device gets the same number of rows of each micro-batch."""
  ways = mesh.shape['replica'] * mesh.shape['fsdp'] * accumulate
  if batch_size % ways:
    raise UserError(
        f'{where} is {batch_size}, which is not divisible by {ways} (replica '
        f'{mesh.shape["replica"]} x fsdp {mesh.shape["fsdp"]} x accumulate {accumulate}); '
        f'the nearest that is: {max(1, round(batch_size / ways)) * ways}')


def local_rows(batch_size: int, mesh: DeviceMesh) -> range:
  """The contiguous rows of a global batch that this process feeds to its devices."""
  slices = NamedSharding(mesh, BATCH_SPEC).addressable_devices_indices_map((batch_size,))
  bounds = sorted({index[0].indices(batch_size)[:2] for index in slices.values() if index})
  rows = range(bounds[0][0], bounds[-1][1])
  if sum(stop - start for start, stop in bounds) != len(rows):
    raise RuntimeError(f'the rows of this process are not contiguous: {bounds}')
  return rows


def put_batch(batch: Mapping[str, Any], mesh: DeviceMesh, batch_size: int) -> dict:
  """Makes global arrays, sharded over the batch, from this process's rows of them."""
  sharding = NamedSharding(mesh, BATCH_SPEC)
  return {name: jax.make_array_from_process_local_data(sharding, rows,
                                                       (batch_size, *rows.shape[1:]))
          for name, rows in batch.items()}
