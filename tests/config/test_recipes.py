"""Recipes by path and by name, and the keys that a caller or a command line changes."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vit_jax import commands, config, fields, models
from vit_jax.config import recipes
from vit_jax.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe(tmp_path) -> Path:
  path = tmp_path / 'r.py'
  path.write_text(
    'from ml_collections import ConfigDict\n'
    'def get_config():\n'
    '  return ConfigDict(dict(epochs=1.0, optim=dict(lr=1, b2=0.9), evals=dict(a=dict()),\n'
    "      model=dict(name='R26+S/32', stages=(2, 2))))\n"
  )
  return path


def test_python_callers_pass_values(recipe):
  x = config.recipe(recipe, {'optim.lr': 1e-3, 'optim': {'warmup.steps': 5}}, seed=3)
  assert (x.optim.lr, x.optim.b2, x.optim.warmup.steps, x.seed) == (1e-3, 0.9, 5, 3)
  y = config.update(x, {'model.stages': [3], 'evals': {'b': {'kind': 'knn'}}, 'data.dir': '2024'})
  assert y.model.options.stages == (3,) and y.model.options.width == 384
  assert list(y.evals) == ['b'] and list(x.evals) == ['a']  # names of the user's own are replaced
  assert y.data.dir == '2024' and y.optim == x.optim
  assert config.update(x, {'model.name': 'R50+L/32'}).model.options.width == 1024
  assert config.update(x, {'log.every.epochs': 1}).log.every == config.Duration(epochs=1)
  assert config.recipe(recipe, model={'dropout': 0.1}).model.options.stages == (2, 2)


def test_a_group_keeps_what_is_not_named_and_a_length_is_replaced(recipe):
  groups = {
    'data': {'image_size': (64, 64)},
    'augment': {'mixup': 0.2},
    'optim': {'warmup': {'steps': 5}},
    'loss': {'distill': {'kind': 'hard', 'teacher_weights': 'run', 'teacher': {'name': 'S/16'}}},
  }
  first = config.recipe(recipe, {'data.channels': 1, 'data.mean': (0.5,), 'data.std': (0.5,)})
  x = config.update(first, {**groups, 'augment.cutmix': 1.0})
  y = config.update(x, {'augment': {'cutmix': 0.5}, 'optim': {'warmup': {'epochs': 0.5}}})
  assert (y.data.channels, y.data.image_size) == (1, (64, 64))
  assert (y.augment.mixup, y.augment.cutmix) == (0.2, 0.5)
  assert y.optim.warmup == config.Duration(epochs=0.5) and y.loss.distill == x.loss.distill
  merged = fields.merged({'data': {'flip': False}}, {'data': {'kind': 'pairs'}}, config.Experiment)
  assert merged == {'data': {'kind': 'pairs'}}  # which has no flip


def test_flags_are_read_by_the_type_of_their_key(recipe):
  flags = {
    'name': '1e3',
    'data.dir': '2024',
    'data.train': "train[:'5'%]",
    'data.flip': 'false',
    'data.image_size': '(32, 48)',
    'data.channels': '3',
    'optim.lr': '3',
    'optim.warmup.steps': '5',
    'model.stages': '[2,1]',
    'model.unroll': 'true',
    'model.dtype': 'bfloat16',
    'evals.b.kind': 'knn',
    'evals.b.every': "{'steps': 4}",
    'loss.distill.teacher': "{'name': 'ResNet-50'}",
    'init_from': 'None',
  }
  x = config.recipe(recipe, config.from_flags([f'--config.{k}={v}' for k, v in flags.items()]))
  assert (x.name, x.data.dir, x.data.train) == ('1e3', '2024', "train[:'5'%]")
  assert (x.data.flip, x.data.image_size, x.data.channels) == (False, (32, 48), 3)
  assert (x.optim.lr, x.optim.warmup.steps) == (3.0, 5)
  assert (x.model.options.stages, x.model.options.unroll) == ((2, 1), True)
  assert x.model.options.dtype == 'bfloat16' and x.init_from == 'None'
  assert set(x.evals) == {'a', 'b'} and x.evals['b'].every.steps == 4
  assert x.loss.distill.teacher.options.stages == (3, 4, 6, 3)


@pytest.mark.parametrize(
  'flag, words',
  [
    ('--config.optim.lr=fast', ['config.optim.lr', "'fast'"]),
    ('--config.data.flip=yes', ['config.data.flip', "'yes'"]),
    ('--config.data.image_size=32x32', ['config.data.image_size', "'32x32'"]),
    ('--config.batch_size=64.0', ['config.batch_size', '64.0']),
    ('--config.model.stages=two', ['config.model.stages', "'two'"]),
    ('--config.model.widht=2', ['config.model.widht', "'width'"]),
    ('--config.model.unroll=1', ['config.model.unroll']),
    ('--config.optim=5', ['config.optim', '5']),
    ('--config.seed.x=1', ['config.seed', 'a whole number']),
    ('--confg.seed=1', ["'--confg.seed=1'", '--config.KEY=VALUE']),
    ('--config.seed', ["'--config.seed'", '--config.KEY=VALUE']),
  ],
)
def test_a_flag_that_does_not_fit_is_one_sentence(recipe, flag, words):
  with pytest.raises(UserError) as error:
    config.recipe(recipe, config.from_flags([flag]))
  assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
  'key, value',
  [
    ('data.dir', '2024'),
    ('data.dir', 'True'),
    ('data.name', "it's"),
    ('optim.lr', 1e-05),
    ('data.flip', False),
    ('data.image_size', (32, 48)),
    ('model.conv_stem', ()),
    ('model.unroll', True),
    ('model.unroll', 'auto'),
    ('evals', {'a': {'split': 'train[:5%]'}}),
  ],
)
def test_a_flag_says_the_value_it_was_made_of(key, value):
  assert config.from_flags([config.as_flag(key, value)]) == {key: value}


def test_our_recipes_have_names(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  x = config.recipe('deit:B/16')
  assert x == config.recipe(ROOT / 'configs' / 'deit.py:B/16')
  (tmp_path / 'deit').mkdir()  # a folder is no recipe
  assert config.recipe('deit:B/16') == x
  (tmp_path / 'deit.py').write_text((ROOT / 'configs' / 'earth_climate.py').read_text())
  assert config.recipe('deit.py').name == 'earth_climate'


@pytest.mark.parametrize(
  'spec, nearest',
  [
    ('deti:B/16', "'deit'"),
    ('configs/earth_climat.py', "'earth_climate.py'"),
    ('nowhere/deit.py', "'deit'"),
    ('../configs/deit', "'deit'"),
    ('', 'known: '),
  ],
)
def test_a_recipe_that_is_not_there(spec, nearest, monkeypatch):
  monkeypatch.chdir(ROOT)
  with pytest.raises(UserError, match=nearest):
    config.recipe(spec)


def test_our_recipes_are_in_the_wheel():
  wheel = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['hatch']['build']['targets']
  (place,) = wheel['wheel']['force-include'].items()
  assert place == (recipes.SHIPPED.name, 'vit_jax/configs')


def test_recipes_are_listed_with_their_first_lines(capsys):
  assert commands.main(['recipes']) == 0
  lines = capsys.readouterr().out.splitlines()[1:]
  assert [line.split()[0] for line in lines] == sorted(p.stem for p in recipes.SHIPPED.glob('*.py'))
  assert any('DeiT on ImageNet-1k from scratch' in line for line in lines)


def test_models_are_listed_with_their_families(capsys):
  assert commands.main(['models']) == 0
  listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
  assert listed == models.all_names()
  assert listed['DeiT3-B/16'] == 'DeiT III' and listed['BiT-R50x1'] == 'BiT'


@pytest.mark.parametrize(
  'argv', [['models'], ['recipes'], ['launch', '--config=deit:B/16', '--print']], ids=' '.join
)
def test_what_needs_names_only_starts_without_jax(argv):
  code = (
    'import sys\nfrom vit_jax import commands\n'
    f'assert commands.main({argv}) == 0\n'
    "assert not {'jax', 'flax', 'numpy'} & {*sys.modules}"
  )
  subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT, capture_output=True)
