"""Where devices lie in a mesh: slices, and hosts that hold squares of a torus and feed them."""

from dataclasses import dataclass

import numpy as np
import pytest
from jax.sharding import AxisType

from vit_jax import models
from vit_jax.config import Mesh
from vit_jax.errors import UserError
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import topology
from vit_jax.plan import compilers


@dataclass(frozen=True)
class Device:
  """What a layout asks of a device."""

  id: int
  process_index: int
  slice_index: int = 0
  platform: str = 'gpu'
  device_kind: str = 'made up'


def gpus(processes: int, each: int, slices: int = 1) -> list[Device]:
  return [Device(i, i // each, i // each * slices // processes) for i in range(processes * each)]


def across(layout: np.ndarray, axis: int, what: str) -> bool:
  """Whether devices that differ along this axis alone differ in `what`."""
  values = np.vectorize(lambda device: getattr(device, what))(layout)
  return bool((values != np.take(values, [0], axis)).any())


@pytest.mark.parametrize(
  'devices, slices',
  [
    (gpus(4, 4, slices=2), 2),  # as the devices say
    (gpus(2, 8), 2),  # they say nothing: a process each
  ],
)
def test_replica_alone_crosses_slices(devices, slices):
  what = 'slice_index' if devices[0].slice_index != devices[-1].slice_index else 'process_index'
  layout = meshes.lay_out((4, 2, 1, 2), devices, slices)
  assert layout.shape == (4, 2, 1, 2) and {*layout.flat} == {*devices}
  assert [across(layout, axis, what) for axis in range(4)] == [True, False, False, False]


def test_gpus_are_one_slice_unless_told_and_tpus_are_as_many_as_they_say():
  hosts = gpus(4, 4, slices=4)
  assert meshes.lay_out((1, 16, 1, 1), hosts).shape == (1, 16, 1, 1)
  with pytest.raises(UserError, match='config.mesh.replica is 1, .* 4 slices'):
    meshes.lay_out((1, 16, 1, 1), hosts, 4)
  with pytest.raises(UserError, match='config.mesh.slices is 3, .* 4 slices'):
    meshes.lay_out((1, 16, 1, 1), hosts, 3)
  tpus = [Device(i, i // 4, i // 8, 'tpu') for i in range(16)]
  with pytest.raises(UserError, match='by the 2 slices .* set config.mesh.replica to 2'):
    meshes.lay_out((1, 16, 1, 1), tpus)
  with pytest.raises(UserError, match='config.mesh.slices is 1, .* 2 slices'):
    meshes.lay_out((1, 16, 1, 1), tpus, 1)


def test_a_host_of_a_torus_feeds_rows_that_are_apart():
  """On a TPU v5e of 4x4 a host has 2x2 chips, and the mesh goes row by row."""
  torus = np.array([[Device(4 * i + j, 2 * (i // 2) + j // 2) for j in range(4)] for i in range(4)])
  mesh = meshes.DeviceMesh(torus.reshape(4, 4, 1, 1), meshes.AXES, axis_types=(AxisType.Auto,) * 4)
  rows = [meshes.local_rows(32, mesh, process) for process in range(4)]
  assert rows[1] == [4, 5, 6, 7, 12, 13, 14, 15]
  assert sorted(row for part in rows for row in part) == list(range(32))


def test_processes_that_share_rows_feed_the_same():
  devices = np.array(gpus(4, 2)).reshape(2, 1, 2, 2)  # tensor goes over two hosts
  mesh = meshes.DeviceMesh(devices, meshes.AXES, axis_types=(AxisType.Auto,) * 4)
  assert [meshes.local_rows(8, mesh, process) for process in range(4)] == [
    [0, 1, 2, 3],
    [0, 1, 2, 3],
    [4, 5, 6, 7],
    [4, 5, 6, 7],
  ]


@pytest.mark.parametrize(
  'name, options, words',
  [
    (
      'B/16',
      {},
      (
        '196 patches and 1 other tokens',
        '4 devices of config.mesh.sequence',
        "pool='mean' or 'map' without registers would",
        'registers=3 would',
      ),
    ),
    ('DeiT-B/16-distilled', {}, ('196 patches and 2 other', 'registers=2 would')),
    ('B/16', dict(pool='mean', patch_dropout=0.5), ('98 patches', 'patch_dropout=0 would')),
    ('CaiT-XXS24', dict(patch=32), ('49 patches', 'another image size or patch')),
    ('ResNet-18', {}, ('ResNet has no tokens', 'config.mesh.fsdp')),
  ],
)
def test_tokens_that_do_not_divide_are_refused_with_what_does(name, options, words):
  mesh = meshes.make_mesh(Mesh(2, 1, 1, 4))
  with pytest.raises(UserError) as error:
    meshes.check_tokens(models.build(name, 10, **options), (224, 224), mesh)
  assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
  'name, options',
  [
    ('B/16', dict(pool='map')),
    ('B/16', dict(registers=3)),
    ('CaiT-XXS24', {}),
    ('DeiT-B/16-distilled', dict(registers=2)),
    ('R50+B/16', dict(pool='mean')),
  ],
)
def test_what_is_recommended_divides(name, options):
  model = models.build(name, 10, **options)
  meshes.check_tokens(model, (224, 224), meshes.make_mesh(Mesh(2, 1, 1, 4)))


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, sizes',
  [
    ('2*v5e:4x4', (4, 4, 2, 1)),
    ('v5e:16x16', (1, 256, 1, 1)),
    ('v6e:8x8', (2, 8, 2, 2)),
    ('v5p:4x4x4', (8, 4, 2, 1)),
  ],
)
def test_layouts_of_tpus_that_are_not_here(name, sizes):
  """Replicas alone lie in several slices, and hosts feed every row once, or alike."""
  pytest.importorskip('libtpu')
  mesh = meshes.make_mesh(Mesh(*sizes), compilers.devices(topology.parse(name)))
  assert mesh.devices.shape == sizes
  if name.startswith('2*'):
    assert [across(mesh.devices, axis, 'slice_index') for axis in range(4)] == [True] + [False] * 3
  rows = [
    meshes.local_rows(512, mesh, process)
    for process in {device.process_index for device in mesh.devices.flat}
  ]
  assert {row for part in rows for row in part} == {*range(512)}
  assert all(set(a) == set(b) or not set(a) & set(b) for a in rows for b in rows)
