"""The device mesh, and how a global batch is divided over it.

Its axes: `replica` (copies of the parameters), `fsdp` (parameters and optimizer sharded), `tensor`
(heads and hidden units sharded) and `sequence` (tokens sharded, for large images). The batch is
split over the first two. One device is a 1x1x1x1 mesh.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import Mesh as DeviceMesh
from jax.sharding import PartitionSpec as P

from vit_jax.config import Mesh
from vit_jax.errors import UserError

# What communicates most comes last, on the nearest devices.
AXES = ('replica', 'fsdp', 'tensor', 'sequence')
BATCH_SPEC = P(('replica', 'fsdp'))


def make_mesh(mesh: Mesh, devices: Sequence[Any] | None = None) -> DeviceMesh:
  """Lays `devices` (default: all) out along `AXES`; one -1 takes what is left.

  Raises:
    UserError: the axes do not multiply to the number of devices, or do not fit the slices.
  """
  devices = jax.devices() if devices is None else devices
  layout = lay_out(_sizes(mesh, len(devices)), devices, mesh.slices)
  return DeviceMesh(layout, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _sizes(mesh: Mesh, devices: int) -> list[int]:
  sizes = [getattr(mesh, axis) for axis in AXES]
  given = math.prod(size for size in sizes if size != -1)
  what = f'config.mesh is {dict(zip(AXES, sizes, strict=True))}'
  if sizes.count(-1) > 1 or 0 in sizes:
    raise UserError(f'{what}; at most one axis is -1 and none is 0')
  if -1 in sizes and devices % given == 0:
    sizes[sizes.index(-1)] = devices // given
  if math.prod(sizes) != devices:
    raise UserError(f'{what}, which does not multiply to the {devices} devices here')
  return sizes


def lay_out(sizes: Sequence[int], devices: Sequence[Any], slices: int = 0) -> np.ndarray:
  """An array of `devices` of shape `sizes`, the nearest along the last axes.

  Args:
    slices: how many groups of devices a slow network joins, which only `replica` crosses; 0 asks
      the devices.

  Raises:
    UserError: they are in another number of slices, or that number does not divide `replica`.
  """
  by_slice = len({getattr(device, 'slice_index', None) for device in devices})
  by_process = len({device.process_index for device in devices})
  # TPUs of several slices cannot count as one slice. GPUs report their hosts as slices, but the
  # network between those is fast enough for fsdp.
  known = {by_slice} if devices[0].platform == 'tpu' else {1, by_slice, by_process}
  slices = slices or (by_slice if len(known) == 1 else 1)
  if slices not in known:
    raise UserError(
      f'config.mesh.slices is {slices}, but the {len(devices)} devices are in '
      f'{by_slice} slices and belong to {by_process} processes'
    )
  if slices == 1:
    return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
  replica, *others = sizes
  if replica % slices:
    raise UserError(
      f'config.mesh.replica is {replica}, which is not divisible by the {slices} slices of the '
      'devices, and only replica may cross the slow network between slices; set '
      f'config.mesh.replica to {slices} or a multiple'
    )
  return mesh_utils.create_hybrid_device_mesh(
    (replica // slices, *others),
    (slices, *(1 for _ in others)),
    devices,
    process_is_granule=slices != by_slice,
    allow_split_physical_axes=True,
  )


def check_tokens(model: Any, image_size: tuple[int, int], mesh: DeviceMesh) -> None:
  """Raises a UserError unless the model has tokens that divide over the axis `sequence`."""
  ways = mesh.shape['sequence']
  if ways == 1:
    return
  if not hasattr(model, 'check_sequence'):
    raise UserError(
      f'config.mesh.sequence is {ways}, but a {type(model).__name__} has no tokens '
      'to split over it; set it to 1 and give the devices to config.mesh.fsdp'
    )
  model.check_sequence(image_size, ways)


def check_batch(batch_size: int, mesh: DeviceMesh, where: str, accumulate: int = 1) -> None:
  """Raises a UserError unless every device gets the same number of rows of each micro-batch."""
  ways = mesh.shape['replica'] * mesh.shape['fsdp'] * accumulate
  if batch_size % ways:
    raise UserError(
      f'{where} is {batch_size}, which is not divisible by {ways} (replica '
      f'{mesh.shape["replica"]} x fsdp {mesh.shape["fsdp"]} x accumulate {accumulate}); '
      f'the nearest that is: {max(1, round(batch_size / ways)) * ways}'
    )


def local_rows(batch_size: int, mesh: DeviceMesh, process: int | None = None) -> list[int]:
  """The rows of a global batch that a process (default: this one) feeds to its devices, ascending.

  They need not be contiguous: on a torus of TPUs, a host has a square of devices.
  """
  process = jax.process_index() if process is None else process
  slices = NamedSharding(mesh, BATCH_SPEC).devices_indices_map((batch_size,))
  bounds = {
    index[0].indices(batch_size)[:2]
    for device, index in slices.items()
    if device.process_index == process
  }
  return [row for start, stop in sorted(bounds) for row in range(start, stop)]


def put_batch(batch: Mapping[str, Any], mesh: DeviceMesh) -> dict:
  """Makes global arrays, sharded over the batch, from this process's rows."""
  sharding, (mine, ways) = NamedSharding(mesh, BATCH_SPEC), _share(mesh)
  return {
    name: jax.make_array_from_process_local_data(
      sharding, rows, (len(rows) * ways // mine, *rows.shape[1:])
    )
    for name, rows in batch.items()
  }


@functools.cache
def _share(mesh: DeviceMesh) -> tuple[int, int]:
  """(rows of this process, all rows), if each device that the batch is split over has one."""
  ways = mesh.shape['replica'] * mesh.shape['fsdp']
  return len(local_rows(ways, mesh)), ways
