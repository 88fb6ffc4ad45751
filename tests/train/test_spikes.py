"""Updates that are not finite or spike: skipped on the device, rolled back in the loop."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fleet import Life, result
from vit_jax import config, models
from vit_jax.config import Augment, Loss, Mesh, Optim, Spikes
from vit_jax.errors import RunFault
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.parallel.preemption import Preemption
from vit_jax.train import spikes as policy
from vit_jax.train import teacher
from vit_jax.train.loop import train
from vit_jax.train.optim import make_optimizer
from vit_jax.train.state import init_state
from vit_jax.train.step import make_train_step
from vit_jax.train.task import Classification
from vit_jax.train.trainer import Trainer

VIT = models.build('Ti/8', 5, width=32, depth=2, heads=2, mlp=64)
RESNET = models.build('ResNet-18', 5, stages=(1,), width=8)  # it has a BatchNorm


def batch_of(seed: int, mass: float) -> dict[str, np.ndarray]:
  """Labels of a mass."""
  rng = np.random.default_rng(seed)
  label_BK = np.eye(5, dtype=np.float32)[rng.integers(0, 5, 16)]
  return {
    'image': rng.integers(0, 256, (16, 16, 16, 3), np.uint8),
    'label': np.zeros(16, np.int32),
    'soft_label': np.where(label_BK, mass, 0).astype(np.float32),
    'mask': np.ones(16, bool),
  }


@pytest.mark.parametrize(
  'model, mesh, accumulate',
  [(VIT, Mesh(2, 2, 2), 2), (RESNET, Mesh(8, 1, 1), 2)],
  ids=['sharded', 'BatchNorm'],
)
def test_a_skipped_update_leaves_the_state_bit_by_bit(model, mesh, accumulate):
  device_mesh = meshes.make_mesh(mesh)
  tx = make_optimizer(Optim(lr=0.1, weight_decay=0.1), lambda step: 0.1)
  task = Classification(5, Loss(), Augment(), (0.5,) * 3, (0.5,) * 3)
  init = functools.partial(init_state, model, tx, (16, 16, 3), 0, ema=True)
  shapes = jax.eval_shape(init)
  state = jax.jit(init, out_shardings=rules.shardings(shapes, device_mesh))()
  step = make_train_step(
    model, task, tx, mesh=device_mesh, state=shapes, accumulate=accumulate, ema=0.9
  )
  before, rows = [], []
  for seed, mass in enumerate((1.0, np.nan, np.inf, 1.0)):
    before.append(jax.device_get(state))
    state, metrics = step(state, meshes.put_batch(batch_of(seed, mass), device_mesh))
    rows.append((int(metrics['skipped']), int(metrics['in_a_row'])))
  assert rows == [(0, 0), (1, 1), (1, 2), (0, 0)] and step._cache_size() == 1
  after, changed = before[3], [before[1], jax.device_get(state)]
  assert after.step == 3 and before[1].step == 1
  for name in ('params', 'opt_state', 'ema', 'batch_stats'):
    leaves = jax.tree.leaves(getattr(after, name))
    assert (len(leaves) > 0) == (name != 'batch_stats' or model is RESNET)
    for leaf, expected in zip(leaves, jax.tree.leaves(getattr(before[1], name)), strict=True):
      np.testing.assert_array_equal(leaf, expected)
    if leaves:  # the other updates did change it
      for a, b in ((before[0], changed[0]), (after, changed[1])):
        pairs = zip(*(jax.tree.leaves(getattr(tree, name)) for tree in (a, b)), strict=True)
        assert any((x != y).any() for x, y in pairs)


def test_a_spike_is_a_multiple_of_the_mean_of_accepted_updates():
  spikes = Spikes(loss_factor=2.0, norm_factor=10.0, window=3)
  counters, good = policy.begin(spikes), []
  # Means of the loss before each: 0, 9, 5, 4 (the window is full), 4, 4, 5.3.
  for loss, norm in [(9.0, 1), (1.0, 1), (2.0, 1), (9.0, 1), (7.9, 41), (7.9, 1), (10.7, 1)]:
    ok, counters = policy.judge(spikes, counters, jnp.float32(loss), jnp.float32(norm))
    good.append(bool(ok))
  assert good == [True, True, True, False, False, True, False]
  np.testing.assert_allclose([counters['loss'], counters['grad_norm']], [5.3, 1.0], rtol=1e-6)
  never = policy.begin(Spikes())
  assert set(never) == {'in_a_row'}
  assert policy.judge(Spikes(), never, jnp.float32(1e8), jnp.float32(1e30))[0]
  assert not policy.judge(Spikes(), never, jnp.float32(1e10), jnp.float32(1.0))[0]


class Poisoned(Classification):
  """Its images are no numbers where `poison` says so."""

  def inputs(self, batch, *variables):
    images_BHWC, targets = super().inputs(batch, *variables)
    return images_BHWC * jnp.where(batch['poison'][:, None, None, None], jnp.nan, 1.0), targets


class Crash(Exception):
  pass


@pytest.fixture
def run_lenet(tiny_folder, tmp_path, monkeypatch):
  """run(name, bad steps, ..) trains LeNet-5 for 30 steps, saved each 5."""
  batches = Trainer.batches

  def make_task(x, num_classes):
    return Poisoned(num_classes, x.loss, x.augment, x.images.mean, x.images.std)

  def run(name, bad, *, crash_at=None, **keys):
    def poisoned(self, start=0, stop=None):
      for s, batch in enumerate(batches(self, start, stop), start):
        if s == crash_at:
          raise Crash
        rows = np.full(16, s in bad)
        yield {**batch, 'poison': jax.device_put(rows, batch['mask'].sharding)}

    monkeypatch.setattr(Trainer, 'batches', poisoned)
    monkeypatch.setattr(teacher, 'make_task', make_task)
    x = config.resolve(
      {
        'steps': 30,
        'batch_size': 16,
        'model': {'name': 'LeNet-5'},
        'data': {
          'name': 'folder',
          'dir': str(tiny_folder),
          'image_size': (32, 32),
          'channels': 1,
          'mean': (0.5,),
          'std': (0.5,),
        },
        'optim': {'lr': 3e-3, 'ema': 0.9, 'warmup': {'steps': 3}},
        'spikes': {'patience': 3, 'rollbacks': 2},
        'checkpoint': {'every': {'steps': 5}, 'minutes': 0.0},
        'log': {'every': {'steps': 1}},
      }
      | keys
    )
    with Preemption() as preemption:
      return train(x, tmp_path / name, tmp_path, preemption)

  return run


def events_of(folder, kind):
  lines = map(json.loads, (folder / 'events.jsonl').read_text().splitlines())
  return [line for line in lines if line['event'] == kind]


def assert_same(folder, other):
  (state, rows, _), (expected, expected_rows, _) = result(folder), result(other)
  for leaf, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
    np.testing.assert_array_equal(leaf, wanted)
  text = [[json.dumps(row, sort_keys=True) for row in rows_] for rows_ in (rows, expected_rows)]
  assert text[0] == text[1]


def test_a_batch_that_is_not_finite_is_skipped_and_the_run_ends_well(run_lenet, tmp_path):
  assert run_lenet('run', {7, 20}) == 0
  state, rows, _ = result(tmp_path / 'run')
  assert state['step'] == 30 and state['spikes']['in_a_row'] == 0
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
  assert [row['step'] for row in rows if row.get('train/skipped')] == [8, 21]
  skipped = events_of(tmp_path / 'run', 'skipped')
  assert [(line['step'], line['loss'], line['in_a_row']) for line in skipped] == [
    (8, 'nan', 1),
    (21, 'nan', 1),
  ]
  assert not events_of(tmp_path / 'run', 'rollback')


BAD = {12, 13, 14, 16, 27}  # three in a row; 15 is under way when that is known


def test_a_row_of_them_rolls_back_and_reruns_and_resumes_with_the_same_bits(run_lenet, tmp_path):
  assert run_lenet('run', BAD) == 0
  rollbacks = events_of(tmp_path / 'run', 'rollback')
  assert [(line['step'], line['source']) for line in rollbacks] == [(16, 10)]
  assert result(tmp_path / 'run')[0]['step'] == 30
  assert run_lenet('again', BAD) == 0
  assert_same(tmp_path / 'again', tmp_path / 'run')
  run_lenet('clean', set())
  with pytest.raises(AssertionError):
    assert_same(tmp_path / 'clean', tmp_path / 'run')
  assert_resumes(run_lenet, tmp_path, [(15, 0.0), (16, 1e-9)])


@pytest.mark.slow
def test_it_does_so_wherever_it_is_killed(run_lenet, tmp_path):
  run_lenet('run', BAD)
  assert_resumes(run_lenet, tmp_path, [(11, 0.0), (17, 0.0), (15, 1e-9), (18, 1e-9)])


def assert_resumes(run_lenet, tmp_path, crashes):
  """Crashes at a step; the minutes are those of saves that no one asked for, at every step or none.

  The rollback is decided between steps 15 and 16.
  """
  for crash_at, minutes in crashes:
    name, keys = (
      f'{crash_at}_{minutes}',
      {'checkpoint': {'every': {'steps': 5}, 'minutes': minutes}},
    )
    with pytest.raises(Crash):
      run_lenet(name, BAD, crash_at=crash_at, **keys)
    assert run_lenet(name, BAD, **keys) == 0
    assert_same(tmp_path / name, tmp_path / 'run')


def test_a_rollback_in_vain_goes_further_back(run_lenet, tmp_path):
  assert run_lenet('run', {12, 13, 14, 15, 16, 17, 18}) == 0
  rollbacks = events_of(tmp_path / 'run', 'rollback')
  assert [(line['step'], line['source']) for line in rollbacks] == [(16, 10), (20, 5)]


@pytest.mark.parametrize('bad', [range(31), range(11, 31)], ids=['from the start', 'later'])
def test_without_end_the_run_fails_within_its_rollbacks(run_lenet, tmp_path, bad):
  with pytest.raises(RunFault, match='after 2 rollbacks'):
    run_lenet('run', set(bad))
  assert len(events_of(tmp_path / 'run', 'rollback')) == 2
  assert events_of(tmp_path / 'run', 'end')[0]['code'] == 1


def test_a_run_that_ends_in_a_row_of_them_fails(run_lenet, tmp_path):
  with pytest.raises(RunFault, match='last 3 updates'):
    run_lenet('run', {27, 28, 29}, spikes={'patience': 10})
  assert run_lenet('other', {28, 29}, spikes={'patience': 10}) == 0  # less than a tenth


def test_a_rate_beyond_all_measure_ends_with_1_and_a_sentence(lenet_recipe, nursery, tmp_path):
  argv = ['train', f'--config={lenet_recipe}', f'--workdir={tmp_path / "run"}']
  life = Life(nursery, tmp_path, [*argv, '--config.optim.lr=1e30'])
  assert life.codes() == [1]
  assert 'Traceback' not in life.log(0) and 'config.optim.lr' in life.log(0)


def test_the_policy_is_part_of_the_experiment():
  x = config.resolve({'steps': 1, 'spikes': {'loss_factor': 2.0}})
  assert x.spikes == dataclasses.replace(Spikes(), loss_factor=2.0)
