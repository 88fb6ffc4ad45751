"""Meshes, rows of a batch, and the golden table of parameter shardings."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from vit_jax import models
from vit_jax.config import Mesh, Optim
from vit_jax.errors import UserError
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.train.optim import make_optimizer
from vit_jax.train.state import init_state
from vit_jax.trees import flatten

GOLDEN = Path(__file__).parent.parent / 'golden' / 'shardings_B_16.txt'


def test_golden_shardings():
  """ViT-B/16 and its AdamW state on a (2, 2, 2) mesh."""
  mesh = meshes.make_mesh(Mesh(2, 2, 2))
  model = models.build('B/16', 1000)
  tx = make_optimizer(Optim(), lambda step: 1e-3)
  state = jax.eval_shape(lambda: init_state(model, tx, (224, 224, 3), 0))
  text = rules.table(state, mesh) + '\n'
  if os.environ.get('UPDATE_GOLDEN'):
    GOLDEN.write_text(text)
  assert text == GOLDEN.read_text(), (
    'a parameter is sharded differently; if that is what you want, run UPDATE_GOLDEN=1 pytest '
    f'{Path(__file__).name} and commit the difference'
  )


def test_optimizer_state_lies_as_its_parameter():
  mesh = meshes.make_mesh(Mesh(1, 4, 2))
  model = models.build('Ti/8', 10, width=32, depth=2, heads=2, mlp=64)
  tx = make_optimizer(Optim(), lambda step: 1e-3)
  state = jax.eval_shape(lambda: init_state(model, tx, (16, 16, 3), 0))
  sharded = rules.shardings(state, mesh)
  specs = {name: leaf.spec for name, leaf in flatten(sharded).items()}
  up = 'encoder/blocks/mlp/up/kernel'
  assert specs[f'params/{up}'] == P(None, 'fsdp', 'tensor')
  moments = [name for name in specs if name.startswith('opt_state') and name.endswith(up)]
  assert len(moments) == 2 and all(specs[name] == specs[f'params/{up}'] for name in moments)


@pytest.mark.parametrize(
  'sizes, expected',
  [
    ((-1, 1, 1), (8, 1, 1, 1)),
    ((2, -1, 2), (2, 2, 2, 1)),
    ((1, 8, 1), (1, 8, 1, 1)),
    ((2, 1, 1, -1), (2, 1, 1, 4)),
  ],
)
def test_minus_one_takes_what_is_left(sizes, expected):
  assert tuple(meshes.make_mesh(Mesh(*sizes)).shape.values()) == expected


@pytest.mark.parametrize('sizes', [(3, -1, 1), (4, 4, 1), (-1, -1, 1), (0, 1, 1), (4, 2, 1, 2)])
def test_a_mesh_that_does_not_fit_is_refused(sizes):
  with pytest.raises(UserError, match='config.mesh is'):
    meshes.make_mesh(Mesh(*sizes))


def test_a_batch_that_does_not_divide_is_refused_with_the_nearest_that_does():
  mesh = meshes.make_mesh(Mesh(4, 2, 1))
  meshes.check_batch(48, mesh, 'config.batch_size', accumulate=3)
  with pytest.raises(UserError, match='config.batch_size is 50, .* by 24 .* nearest that is: 48'):
    meshes.check_batch(50, mesh, 'config.batch_size', accumulate=3)


def test_a_batch_lies_over_replica_and_fsdp_in_order():
  mesh = meshes.make_mesh(Mesh(2, 2, 2))
  assert meshes.local_rows(16, mesh) == list(range(16))
  batch = meshes.put_batch({'x': np.arange(16)}, mesh)
  assert batch['x'].sharding.spec == meshes.BATCH_SPEC
  np.testing.assert_array_equal(batch['x'], np.arange(16))
  assert {shard.data.shape for shard in batch['x'].addressable_shards} == {(4,)}
