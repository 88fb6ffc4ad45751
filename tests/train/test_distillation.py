"""Learning from a teacher: the teacher in the step, and whole runs."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import commands, config, models
from vit_jax.config import Augment, Distill, Loss, Mesh, Optim
from vit_jax.errors import UserError
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.run import Run
from vit_jax.train import teacher
from vit_jax.train.optim import make_optimizer
from vit_jax.train.schedules import make_schedule
from vit_jax.train.state import init_state
from vit_jax.train.step import make_train_step
from vit_jax.train.task import Distillation

HALF = (0.5,) * 3
ONE = Mesh()  # a single device
SGD = Optim(name='sgd', lr=0.1, schedule='constant')
STUDENT = dict(width=32, depth=2, heads=2, mlp=64)


def teacher_of(name, seed, **options):
  """(model, random variables, running statistics among them)."""
  model = models.build(name, 5, **options)
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), train=False)
  )
  rng = np.random.default_rng(seed)

  def random(path, leaf):
    positive = path[-1].key in ('var', 'scale')
    low, high = (0.5, 1.5) if positive else (-0.3, 0.3)
    return jnp.asarray(rng.uniform(low, high, leaf.shape), jnp.float32)

  return model, jax.tree_util.tree_map_with_path(random, shapes)


RESNET = ('ResNet-18', dict(stages=(1, 1), width=8))
VIT = ('Ti/8', dict(width=32, depth=1, heads=2, mlp=32))


def run(teaching, *, mesh=ONE, accumulate=1, name='DeiT-S/8-distilled', seed=3, steps=2):
  """(metrics, parameters) of each step of a small student beside this teacher."""
  model, variables = teacher_of(teaching[0], seed, **teaching[1])
  student = models.build(name, 5, **STUDENT)
  named = config.Model.from_keys({'name': 'Ti/16'})
  distilled = Distill('soft', 0.5, 2.0, named, 'x')
  task = Distillation(
    5,
    Loss(distill=distilled),
    Augment(),
    HALF,
    HALF,
    model,
    (0.4,) * 3,
    (0.3,) * 3,
  )
  device_mesh = meshes.make_mesh(mesh, jax.devices()[:1] if mesh == ONE else None)
  tx = make_optimizer(SGD, make_schedule(SGD, 10, 16, 100))
  init = lambda: init_state(student, tx, (16, 16, 3), 0)  # noqa: E731
  shapes = jax.eval_shape(init)
  state = jax.jit(init, out_shardings=rules.shardings(shapes, device_mesh))()
  frozen = jax.device_put((variables,), rules.shardings((variables,), device_mesh))
  step = make_train_step(
    student, task, tx, mesh=device_mesh, state=shapes, accumulate=accumulate, frozen=frozen
  )
  rng, rows, params = np.random.default_rng(0), [], []
  for _ in range(steps):
    batch = {
      'image': rng.integers(0, 256, (16, 16, 16, 3), np.uint8),
      'label': rng.integers(0, 5, 16, np.int32),
      'mask': np.ones(16, bool),
    }
    state, metrics = step(state, meshes.put_batch(batch, device_mesh), *frozen)
    rows.append({key: float(value) for key, value in metrics.items()})
    params.append(jax.device_get(state.params))
  return rows, params


@pytest.fixture(scope='module')
def taught():
  return run(RESNET)


def test_the_teacher_moves_the_distillation_head(taught):
  rows, params = run(RESNET, seed=4)
  assert rows[0]['loss'] != pytest.approx(taught[0][0]['loss'], rel=1e-3)
  for head, differs in (('head', False), ('head_dist', True)):  # both were zero before this step
    for leaf in ('kernel', 'bias'):
      distance = np.abs(params[0][head][leaf] - taught[1][0][head][leaf]).max()
      assert (distance > 1e-4) == differs


@pytest.mark.parametrize('mesh, accumulate', [(ONE, 4), (Mesh(2, 2, 2), 1)], ids=str)
def test_sharding_and_accumulation_change_nothing(taught, mesh, accumulate):
  """Running statistics of the teacher judge every example alike, so this holds for BatchNorm."""
  rows, params = run(RESNET, mesh=mesh, accumulate=accumulate)
  for row, expected in zip(rows, taught[0], strict=True):
    assert row == pytest.approx(expected, rel=1e-4)
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), params, taught[1])


def test_the_first_loss_is_that_of_the_definition():
  """Zero heads say (1/5, ...); the teacher sees the images as its own mean and deviation say."""
  (row,), _ = run(VIT, steps=1, name='S/8')
  model, variables = teacher_of(VIT[0], 3, **VIT[1])
  rng = np.random.default_rng(0)
  images_BHWC = (rng.integers(0, 256, (16, 16, 16, 3), np.uint8) / 255 - 0.4) / 0.3
  logits_BK = np.asarray(
    model.apply(variables, images_BHWC.astype(np.float32), train=False).logits_BK, np.float64
  )
  p_BK = np.exp(logits_BK / 2) / np.exp(logits_BK / 2).sum(1, keepdims=True)
  soft = 4 * np.sum(p_BK * np.log(p_BK * 5))
  assert soft > 0.1
  assert row['loss'] == pytest.approx(0.5 * 16 * math.log(5) + 0.5 * soft, rel=1e-4)


def test_the_teacher_is_an_argument_of_the_step_and_lies_as_parameters_do():
  x = config.resolve(
    {
      'epochs': 1,
      'data': {'num_classes': 5, 'image_size': (32, 32)},
      'model': {'name': 'DeiT-S/8-distilled', **STUDENT},
      'loss': {
        'distill': {'kind': 'hard', 'teacher_weights': 'x.npz', 'teacher': {'name': 'S/16'}}
      },
    }
  )
  task = teacher.make_task(x, 5)
  assert isinstance(task, Distillation) and task.teacher_mean == (0.5,) * 3
  mesh = meshes.make_mesh(Mesh(1, 4, 2))
  (abstract,) = teacher.abstract_frozen(task, (32, 32, 3), mesh)
  up = abstract['params']['encoder']['blocks']['mlp']['up']['kernel']
  assert up.sharding.spec == jax.sharding.PartitionSpec(None, 'fsdp', 'tensor')
  step = make_train_step(
    models.build(x.model.name, 5, x.model.options),
    task,
    tx := make_optimizer(SGD, lambda step: 0.1),
    mesh=mesh,
    frozen=(abstract,),
    state=(
      state := jax.eval_shape(
        lambda: init_state(models.build(x.model.name, 5, x.model.options), tx, (32, 32, 3), 0)
      )
    ),
  )
  batch = {
    'image': jax.ShapeDtypeStruct((8, 32, 32, 3), 'uint8'),
    'label': jax.ShapeDtypeStruct((8,), 'int32'),
    'mask': jax.ShapeDtypeStruct((8,), 'bool'),
  }
  text = step.lower(state, batch, abstract).as_text()
  signature = text[: text.index('{\n', text.index('func.func public @main'))]
  leaves = len(jax.tree.leaves((state, batch, abstract)))
  assert signature.count('%arg') >= leaves - 2  # keys and counters that nothing reads may go


def test_a_teacher_of_published_weights_sees_what_they_expect():
  loss = {
    'distill': {
      'kind': 'soft',
      'teacher_weights': 'x.safetensors',
      'teacher': {'name': 'ResNet-50'},
    }
  }
  task = teacher.make_task(config.resolve({'epochs': 1, 'loss': loss}), 10)
  assert isinstance(task, Distillation) and task.teacher_mean == (0.485, 0.456, 0.406)
  assert not isinstance(teacher.make_task(config.resolve({'epochs': 1}), 10), Distillation)


@pytest.mark.parametrize(
  'keys, sentence',
  [
    (dict(kind='hard'), 'distill.teacher.name is missing'),
    (dict(kind='hard', teacher=dict(name='S/16')), 'distill.teacher_weights is missing.* a S/16'),
    (dict(kind='loud'), "distill.kind is 'loud'; it must be one of: none, hard, soft"),
    (dict(alpha=1.5), 'distill.alpha is 1.5; it must be between 0 and 1'),
    (dict(tau=0.0), 'distill.tau is 0.0; it must be at least 0.01'),
    (dict(teacher='B/16'), 'distill.teacher must be a group of keys'),
    (dict(taecher='B/16'), "did you mean 'teacher'"),
  ],
)
def test_a_mistake_is_one_sentence(keys, sentence):
  with pytest.raises(UserError, match=sentence):
    config.resolve({'epochs': 1, 'loss': {'distill': keys}})


@pytest.mark.slow
def test_a_run_teaches_another(tiny_recipe, tmp_path, capsys):
  """The teacher is a run folder of a model with BatchNorm; the student can be judged alone."""
  resnet, student = tmp_path / 'resnet', tmp_path / 'student'
  recipe = tmp_path / 'resnet.py'
  recipe.write_text(
    tiny_recipe.read_text()
    .replace(
      tiny_recipe.read_text().split('model=dict(')[1].split('),\n      data')[0],
      "name='ResNet-18', stages=(1, 1), width=8",
    )
    .replace('data=dict(', 'data=dict(mean=(0.4, 0.4, 0.4), ')
  )
  assert (
    commands.main(['train', f'--config={recipe}', f'--workdir={resnet}', '--config.steps=3']) == 0
  )
  capsys.readouterr()
  argv = [
    'train',
    f'--config={tiny_recipe}',
    f'--workdir={student}',
    '--config.steps=2',
    '--config.model.name=DeiT-Ti/8-distilled',
    '--config.loss.distill.kind=hard',
    '--config.loss.distill.teacher.name=ResNet-18',
    '--config.loss.distill.teacher.stages=(1,1)',
    '--config.loss.distill.teacher.width=8',
    f'--config.loss.distill.teacher_weights={resnet}',
  ]
  assert commands.main(argv) == 0
  assert 'teacher: ' in (printed := capsys.readouterr().out) and '0 fresh' in printed
  x = Run(student).experiment
  assert x.loss.distill.teacher.changes() == {'name': 'ResNet-18', 'stages': [1, 1], 'width': 8}
  task = teacher.make_task(x, 3)
  assert isinstance(task, Distillation) and task.teacher_mean == (0.4, 0.4, 0.4)
  assert json.loads((student / 'summary.json').read_text())['steps'] == 2
  assert commands.main(['evaluate', f'--workdir={student}']) == 0


def test_a_teacher_of_other_classes_is_refused(
  finished_run, tiny_recipe, write_images, tmp_path, capsys
):
  for split in ('train', 'test'):
    write_images(tmp_path / 'two' / split, {'a': 9, 'b': 9})
  argv = [
    'train',
    f'--config={tiny_recipe}',
    f'--config.data.dir={tmp_path / "two"}',
    f'--workdir={tmp_path / "student"}',
    '--config.loss.distill.kind=hard',
    '--config.loss.distill.teacher.name=Ti/8',
    *(f'--config.loss.distill.teacher.{key}={value}' for key, value in STUDENT.items()),
    f'--config.loss.distill.teacher_weights={finished_run}',
  ]
  assert commands.main(argv) == 2
  assert 'has no head for the 2 classes of this data' in capsys.readouterr().err
