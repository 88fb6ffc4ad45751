"""What a step sends between devices and repeats on them, read from the compiler's own text."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import export

from vit_jax import config
from vit_jax.config import Mesh
from vit_jax.parallel import mesh as meshes
from vit_jax.train.domain import Sizes
from vit_jax.train.trainer import Trainer

# Of the model of `step_of`; queries, keys and values are three products on a TPU.
KERNELS = {'64,1,2,32', '2,32,64', '64,128', '128,64', '64,16', '8,8,3,64'}


def step_of(mesh: Mesh, pixels: int = 16, accumulate: int = 1, reduce: str = 'float32', **options):
  """(the step of a small ViT, its abstract arguments)."""
  built = trainer_of(mesh, pixels, accumulate, reduce, **options)
  return built.train_step, (built.abstract_state, built.abstract_batch)


def trainer_of(mesh: Mesh, pixels: int, accumulate: int, reduce: str, **options) -> Trainer:
  model = dict(name='Ti/8', width=64, depth=2, heads=2, mlp=128, pool='mean', unroll=False)
  x = config.resolve(
    {
      'epochs': 1,
      'batch_size': 16,
      'data': {'image_size': (pixels, pixels)},
      'optim': {'name': 'sgd', 'accumulate': accumulate, 'reduce_dtype': reduce},
      'model': model | options,
      'mesh': {'gather': mesh.gather},
    }
  )
  return Trainer(x, mesh=meshes.make_mesh(mesh), sizes=Sizes(1000, 16))


def partitioned(step, args, folder: Path) -> str:
  """The program as the partitioner leaves it: the step is lowered for a TPU, and a CPU's compiler
  splits it over 8 devices. What its later passes make of it is of no interest.
  """
  lowered = export.export(
    step, platforms=('tpu',), disabled_checks=[export.DisabledSafetyCheck.platform()]
  )(*args)
  jax.jit(lowered.call).lower(*args).compile(
    compiler_options={'xla_dump_to': str(folder), 'xla_dump_hlo_pass_re': 'spmd-partitioning'}
  )
  (path,) = folder.glob('*.after_spmd-partitioning.*.txt')
  return path.read_text()


@pytest.fixture
def uncached():
  """A program from the cache is not compiled, and leaves no text."""
  jax.config.update('jax_enable_compilation_cache', False)
  yield
  jax.config.update('jax_enable_compilation_cache', True)


@pytest.mark.parametrize(
  'dtype, gathered', [('bfloat16', 'bf16'), pytest.param('float32', 'f32', marks=pytest.mark.slow)]
)
def test_weights_travel_in_the_compute_dtype_and_gradients_are_never_whole(
  uncached, tmp_path, dtype, gathered, trace_for
):
  trace_for('tpu')  # a CPU multiplies, and so gathers, in float32
  step, args = step_of(Mesh(1, 8, 1, 1), accumulate=2, dtype=dtype)
  text = partitioned(step, args, tmp_path)
  gathers = re.findall(r'= (\w+)\[([\d,]+)\]\S* all-gather\(', text)
  shapes = {re.sub('^1,', '', shape) for kind, shape in gathers if kind == gathered}
  assert KERNELS <= shapes, shapes
  assert {kind for kind, _ in gathers} == {gathered}
  # Of the stacked kernels, their gradients and their sums over micro-batches there are parts only.
  assert 'f32[2,8,128]' in text and 'f32[2,64,128]' not in text
  assert 'f32[2,128,8]' in text and 'f32[2,128,64]' not in text


@pytest.mark.parametrize(
  'reduce, kind',
  [('bfloat16', 'bf16'), pytest.param('float32', 'f32', marks=pytest.mark.slow)],
)
def test_kernels_are_gathered_once_a_step(uncached, tmp_path, reduce, kind, trace_for):
  """For both passes of two micro-batches; what is reduced, and over which devices, stays."""
  trace_for('tpu')
  step, args = step_of(Mesh(2, 2, 2, 1, gather='step'), 16, 2, reduce, dtype='bfloat16')
  text = partitioned(step, args, tmp_path)
  gathers = re.findall(r'= (\w+)\[([\d,]+)\]\S* all-gather\(', text)
  # Both layers at once, the parts of `tensor` apart.
  stacked = ['2,64,3,1,32', '2,1,32,64', '2,64,64', '2,64,64', '64,16', '8,8,3,64']
  for shape in {*stacked}:
    assert gathers.count((kind, shape)) == stacked.count(shape), (shape, gathers)
  kernels = {re.sub('^2,', '1,', shape) for shape in stacked[:4]}
  assert not kernels & {shape for _, shape in gathers}


@pytest.mark.parametrize('reduce, kind', [('float32', 'f32'), ('bfloat16', 'bf16')])
@pytest.mark.parametrize('accumulate', [1, 2])
def test_kernels_are_reduced_in_the_dtype_that_is_asked_for(
  uncached, tmp_path, reduce, kind, accumulate, trace_for
):
  trace_for('tpu')
  step, args = step_of(Mesh(8, 1, 1, 1), 16, accumulate, reduce, dtype='bfloat16')
  text = partitioned(step, args, tmp_path)
  reduced = re.findall(r'= (\w+)\[([\d,]+)\]\S* all-reduce\(', text)
  kernels = [(found, shape) for found, shape in reduced if re.sub('^1,', '', shape) in KERNELS]
  assert {shape for _, shape in kernels} and {found for found, _ in kernels} == {kind}


def test_sums_over_devices_in_bfloat16_are_near_those_in_float32():
  """A kernel's gradient, and so its step of SGD, within the rounding of eight bits."""
  after = []
  for reduce in ('float32', 'bfloat16'):
    mesh = Mesh(8, 1, 1, 1)
    built = trainer_of(mesh, 16, 1, reduce, dtype='bfloat16')
    rng = np.random.default_rng(0)
    batch = {
      'image': rng.integers(0, 256, (16, 16, 16, 3), np.uint8),
      'label': rng.integers(0, 16, 16, np.int32),
      'mask': np.ones(16, bool),
      'index': np.arange(16, dtype=np.int32),
    }
    before = built.init()
    start = jax.device_get(before.params)
    state, metrics = built.train_step(before, meshes.put_batch(batch, meshes.make_mesh(mesh)))
    change = jax.tree.map(np.subtract, jax.device_get(state.params), start)
    after.append((float(metrics['loss']), change))
  (loss, exact), (other, rounded) = after
  assert loss == other
  for x, y in zip(jax.tree.leaves(rounded), jax.tree.leaves(exact), strict=True):
    assert np.linalg.norm(x - y) <= 2**-7 * np.linalg.norm(y) + 1e-12


@pytest.mark.parametrize(
  'mesh, pixels, unroll, waiting',
  [
    (Mesh(1, 8, 1, 1), 16, True, 4 + 1),
    (Mesh(1, 8, 1, 1), 16, False, 1),
    (Mesh(1, 8, 1, 1), 128, True, 4 + 1),
    (Mesh(1, 8, 1, 1), 136, True, 1),
    (Mesh(8, 1, 1, 1), 16, True, 0),
  ],
)
def test_weights_wait_for_the_gradient_that_needs_them(mesh, pixels, unroll, waiting):
  """Only where fsdp splits them, not in a loop, and not beside many tokens (two images of 256 on
  each device are eight widths of 64): four kernels of the layer, and the head."""
  step, args = step_of(mesh, pixels, unroll=unroll, depth=1)  # of more, jax >= 0.12 writes each out
  assert step.lower(*args).as_text().count('optimization_barrier') == waiting


def test_sequence_splits_the_work_as_the_batch_does():
  """FLOPs a device of the same batch: tokens over 4 devices or examples over them."""
  flops = []
  for mesh in (Mesh(8, 1, 1, 1), Mesh(2, 1, 1, 4)):
    step, args = step_of(mesh, pixels=64, depth=1)
    flops.append(step.lower(*args).compile().cost_analysis()['flops'])
  assert flops[1] == pytest.approx(flops[0], rel=0.1)
