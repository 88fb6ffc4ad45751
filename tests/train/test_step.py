"""The step: golden values, and what must not change them (sharding, accumulation, masks)."""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import config, models
from vit_jax.config import Augment, Loss, Mesh, Optim
from vit_jax.evaluate import metrics
from vit_jax.evaluate.backbone import Forward
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.train.optim import make_optimizer
from vit_jax.train.schedules import make_schedule
from vit_jax.train.state import init_state
from vit_jax.train.step import make_train_step
from vit_jax.train.task import Classification

GOLDEN = Path(__file__).parent.parent / 'golden' / 'step.json'
OPTIM = Optim(lr=1e-2, weight_decay=0.1, clip_norm=1.0, warmup=config.Duration(steps=2))
ONE = Mesh()  # a single device
TASK = Classification(
  5, Loss(label_smoothing=0.1), Augment(mixup=0.2, dihedral=True), (0.5,) * 3, (0.5,) * 3
)


def batch_of(count: int, seed: int = 0) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(seed)
  return {
    'image': rng.integers(0, 256, (count, 16, 16, 3), np.uint8),
    'label': rng.integers(0, 5, count, np.int32),
    'mask': np.ones(count, bool),
    'index': np.arange(count, dtype=np.int32),
  }


def run(
  steps: int = 3,
  *,
  mesh: Mesh = ONE,
  task: Classification = TASK,
  count: int = 16,
  batches=None,
  accumulate: int = 1,
  ema: float = 0.0,
  ema_warmup: bool = False,
  optim: Optim = OPTIM,
  **model_keys,
):
  """(the train metrics of each step, the final state) of a tiny ViT."""
  keys = dict(width=32, depth=2, heads=2, mlp=64, dropout=0.1, stochastic_depth=0.2) | model_keys
  model = models.build('Ti/8', 5, **keys)
  device_mesh = meshes.make_mesh(mesh, jax.devices()[:1] if mesh == ONE else None)
  tx = make_optimizer(optim, make_schedule(optim, 10, count, 100))

  def init():
    state = init_state(model, tx, (16, 16, 3), 0, ema=bool(ema))
    # The head starts at zero, which would hide faults of the body in the first step.
    head = jax.random.normal(jax.random.key(1), state.params['head']['kernel'].shape) * 0.1
    params = {**state.params, 'head': {**state.params['head'], 'kernel': head}}
    averaged = {'params': jax.tree.map(jnp.copy, params)} if ema else None
    return state.replace(params=params, ema=averaged)

  shapes = jax.eval_shape(init)
  state = jax.jit(init, out_shardings=rules.shardings(shapes, device_mesh))()
  step = make_train_step(
    model,
    task,
    tx,
    mesh=device_mesh,
    state=shapes,
    accumulate=accumulate,
    ema=ema,
    ema_warmup=ema_warmup,
  )
  rows = []
  for s in range(steps):
    batch = batch_of(count, s) if batches is None else batches[s]
    state, metrics = step(state, meshes.put_batch(batch, device_mesh))
    rows.append({name: float(value) for name, value in metrics.items()})
  return rows, state


def difference(a, b) -> float:
  return max(
    float(jnp.max(jnp.abs(x - np.asarray(y))))
    for x, y in zip(jax.tree.leaves(jax.device_get(a)), jax.tree.leaves(b), strict=True)
  )


@pytest.fixture(scope='module')
def plain():
  return run()


def test_golden_steps(plain):
  rows, _ = plain
  if os.environ.get('UPDATE_GOLDEN'):
    GOLDEN.write_text(json.dumps(rows, indent=2) + '\n')
  for row, golden in zip(rows, json.loads(GOLDEN.read_text()), strict=True):
    for name, value in golden.items():
      np.testing.assert_allclose(
        row[name],
        value,
        rtol=2e-5,
        err_msg=(
          f'{name} of a step changed: the model, the loss, the optimizer or the random numbers '
          'differ. If that is what you want, run UPDATE_GOLDEN=1 pytest tests/train/test_step.py'
          ' and say why in the commit'
        ),
      )


@pytest.mark.parametrize(
  'mesh',
  [Mesh(2, 2, 2), *(pytest.param(m, marks=pytest.mark.slow) for m in (Mesh(8), Mesh(1, 8)))],
  ids=str,
)
def test_sharding_changes_nothing(plain, mesh):
  rows, state = run(mesh=mesh)
  for row, expected in zip(rows, plain[0], strict=True):
    assert abs(row['loss'] - expected['loss']) / expected['examples'] < 1e-5
    assert row['examples'] == expected['examples'] and row['top1'] == expected['top1']
  kernel = state.params['encoder']['blocks']['mlp']['up']['kernel']
  assert kernel.addressable_shards[0].data.size == kernel.size // (mesh.fsdp * mesh.tensor)


def deterministic() -> Classification:
  return Classification(5, Loss(), Augment(), (0.5,) * 3, (0.5,) * 3)


SGD = Optim(name='sgd', lr=0.1, schedule='constant')


# Without random numbers, and with SGD: Adam makes rounding in a gradient that should be zero (the
# keys' biases have one) as large as any other.
EXACT = dict(task=deterministic(), dropout=0.0, stochastic_depth=0.0, optim=SGD)


@pytest.fixture(scope='module')
def exact():
  return run(**EXACT)


@pytest.mark.parametrize(
  'mesh, accumulate',
  [(ONE, 4), (Mesh(2, 2, 2), 4), pytest.param(Mesh(2, 2, 2), 1, marks=pytest.mark.slow)],
  ids=str,
)
def test_accumulation_and_sharding_give_the_parameters_of_the_whole_batch(exact, mesh, accumulate):
  rows, state = run(**EXACT, mesh=mesh, accumulate=accumulate)
  assert difference(state.params, exact[1].params) < 2e-6
  for row, expected in zip(rows, exact[0], strict=True):
    assert row['examples'] == 16
    assert row == pytest.approx(expected, rel=1e-5)


DEIT = Classification(
  5, Loss(), Augment(mixup=0.8, cutmix=1.0, erase=0.25), (0.5,) * 3, (0.25,) * 3
)


@pytest.fixture(scope='module')
def mixed():
  return run(**EXACT | {'task': DEIT}, count=64)


@pytest.mark.parametrize(
  'mesh, accumulate',
  [(ONE, 64), (Mesh(2, 2, 2), 4), pytest.param(ONE, 4, marks=pytest.mark.slow)],
  ids=str,
)
def test_mixing_depends_neither_on_accumulation_nor_on_devices(mixed, mesh, accumulate):
  rows, state = run(**EXACT | {'task': DEIT}, count=64, mesh=mesh, accumulate=accumulate)
  for row, expected in zip(rows, mixed[0], strict=True):
    assert abs(row['loss'] - expected['loss']) / 64 < 1e-6
  assert difference(state.params, mixed[1].params) < 2e-6
  unmixed = run(1, **EXACT, count=64)[0][0]
  assert abs(rows[0]['loss'] - unmixed['loss']) / 64 > 1e-3


def test_any_class_of_a_set_is_right():
  """Training on sets takes them as soft labels; an empty set is never right."""
  batch = batch_of(16)
  batch['soft_label'] = np.zeros((16, 5), np.float32)
  batch['soft_label'][:8] = 1
  task = Classification(5, Loss(name='sigmoid'), Augment(), (0.5,) * 3, (0.5,) * 3)
  rows, _ = run(1, **EXACT | {'task': task}, batches=[batch])
  assert rows[0]['top1'] == 8


def test_masked_rows_count_nowhere():
  short = [batch_of(11, s) for s in range(3)]
  padded = [
    {name: np.concatenate([values, batch_of(5, 9)[name]]) for name, values in b.items()}
    for b in short
  ]
  for batch in padded:
    batch['mask'][11:] = False
  rows, state = run(batches=short, **EXACT)
  rows_padded, state_padded = run(batches=padded, **EXACT)
  assert difference(state.params, state_padded.params) < 2e-6
  assert [row['examples'] for row in rows_padded] == [11, 11, 11]
  np.testing.assert_allclose(
    [row['loss'] for row in rows], [row['loss'] for row in rows_padded], rtol=1e-5
  )


def test_soft_labels_take_the_place_of_labels(exact):
  batches = [batch_of(16, s) for s in range(3)]
  for batch in batches:
    batch['soft_label'] = np.eye(5, dtype=np.float32)[batch['label']]
    batch['label'] = np.zeros_like(batch['label'])
  rows, state = run(**EXACT, batches=batches)
  assert difference(state.params, exact[1].params) == 0 and rows == exact[0]


def test_a_run_is_deterministic_and_its_seed_matters(plain):
  rows, state = run()
  assert rows == plain[0] and difference(state.params, plain[1].params) == 0


def test_ema_follows_the_parameters(plain):
  rows, state = run(ema=0.99, ema_warmup=True)
  assert rows == plain[0]  # averaging changes no update
  model_start = run(0)[1].params
  average = model_start
  for s in range(3):
    decay = min(0.99, (1 + s) / (10 + s))
    after = run(s + 1)[1].params
    average = jax.tree.map(lambda a, p, d=decay: a * d + p * (1 - d), average, after)
  assert difference(state.ema, average) < 1e-6
  assert difference(state.ema, state.params) > 1e-3
  assert state.eval_variables is state.ema
  assert plain[1].eval_variables['params'] is plain[1].params


def test_training_learns():
  batch = batch_of(16)
  rows, _ = run(
    steps=30, batches=[batch] * 30, task=deterministic(), dropout=0.0, stochastic_depth=0.0
  )
  assert rows[-1]['loss'] < 0.2 * rows[0]['loss'] and rows[-1]['top1'] > 14


def test_every_example_is_judged_once_on_one_and_on_eight_devices(plain):
  model = models.build('Ti/8', 5, width=32, depth=2, heads=2, mlp=64)
  batch = batch_of(16)
  batch['mask'][13:] = False
  results = []
  for mesh in (meshes.make_mesh(Mesh(), jax.devices()[:1]), meshes.make_mesh(Mesh(4, 2, 1))):
    variables = jax.device_put(
      jax.device_get(plain[1].variables), rules.shardings(plain[1].variables, mesh)
    )
    step = Forward(
      model, variables, mean=(0.5,) * 3, std=(0.5,) * 3, loss='softmax', mesh=mesh
    ).classify
    rows = metrics.concatenate([jax.device_get(step(variables, meshes.put_batch(batch, mesh)))])
    assert list(rows['index']) == list(range(13))
    results.append(metrics.summarize(rows))
  assert results[0]['top1'] == results[1]['top1'] and results[0]['top5'] == 1
  np.testing.assert_allclose(results[0]['loss'], results[1]['loss'], rtol=1e-6)
