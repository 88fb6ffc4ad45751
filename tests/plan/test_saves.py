"""What a save costs: bytes by shapes and shardings, against what a run writes."""

import jax
import pytest
from test_program import MESH, case, experiment

from vit_jax.plan import program
from vit_jax.plan.saves import Save, save_lines, save_of
from vit_jax.train.trainer import Trainer


@pytest.fixture(scope='module')
def trainer(tiny_recipe) -> Trainer:
  keys = ('--config.checkpoint.minutes=2', '--config.checkpoint.upload_every=5')
  return program.lower(case(experiment(tiny_recipe, *MESH, *keys))).trainer


def bytes_of(tree) -> int:
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def test_of_one_host(trainer):
  save = save_of(trainer, 0.0)
  state = trainer.abstract_state.as_tree()
  assert save == Save(bytes_of(state), 1, bytes_of(state), bytes_of(state), 600.0)


def test_each_host_keeps_its_shards_and_uploads_its_part(trainer):
  """Of the mesh (replica 2, fsdp 2, tensor 2) each of four hosts has both devices of `tensor`."""
  save = save_of(trainer, 0.0, host=lambda device: device.id // 2)
  state = trainer.abstract_state.as_tree()
  sharded = sum(
    leaf.size * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(state)
    if 'fsdp' in str(leaf.sharding.spec)
  )
  assert 0 < sharded < bytes_of(state)
  assert save.hosts == 4 and save.sent == bytes_of(state) / 4
  assert save.kept == bytes_of(state) - sharded / 2


def test_what_is_due_first_counts(tiny_recipe):
  keys = ('--config.checkpoint.every.steps=20', '--config.checkpoint.minutes=0')
  by_steps = program.lower(case(experiment(tiny_recipe, *keys))).trainer
  assert save_of(by_steps, 0.5).period == 10.0 and save_of(by_steps, 0.0).period == 0.0


@pytest.mark.parametrize(
  ('bandwidth', 'period', 'words'),
  [
    (0, 100.0, 'asks for 10 MB/s'),
    (0, 0.0, ''),
    (20, 100.0, 'takes 50.0 s, beside training, and the next one is due after 1 min 40 s'),
    (20, 0.0, 'takes 50.0 s, beside training'),
    (4, 100.0, 'upload_every by 3'),
  ],
)
def test_how_it_is_said(bandwidth, period, words):
  lines = save_lines(Save(8 * 10**9, 8, 2 * 10**9, 1e9, period), bandwidth)
  assert '8.000 GB' in lines[0] and 'writes 2.000 GB to its disk and uploads 1.000 GB' in lines[0]
  assert lines[1:] == [] if not words else words in lines[1]
