"""How activations are sharded over the mesh that the step sets; without one, nothing is done.

The mesh also says for which platform is traced, which need not be here.

One constraint per block is enough for the partitioner to split the work everywhere; without it,
large meshes repeat work.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from vit_jax.errors import UserError

Array = jax.Array
BATCH = ('replica', 'fsdp')  # mesh axes that the batch is split over
TOKENS = 'sequence'  # and tokens
FEW_ROWS = 8  # of a device, in widths of the kernel
_ROLLED = contextvars.ContextVar('rolled', default=False)


def platform() -> str:
  """'cpu', 'gpu' or 'tpu': of the ambient mesh, else of this machine."""
  device = jax.sharding.get_abstract_mesh().abstract_device
  found = jax.default_backend() if device is None else device.platform
  return 'gpu' if found in ('cuda', 'rocm') else found


@functools.cache
def has_bfloat16_units() -> bool:
  """Whether this CPU multiplies bfloat16 in hardware, as Linux says."""
  try:
    with open('/proc/cpuinfo', encoding='utf-8') as file:
      lines = [line for line in file if line.lower().startswith(('flags', 'features'))]
  except OSError:
    return False
  return not {'avx512_bf16', 'amx_bf16', 'bf16'}.isdisjoint(' '.join(lines).split())


def cpu_multiplies_bfloat16() -> bool:
  """Whether products on a CPU should have bfloat16 operands: on one device that has the units.

  The partitioner would gather operands whose order in memory is constrained.
  """
  return has_bfloat16_units() and not (_meant() and jax.sharding.get_abstract_mesh().size > 1)


def ordered(x: Array, axes: Sequence[int]) -> Array:
  """`x` transposed to `axes`, in memory too."""
  if list(axes) == list(range(x.ndim)):
    return x
  x = x.transpose(axes)
  return with_layout_constraint(x, Layout(tuple(range(x.ndim))))


def _meant() -> bool:
  """Whether the ambient mesh is one of ours, on which the partitioner follows constraints."""
  mesh = jax.sharding.get_abstract_mesh()
  return {*BATCH, TOKENS} <= {*mesh.axis_names} and {*mesh.axis_types} == {AxisType.Auto}


def sequence_ways() -> int:
  """Devices that the tokens of an example are split over."""
  return jax.sharding.get_abstract_mesh().shape[TOKENS] if _meant() else 1


def tensor_ways() -> int:
  """Devices that heads and hidden units are split over."""
  return jax.sharding.get_abstract_mesh().shape['tensor'] if _meant() else 1


def _constrained(x: Array, *spec: Any) -> Array:
  return jax.lax.with_sharding_constraint(x, P(*spec)) if _meant() else x


def over_batch(x: Array) -> Array:
  """Splits the first axis, the batch, and no other."""
  return _constrained(x, BATCH, *(None for _ in x.shape[1:]))


def over_tokens(x_BND: Array, sliced: bool = False) -> Array:
  """Splits batch and tokens.

  Args:
    sliced: tokens will be taken from it.
  """
  if x_BND.shape[1] % sequence_ways():
    raise UserError(
      f'{x_BND.shape[1]} tokens do not divide over the {sequence_ways()} devices of '
      'config.mesh.sequence'
    )
  x_BND = _constrained(x_BND, BATCH, TOKENS, None)
  # On a TPU, the layout that is best for a slice of tokens would spread to all layers.
  row_major = platform() == 'gpu' or (platform() == 'tpu' and sliced)
  return _row_major(x_BND) if row_major else x_BND


@jax.custom_vjp
def _row_major(x_BND: Array) -> Array:
  """The same and its gradient with D as the minor axis in memory.

  Else straight code gets the batch as the minor axis, and each product a transposed copy.
  """

  def constrain(x_BND):
    return with_layout_constraint(x_BND, Layout(major_to_minor=(0, 1, 2)))

  if _meant() and jax.sharding.get_abstract_mesh().size > 1:
    # On each device by itself, for the partitioner would gather what is constrained.
    spec = P(BATCH, TOKENS, None)
    constrain = jax.shard_map(constrain, in_specs=spec, out_specs=spec, check_vma=False)
  return constrain(x_BND)


_row_major.defvjp(lambda x_BND: (_row_major(x_BND), None), lambda _, dx_BND: (_row_major(dx_BND),))


def gathered(x_BTAE: Array) -> Array:
  """Keys or values of all tokens on every device of `sequence`, whose queries are its own."""
  if sequence_ways() == 1:
    return x_BTAE
  return _constrained(x_BTAE, BATCH, None, P.UNCONSTRAINED, None)


@contextlib.contextmanager
def in_loop(rolled: bool) -> Iterator[None]:
  """Around a layer: the compiler cannot move a gather out of a rolled loop."""
  before = _ROLLED.set(rolled)
  try:
    yield
  finally:
    _ROLLED.reset(before)


def gathers_wait(rows: int, width: int) -> bool:
  """Whether `due` should delay a kernel in the backward pass.

  If a device has many rows, the network is small compared with their activations, and the barrier,
  which forces their gradients to memory, costs more than it saves.
  """
  if _ROLLED.get() or not _meant():
    return False
  ways = jax.sharding.get_abstract_mesh().shape
  return ways['fsdp'] > 1 and rows <= FEW_ROWS * width * math.prod(
    ways[axis] for axis in (*BATCH, TOKENS)
  )


def due(dy: Array, kernel: Array) -> tuple[Array, Array]:
  """The same two, but a kernel that `fsdp` splits is not gathered before `dy` is available.

  The backward pass needs the kernels of the forward pass again. Without an order, the compiler may
  gather all of them before the first layer: the whole network on every device.
  """
  return jax.lax.optimization_barrier((dy, kernel))


def check_tokens(patches: int, extra: int, ways: int, change: str) -> None:
  """Raises a UserError that says what to `change` unless the tokens divide over `ways` devices."""
  if (patches + extra) % ways:
    raise UserError(
      f'{patches} patches and {extra} other tokens do not divide over the {ways} '
      f'devices of config.mesh.sequence; {change}'
    )
