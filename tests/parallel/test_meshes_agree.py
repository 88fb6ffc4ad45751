"""A mesh changes nothing: three float32 steps give the losses of one device."""

import functools

import jax
import numpy as np
import pytest

from vit_jax import models
from vit_jax.config import Augment, Loss, Mesh, Optim
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.train.optim import make_optimizer
from vit_jax.train.schedules import make_schedule
from vit_jax.train.state import init_state
from vit_jax.train.step import make_train_step
from vit_jax.train.task import Classification

ONE = Mesh()  # a single device
OPTIM = Optim(name='sgd', lr=0.1, clip_norm=1.0, schedule='constant')
TASK = Classification(5, Loss(label_smoothing=0.1), Augment(), (0.5,) * 3, (0.5,) * 3)
SMALL = dict(width=32, depth=2, heads=2, mlp=64, stochastic_depth=0.2, unroll=False)
MODELS = {
  'vit': ('Ti/8', dict(SMALL, pool='mean', dropout=0.1)),
  'cait': ('CaiT-XXS24', dict(SMALL, patch=8)),
}


@functools.cache
def fresh(name: str):
  """(the optimizer, a state on the host)."""
  base, options = MODELS[name]
  tx = make_optimizer(OPTIM, make_schedule(OPTIM, 10, 16, 100))
  model = models.build(base, 5, **options)
  state = jax.device_get(jax.jit(lambda: init_state(model, tx, (16, 16, 3), 0))())
  head = state.params['head']  # starts at zero, which would hide faults of the body
  kernel = np.random.default_rng(1).normal(0, 0.1, head['kernel'].shape).astype(np.float32)
  return tx, state.replace(params={**state.params, 'head': {**head, 'kernel': kernel}})


def prepared(name: str, mesh: Mesh, accumulate: int, remat: str, dtype: str = 'float32'):
  """(the mesh of devices, a state on it, the step)."""
  (base, options), (tx, state) = MODELS[name], fresh(name)
  model = models.build(base, 5, **options, remat=remat, dtype=dtype)
  device_mesh = meshes.make_mesh(mesh, jax.devices()[:1] if mesh == ONE else None)
  meshes.check_tokens(model, (16, 16), device_mesh)
  options = {'accumulate': accumulate, 'gather': mesh.gather}
  step = make_train_step(model, TASK, tx, mesh=device_mesh, state=state, **options)
  return device_mesh, jax.device_put(state, rules.shardings(state, device_mesh)), step


def batch_of(count: int, device_mesh, seed: int = 0):
  rng = np.random.default_rng(seed)
  return meshes.put_batch(
    {
      'image': rng.integers(0, 256, (count, 16, 16, 3), np.uint8),
      'label': rng.integers(0, 5, count, np.int32),
      'mask': np.ones(count, bool),
    },
    device_mesh,
  )


@functools.cache
def losses(name: str, mesh: Mesh, accumulate: int, remat: str = 'none') -> list[float]:
  """Loss an example of each of three steps."""
  device_mesh, state, step = prepared(name, mesh, accumulate, remat)
  rows = []
  for s in range(3):
    state, metrics = step(state, batch_of(16, device_mesh, s))
    rows.append(float(metrics['loss']) / 16)
  return rows


# Micro-batches draw random numbers of their own, so each number of them has its own reference.
@pytest.mark.parametrize(
  'name, sizes, accumulate, remat',
  [
    ('vit', (1, 2, 2, 2), 2, 'full'),
    ('vit', (2, 2, 2, 1, 0, 'step'), 2, 'none'),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in (
        ('cait', (2, 1, 2, 2), 1, 'none'),
        ('vit', (2, 1, 1, 4), 1, 'none'),
        ('vit', (2, 2, 1, 2), 2, 'names'),
        ('vit', (2, 4, 1, 1), 2, 'dots'),
      )
    ),
  ],
  ids=str,
)
def test_every_mesh_gives_the_losses_of_one_device(name, sizes, accumulate, remat):
  expected = losses(name, ONE, accumulate)
  np.testing.assert_allclose(losses(name, Mesh(*sizes), accumulate, remat), expected, atol=1e-5)
  assert max(expected) - min(expected) > 1e-2  # steps do something
