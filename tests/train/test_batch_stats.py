"""Running statistics in training: threaded, sharded, averaged, saved, restored and started from."""

import functools
import json
import math
import shutil

import jax
import numpy as np
import pytest

from vit_jax import commands, models
from vit_jax.config import Augment, Loss, Mesh, Optim
from vit_jax.evaluate.backbone import Forward
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.run.folder import Run
from vit_jax.train.optim import make_optimizer
from vit_jax.train.schedules import make_schedule
from vit_jax.train.state import init_state
from vit_jax.train.step import make_train_step
from vit_jax.train.task import Classification

RNG = np.random.default_rng(0)
BATCH = {
  'image': RNG.integers(0, 256, (16, 16, 16, 3), np.uint8),
  'label': RNG.integers(0, 5, 16, np.int32),
  'mask': np.ones(16, bool),
  'index': np.arange(16, dtype=np.int32),
}
TASK = Classification(5, Loss(), Augment(), (0.5,) * 3, (0.5,) * 3)
MODEL = models.build('ResNet-18', 5, stages=(1,), width=8)
SGD = Optim(name='sgd', lr=0.1, schedule='constant')
ONE = Mesh()


def rows_of(batch, rows):
  return {name: values[rows] for name, values in batch.items()}


@functools.cache
def start(mesh, accumulate, ema):
  """(a device mesh, a fresh state on the host, where the state lies, the step)."""
  device_mesh = meshes.make_mesh(mesh, jax.devices()[:1] if mesh == ONE else None)
  tx = make_optimizer(SGD, make_schedule(SGD, 10, 16, 100))
  init = jax.jit(lambda: init_state(MODEL, tx, (16, 16, 3), 0, ema=bool(ema)))
  state = jax.device_get(init())
  step = make_train_step(
    MODEL, TASK, tx, mesh=device_mesh, state=state, accumulate=accumulate, ema=ema
  )
  return device_mesh, state, rules.shardings(state, device_mesh), step


def run(steps=2, batch=BATCH, mesh=ONE, accumulate=1, ema=0.0):
  """The state and the metrics after some steps on one batch."""
  device_mesh, fresh, shardings, step = start(mesh, accumulate, ema)
  state, metrics = jax.device_put(fresh, shardings), {}
  for _ in range(steps):
    state, metrics = step(state, meshes.put_batch(batch, device_mesh))
  return jax.device_get(state), jax.device_get(metrics)


def apart(a, b) -> float:
  """The largest difference of two trees, in units of their leaf's largest value."""
  rows = jax.tree.map(lambda x, y: np.abs(x - y).max() / max(1e-2, np.abs(y).max()), a, b)
  return max(jax.tree.leaves(rows))


@pytest.fixture(scope='module')
def plain():
  return run()


def test_a_step_moves_them_as_the_model_says(plain):
  fresh, _ = run(0)
  assert all(not leaf.any() for name, leaf in leaves(fresh.batch_stats) if name.endswith('mean'))
  images_BHWC, _ = TASK.inputs(BATCH)
  moved = MODEL.apply(fresh.variables, images_BHWC, train=True, mutable=['batch_stats'])[1]
  after, _ = run(1)
  assert apart(after.batch_stats, moved['batch_stats']) < 1e-5
  assert apart(after.batch_stats, fresh.batch_stats) > 0.05
  assert apart(plain[0].batch_stats, after.batch_stats) > 0.05


def leaves(tree):
  return [
    (jax.tree_util.keystr(path, simple=True, separator='/'), leaf)
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  ]


@pytest.mark.parametrize('mesh', [Mesh(8, 1, 1), Mesh(2, 2, 2)], ids=str)
def test_they_are_those_of_the_global_batch_on_any_mesh(plain, mesh):
  """On 8 devices of 2 examples each; the statistics of one device would be far off."""
  state, metrics = run(mesh=mesh)
  assert apart(state.batch_stats, plain[0].batch_stats) < 1e-4
  assert apart(state.params, plain[0].params) < 1e-4
  assert float(metrics['loss']) == pytest.approx(float(plain[1]['loss']), rel=1e-4)
  local, _ = run(batch=rows_of(BATCH, slice(0, 2)))
  assert apart(local.batch_stats, plain[0].batch_stats) > 1e-2


@pytest.mark.parametrize(
  'mesh, accumulate',
  [(ONE, 1), (Mesh(2, 2, 2), 1), pytest.param(ONE, 4, marks=pytest.mark.slow)],
  ids=str,
)
def test_masked_rows_count_nowhere(mesh, accumulate):
  short = rows_of(BATCH, slice(0, 8))
  padded = {name: np.concatenate([values, values]) for name, values in short.items()}
  padded['image'][8:] = 255
  padded['mask'][8:] = False
  expected, expected_metrics = run(batch=short, accumulate=accumulate)
  state, metrics = run(batch=padded, mesh=mesh, accumulate=accumulate)
  assert apart(state.variables, expected.variables) < 1e-4
  assert float(metrics['examples']) == float(expected_metrics['examples']) == 8


def test_accumulation_threads_them_through_the_micro_batches():
  """The k-th micro-batch has rows k, k + 4, ...; each moves what the one before has left."""
  fresh, _ = run(0)
  variables = fresh.variables
  for k in range(4):
    images_BHWC, _ = TASK.inputs(rows_of(BATCH, slice(k, None, 4)))
    moved = MODEL.apply(variables, images_BHWC, train=True, mutable=['batch_stats'])[1]
    variables = {**variables, **moved}
  state, _ = run(1, accumulate=4)
  assert apart(state.batch_stats, variables['batch_stats']) < 1e-5
  assert apart(state.batch_stats, run(1)[0].batch_stats) > 0.1


def test_a_micro_batch_without_examples_leaves_them():
  batch = rows_of(BATCH, slice(None))
  batch['mask'] = np.arange(16) % 4 == 0  # all in the first micro-batch of 4
  state, _ = run(1, batch=batch, accumulate=4)
  expected, _ = run(1, batch=rows_of(BATCH, batch['mask']))
  assert apart(state.variables, expected.variables) < 1e-4


def test_averages_have_averaged_statistics():
  state, _ = run(2, ema=0.5)
  average = run(0)[0].variables
  for s in range(2):
    average = jax.tree.map(lambda a, v: a * 0.5 + v * 0.5, average, run(s + 1)[0].variables)
  assert state.eval_variables is state.ema
  assert apart(state.ema, average) < 1e-5
  assert apart(state.ema['batch_stats'], state.batch_stats) > 1e-2


def test_evaluation_is_by_what_ran(plain):
  """An example's row does not depend on the others of its batch."""
  mesh = meshes.make_mesh(ONE, jax.devices()[:1])
  state = plain[0]
  step = Forward(
    MODEL, state.eval_variables, mean=TASK.mean, std=TASK.std, loss='softmax', mesh=mesh
  ).classify
  whole = step(state.eval_variables, meshes.put_batch(BATCH, mesh))
  part = rows_of(BATCH, slice(0, 4))
  few = step(state.eval_variables, meshes.put_batch(part, mesh))
  np.testing.assert_allclose(whole['loss'][:4], few['loss'], rtol=1e-4)
  other = {**state.eval_variables, 'batch_stats': run(0)[0].batch_stats}
  assert np.abs(step(other, meshes.put_batch(part, mesh))['loss'] - few['loss']).max() > 1e-3


@pytest.mark.parametrize('name', ['ResNet-50', 'BiT-R101x3', 'AlexNet', 'R50+L/32'])
def test_every_large_leaf_is_sharded(name):
  mesh = meshes.make_mesh(Mesh(1, 8, 1))
  model = models.build(name, 1000)
  state = jax.eval_shape(
    lambda: init_state(
      model, make_optimizer(Optim(), lambda step: 1e-3), (224, 224, 3), 0, ema=True
    )
  )
  specs = dict(leaves(rules.shardings(state, mesh)))  # raises for a large one without a rule
  large = [name for name, leaf in leaves(state) if math.prod(leaf.shape) > 1 << 20]
  assert large and all('fsdp' in str(specs[name].spec) for name in large)
  assert all(not any(specs[name].spec) for name in specs if 'batch_stats' in name)


@pytest.mark.slow
def test_a_run_with_them(tiny_recipe, write_images, tmp_path, capsys):
  """Saved, resumed bit by bit, evaluated, and taken over by `init_from`."""
  recipe = tmp_path / 'resnet.py'
  text = tiny_recipe.read_text()
  at = text.index('      model=dict(')
  recipe.write_text(
    text[:at]
    + "      model=dict(name='ResNet-18', stages=(1,), width=8),\n"
    + text[text.index('      data=dict(') :]
  )
  flags = [
    '--config.steps=6',
    '--config.checkpoint.every.steps=3',
    '--config.checkpoint.keep_last=9',
    '--config.evals.test.every.steps=0',
  ]
  whole, again = tmp_path / 'whole', tmp_path / 'again'
  command = ['train', f'--config={recipe}', *flags]
  assert commands.main([*command, f'--workdir={whole}']) == 0
  shutil.copytree(whole, again)
  for path in (again / 'checkpoints').iterdir():  # as if it had been killed after step 3
    if path.name != '3':
      shutil.rmtree(path)
  capsys.readouterr()
  assert commands.main([*command, f'--workdir={again}']) == 0
  assert 'start: checkpoint of step 3' in capsys.readouterr().out
  states = [load(workdir) for workdir in (whole, again)]
  jax.tree.map(np.testing.assert_array_equal, *states)
  assert {'params', 'batch_stats', 'ema'} <= states[0].keys()
  assert states[0]['ema'].keys() == {'params', 'batch_stats'}

  assert commands.main(['evaluate', f'--workdir={whole}']) == 0
  judged = json.loads((whole / 'evaluation-6.json').read_text())['test']
  assert judged == pytest.approx(json.loads((whole / 'summary.json').read_text())['test'])

  for split in ('train', 'test'):
    write_images(tmp_path / 'two' / split, {'a': 9, 'b': 9})
  tuned = tmp_path / 'tuned'
  assert (
    commands.main(
      [
        'train',
        f'--config={recipe}',
        f'--workdir={tuned}',
        '--config.steps=1',
        f'--config.data.dir={tmp_path / "two"}',
        f'--config.init_from={whole}',
        '--config.optim.ema=0.0',
        '--config.optim.lr=0.0',
        '--config.optim.warmup.steps=0',
      ]
    )
    == 0
  )
  assert '2 fresh' in capsys.readouterr().out
  started, source = load(tuned), states[0]['ema']
  assert apart(started['params']['stage1'], source['params']['stage1']) == 0
  # One step has moved the statistics by a tenth at most, from those of the run it began with.
  for (name, leaf), (_, before) in zip(
    leaves(started['batch_stats']), leaves(source['batch_stats']), strict=True
  ):
    if name.endswith('var'):
      assert (leaf >= 0.9 * before - 1e-6).all() and np.abs(before - 1).max() > 1e-3


def load(workdir):
  with Run(workdir).checkpoints() as checkpoints:
    return checkpoints.load(checkpoints.pick('last'))
