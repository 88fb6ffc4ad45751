"""Collectives read from a program whose collectives are known by construction."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from vit_jax.errors import RunFault
from vit_jax.plan import hlo
from vit_jax.plan.collectives import Collective, Partitions, collectives, members

AXES, SHAPE, STEPS = ('replica', 'fsdp', 'tensor'), (2, 2, 2), 3


def partitions(groups=(0,) * 8) -> Partitions:
  return Partitions(AXES, SHAPE, groups)


def read(body, x_shape=(8, 1024), groups=(0,) * 8) -> list[Collective]:
  """The collectives of `body`, per-device code over an (8, 1024) array split over all axes."""
  mesh = jax.make_mesh(SHAPE, AXES, axis_types=(AxisType.Auto,) * 3)
  spec = P(AXES)
  mapped = jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
  x = jax.ShapeDtypeStruct(x_shape, jnp.float32, sharding=NamedSharding(mesh, spec))
  text = jax.jit(mapped).lower(x).compile().as_text()
  return collectives(hlo.parse(hlo.strip(text)), partitions(groups))


ROW = 1024 * 4  # bytes that one device has of x


def test_kinds_axes_and_bytes():
  def gather(x):
    return jax.lax.all_gather(x, 'tensor').sum(0)

  assert read(gather) == [Collective('all-gather', 'tensor', 1, 2 * ROW, ROW, 0.0)]
  assert read(lambda x: jax.lax.psum(x, ('replica', 'fsdp'))) == [
    Collective('all-reduce', 'replica+fsdp', 1, ROW, 1.5 * ROW, 0.0)
  ]
  shift = functools.partial(jax.lax.ppermute, axis_name='fsdp', perm=[(0, 1), (1, 0)])
  assert read(shift) == [Collective('collective-permute', 'fsdp', 1, ROW, ROW, 0.0)]
  swap = functools.partial(
    jax.lax.all_to_all, axis_name='replica', split_axis=1, concat_axis=1, tiled=True
  )
  assert read(swap) == [Collective('all-to-all', 'replica', 1, ROW, ROW / 2, 0.0)]
  assert read(lambda x: 2 * x) == []


def test_a_loop_multiplies():
  def scanned(x):
    return jax.lax.scan(lambda c, _: (jnp.tanh(jax.lax.psum(c, 'fsdp')), None), x, None, STEPS)[0]

  assert read(scanned) == [Collective('all-reduce', 'fsdp', STEPS, STEPS * ROW, STEPS * ROW, 0.0)]


def test_links_between_nodes():
  """Two nodes of four: `replica` lies between them, `fsdp` and `tensor` within."""
  nodes = (0, 0, 0, 0, 1, 1, 1, 1)
  assert read(lambda x: jax.lax.psum(x, 'replica'), groups=nodes) == [
    Collective('all-reduce', 'replica', 1, ROW, 0.0, ROW)
  ]
  assert read(lambda x: jax.lax.psum(x, 'fsdp'), groups=nodes) == [
    Collective('all-reduce', 'fsdp', 1, ROW, ROW, 0.0)
  ]
  # Over all eight: 3/4 on near links, and a node's half of the array over its four far ones.
  assert read(lambda x: jax.lax.psum(x, AXES), groups=nodes) == [
    Collective('all-reduce', 'replica+fsdp+tensor', 1, ROW, 1.5 * ROW, ROW / 4)
  ]


@pytest.mark.parametrize(
  'groups, expected',
  [
    ('{{0,4},{1,5},{2,6},{3,7}}', [0, 4]),
    ('[4,2]<=[8]', [0, 1]),
    ('[4,2]<=[2,4]T(1,0)', [0, 4]),
    ('[2,4]<=[2,2,2]T(1,0,2)', [0, 1, 4, 5]),
    ("mesh['a'=2,'b'=2,'c'=2] {'a','c'}", [0, 1, 4, 5]),
    ("mesh['axis_0'=8] {'axis_0':(2)2}", [0, 2]),
    ("mesh['axis_0'=8] {'axis_0'}", list(range(8))),
    ("mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}", [0, 1]),
    ("mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}", [0, 2, 4, 6]),
    ("mesh['a'=2,'b'=1,'c'=4], device_ids=([2,2,2]T(1,0,2)) {'a'}", [0, 2]),
    ("mesh['a'=2,'b'=4], device_ids=([8]) {'a','b'}", list(range(8))),
    ('{}', list(range(8))),
  ],
)
def test_every_way_to_write_groups(groups, expected):
  line = f'  %r = f32[4]{{0}} all-reduce(%x), channel_id=1, replica_groups={groups}, to_apply=%add'
  instruction = hlo._instruction(line)
  assert instruction is not None
  assert members(instruction, 8) == expected


def test_an_unknown_way_to_write_groups_is_a_fault():
  line = '  %r = f32[4]{0} all-reduce(%x), channel_id=1, replica_groups=<new>, to_apply=%add'
  instruction = hlo._instruction(line)
  assert instruction is not None
  with pytest.raises(RunFault):
    members(instruction, 8)


FUSED = """HloModule fused

%start (a.1: bf16[16]) -> bf16[64] {
  %a.1 = bf16[16]{0} parameter(0)
  ROOT %g.1 = bf16[64]{0} all-gather(%a.1), channel_id=7, replica_groups=[2,4]<=[8], dimensions={0}
}

%meanwhile (a.2: bf16[16]) -> bf16[64] {
  %a.2 = bf16[16]{0} parameter(0)
  ROOT %g.2 = bf16[64]{0} all-gather(%a.2), channel_id=7, replica_groups=[2,4]<=[8], dimensions={0}
}

%scatter (a.3: f32[64]) -> f32[8] {
  %a.3 = f32[64]{0} parameter(0)
  %r.3 = f32[64]{0} all-reduce(%a.3), channel_id=8, replica_groups=[1,8]<=[8], to_apply=%add
  %i.3 = s32[] constant(0)
  ROOT %s.3 = f32[8]{0} dynamic-slice(%r.3, %i.3), dynamic_slice_sizes={8}
}

ENTRY %main (a: bf16[16], b: f32[64]) -> f32[8] {
  %a = bf16[16]{0} parameter(0)
  %b = f32[64]{0} parameter(1)
  %f.1 = bf16[64]{0} fusion(%a), kind=kCustom, calls=%start
  %f.2 = bf16[64]{0} fusion(%a), kind=kCustom, calls=%meanwhile
  ROOT %f.3 = f32[8]{0} fusion(%b), kind=kCustom, calls=%scatter
}
"""


def test_what_a_tpu_makes_of_them():
  """One all-gather spread over two fusions counts once; a sliced all-reduce scatters."""
  rows = collectives(hlo.parse(FUSED), partitions())
  assert rows == [
    Collective('reduce-scatter', 'replica+fsdp+tensor', 1, 256, 256 * 7 / 8, 0.0),
    Collective('all-gather', 'fsdp+tensor', 1, 128, 128 * 3 / 4, 0.0),
  ]
  assert not np.isnan([row.near for row in rows]).any()
