"""A recipe of two phases: as one command, killed in the second, and refused before the first."""

import json
import signal

import jax
import numpy as np
import pytest

from tests.fleet import Life, result, run_to_end
from vit_jax import config, weights
from vit_jax.errors import UserError
from vit_jax.run import Run
from vit_jax.train import phases
from vit_jax.transfer.compare import run_once

SECOND = """
_first = get_config


def get_config():
  c = _first()
  c.then = ConfigDict(dict(
      name='larger', steps=12, batch_size=8, init_from={init!r},
      model=dict(stochastic_depth=0.0, head_bias=-1.0),
      data=dict(dir={folder!r}, image_size=(24, 24), eval_crop=1.0),
      augment=dict(mixup=0.0), optim=dict(lr=1e-3, ema=0.0, warmup=dict(steps=3)),
      evals=dict(test=dict(split='test', every=dict(steps=4)))))
  return c
"""


@pytest.fixture(scope='module')
def recipe(tiny_recipe, write_images, tmp_path_factory):
  """Of the three classes, then two others at a higher resolution."""
  folder = tmp_path_factory.mktemp('phases')
  write_images(folder / 'images' / 'train', {'black': 20, 'white': 20})
  write_images(folder / 'images' / 'test', {'black': 5, 'white': 5}, seed=1)
  path = folder / 'two.py'
  second = SECOND.format(folder=str(folder / 'images'), init='best')
  path.write_text(tiny_recipe.read_text() + second)
  return path


def command(recipe, workdir):
  return ['train', f'--config={recipe}', f'--workdir={workdir}']


@pytest.fixture(scope='module')
def undisturbed(recipe, nursery, tmp_path_factory):
  folder = tmp_path_factory.mktemp('undisturbed')
  return folder / 'run', run_to_end(nursery, folder / 'lives', command(recipe, folder / 'run'))


def test_two_phases_are_two_runs(undisturbed, recipe):
  path, log = undisturbed
  assert 'phase 1 of 2' in log and 'phase 2 of 2' in log
  first, second = Run(path), Run(path / 'larger')
  assert first.summary['steps'] == second.summary['steps'] == 12
  assert first.class_names == ('dark', 'gray', 'light') and second.class_names == ('black', 'white')
  assert second.experiment.init_from == f'{path}@best' and second.experiment.then is None
  opened = [weights.open(path), weights.open(path / 'larger')]
  tables = [opened.variables['params']['pos_embedding'].shape for opened in opened]
  assert tables == [(1, 1 + 4, 32), (1, 1 + 9, 32)]
  assert opened[1].variables['params']['head']['kernel'].shape == (32, 2)
  x = config.recipe(recipe)
  assert phases.folders(x, path) == [path, path / 'larger']
  assert 'ema' in result(path)[0] and 'ema' not in result(path / 'larger')[0]


def test_killed_in_the_second_it_goes_on_bit_by_bit(recipe, nursery, tmp_path, undisturbed):
  expected, run, lives = undisturbed[0], tmp_path / 'run', tmp_path / 'lives'
  rows = run / 'larger' / 'metrics.jsonl'
  life = Life(nursery, lives, command(recipe, run))
  assert life.until(lambda: rows.exists() and rows.read_text().count('\n') >= 3), life.logs()
  life.signal(signal.SIGKILL, 0)
  assert life.codes() == [-signal.SIGKILL]
  assert Run(run).summary and not Run(run / 'larger').summary
  log = run_to_end(nursery, lives, command(recipe, run))
  assert 'phase 1 of 2' not in log and 'start: checkpoint of step' in log
  for folder in ('.', 'larger'):
    ours, theirs = result(run / folder), result(expected / folder)
    for leaf, other in zip(jax.tree.leaves(ours[0]), jax.tree.leaves(theirs[0]), strict=True):
      np.testing.assert_array_equal(leaf, other)
    assert ours[1] == theirs[1] and ours[2]['test'] == theirs[2]['test']


def test_a_run_that_has_moved_goes_on(undisturbed, recipe, nursery, tmp_path):
  undisturbed[0].rename(tmp_path / 'moved')
  try:
    log = run_to_end(nursery, tmp_path / 'lives', command(recipe, tmp_path / 'moved'))
    assert 'start: checkpoint of step 12' in log
  finally:
    (tmp_path / 'moved').rename(undisturbed[0])


def keys(**then):
  return dict(
    name='a',
    epochs=3,
    batch_size=64,
    model=dict(name='DeiT3-B/16', stochastic_depth=0.2),
    evals=dict(val=dict(split='train[99%:]')),
    optim=dict(lr=1.0, warmup=dict(epochs=5.0)),
    then=then,
  )


def test_a_phase_has_the_keys_of_the_one_before_but_those_it_changes():
  third = dict(name='c', epochs=1, augment=dict(mixup=0.1), optim=dict(lr=0.5))
  second = dict(
    name='b',
    steps=4,
    batch_size=32,
    model=dict(stochastic_depth=0.0),
    optim=dict(warmup=dict(steps=3)),
    then=third,
  )
  x = config.resolve(keys(**second))
  a, b, c = x.phases
  assert [phase.name for phase in x.phases] == ['a', 'b', 'c']
  assert (b.length, c.length) == (config.Duration(steps=4), config.Duration(epochs=1))
  assert [phase.optim.lr for phase in x.phases] == [1.0, 1.0, 0.5]
  assert [phase.eval_batch_size for phase in x.phases] == [64, 32, 32]
  assert [phase.model.options.stochastic_depth for phase in x.phases] == [0.2, 0.0, 0.0]
  assert b.optim.warmup == c.optim.warmup == config.Duration(steps=3)
  assert [phase.init_from for phase in x.phases] == ['', 'last', 'last']
  assert a.augment.mixup == 0.0 and c.augment.mixup == 0.1 and c.evals == a.evals
  assert config.resolve(json.loads(x.to_json())) == x
  assert config.resolve(x.changes()) == x
  changed = config.update(x, config.from_flags(['--config.seed=3', '--config.then.optim.lr=2']))
  assert [phase.seed for phase in changed.phases] == [3, 3, 3]
  assert [phase.optim.lr for phase in changed.phases] == [1.0, 2.0, 0.5]


@pytest.mark.parametrize(
  'then, words',
  [
    (dict(name='b', epochs=1, optim=dict(lrr=1)), ['config.then.optim.lrr', "'lr'"]),
    (dict(naem='b', epochs=1), ['config.then.name is missing']),
    (dict(name='b'), ['config.then.epochs']),
    (dict(name='a', epochs=1), ['config.then.name']),
    (dict(name='checkpoints', epochs=1), ['config.then.name']),
    (dict(name='../b', epochs=1), ['config.then.name']),
    (dict(name='b', epochs=1, init_from='run'), ['config.then.init_from', "'last'", "'best'"]),
    (dict(name='b', epochs=1, init_from='best'), ['config.then.init_from', 'checkpoint.best']),
    (dict(name='b', epochs=1, model=dict(name='B/16')), ['config.then.model.name']),
    (dict(name='b', epochs=1, then=dict(name='b', epochs=1)), ['config.then']),
    (
      dict(name='b', epochs=1, then=dict(name='c', epochs=1, seed='x')),
      ['config.then.then.seed', 'a whole number'],
    ),
    ('b', ['config.then']),
  ],
)
def test_a_mistake_in_a_later_phase_is_found_at_once(then, words):
  values = keys() | dict(then=then)
  with pytest.raises(UserError) as error:
    config.resolve(values)
  assert all(word in str(error.value) for word in words), error.value


def test_a_later_phase_that_does_not_fit_is_refused_before_the_first(recipe, nursery, tmp_path):
  argv = [*command(recipe, tmp_path / 'run'), '--config.then.data.image_size=(20, 20)']
  life = Life(nursery, tmp_path, argv)
  assert life.codes() == [2] and '16x16' in life.log(0)
  assert not (tmp_path / 'run' / 'metrics.jsonl').exists()


def test_two_processes_go_through_both(lenet_recipe, nursery, tmp_path):
  """Requests and the end of the first phase do not disturb the second."""
  path, run = tmp_path / 'two.py', tmp_path / 'run'
  then = (
    "\n_first = get_config\ndef get_config():\n  c = _first()\n  c.then = dict(name='b', steps=6)\n"
  )
  path.write_text(lenet_recipe.read_text() + then + '  return c\n')
  argv = [*command(path, run), '--config.steps=6']
  life = Life(nursery, tmp_path / 'lives', argv, count=2)
  assert life.codes() == [0, 0], life.logs()
  assert Run(run).summary['steps'] == Run(run / 'b').summary['steps'] == 6


def test_sigterm_in_the_first_phase_saves_it(recipe, nursery, tmp_path):
  run, lives = tmp_path / 'run', tmp_path / 'lives'
  argv = [*command(recipe, run), '--config.steps=60']
  life = Life(nursery, lives, argv)
  rows = run / 'metrics.jsonl'
  assert life.until(lambda: rows.exists() and rows.read_text().count('\n') >= 3), life.logs()
  life.signal(signal.SIGTERM, 0)
  assert life.codes() == [75], life.logs()
  assert 'stopped and saved at step' in life.log(0) and not (run / 'larger').exists()


def test_what_judges_one_run_refuses_a_recipe_with_phases(recipe, tmp_path):
  with pytest.raises(UserError, match='phases'):
    run_once(config.recipe(recipe), tmp_path / 'run', tmp_path, 'a system')
  assert not (tmp_path / 'run').exists()
