"""The schema: defaults, checks, golden resolved recipes."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from vit_jax import cli, config, recipes, run_folder
from vit_jax.errors import UserError
from vit_jax.parallel import mesh as meshes
from vit_jax.training import setup

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / 'golden' / 'configs'
RECIPES = {
  'earth_climate': [],
  'fashion_mnist': [],
  'folder': ['--config.data.dir=images'],
  'vit_i1k:B/16': [],
  'vit_i21k:L/16': [],
  'finetune:cifar10': ['--config.init_from=run'],
  'deit:S/16': [],
  'deit:S/16-distilled': ['--config.loss.distill.teacher_weights=resnet152.safetensors'],
  'deit3:B/16': [],
  'deit3:H/14': [],
  'cait:XXS24': [],
  'dinov2:B/14-reg4': ['--config.init_from=dinov2.safetensors'],
  'resnet:50': [],
  'bit:R50x1': [],
  'hybrid:R26+S/32': [],
  'convnets:AlexNet': [],
  'convnets:LeNet-5': [],
  'scaling': [],
  'before_after:AlexNet': [],
  'before_after:ResNet': [],
  'before_after:DeiT': ['--config.loss.distill.teacher_weights=run'],
  'before_after:CaiT': [],
}


def resolved(spec: str) -> config.Experiment:
  name, _, arg = spec.partition(':')
  path = f'{ROOT}/configs/{name}.py' + (f':{arg}' if arg else '')
  return config.resolve(recipes.load_config(path, RECIPES[spec]))


def test_every_recipe_is_listed_here():
  assert {path.stem for path in (ROOT / 'configs').glob('*.py')} == {
    spec.split(':')[0] for spec in RECIPES
  }


@pytest.mark.parametrize('spec', RECIPES)
def test_golden_resolved_config(spec):
  golden = GOLDEN / f'{spec.replace(":", "_").replace("/", "_")}.json'
  text = resolved(spec).to_json()
  if os.environ.get('UPDATE_GOLDEN'):
    golden.parent.mkdir(parents=True, exist_ok=True)
    golden.write_text(text)
  assert text == golden.read_text(), (
    f'{spec} resolves to something else than {golden.name}; if that is what you want, run '
    'UPDATE_GOLDEN=1 pytest tests/test_config.py and commit the difference'
  )


@pytest.mark.parametrize('spec', RECIPES)
def test_every_recipe_builds_abstractly(spec):
  x = resolved(spec)
  num_classes = x.data.num_classes or 7
  mesh = meshes.make_mesh(x.mesh, jax.devices()[:1])
  built = setup.assemble(x, Path('nowhere'), mesh, None, 1_281_167, num_classes)
  if hasattr(built.model, 'unroll'):  # as straight code, layers take seconds to trace
    options = {**x.model.options, 'unroll': False}
    x = dataclasses.replace(x, model=dataclasses.replace(x.model, options=options))
    built = setup.assemble(x, Path('nowhere'), mesh, None, 1_281_167, num_classes)
  state, metrics = jax.eval_shape(
    built.train_step(), built.abstract_state, built.abstract_batch, *built.abstract_frozen
  )
  same = jax.tree.map(
    lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, built.abstract_state
  )
  assert all(jax.tree.leaves(same))
  assert built.steps > 0 and set(metrics) == {'loss', 'top1', 'examples', 'grad_norm'}
  assert state.params['head']['kernel'].shape[-1] == num_classes


def test_a_run_folder_resolves_to_the_same_experiment(tmp_path):
  x = resolved('earth_climate')
  (tmp_path / 'config.json').write_text(x.to_json())
  assert run_folder.from_run(tmp_path).to_json() == x.to_json()
  assert run_folder.differences(x, run_folder.from_run(tmp_path)) == []


def test_differences_name_what_decides_the_result_only():
  x = config.resolve({'epochs': 1, 'optim': {'lr': 0.1}})
  y = config.resolve({'epochs': 1, 'optim': {'lr': 0.2}, 'log': {'every': {'steps': 7}}})
  assert run_folder.differences(x, y) == ['config.optim.lr was 0.1 and is now 0.2']


@pytest.mark.parametrize(
  'values, sentence',
  [
    ({'epoch': 3}, "config.epoch is not a key; did you mean 'epochs'?"),
    ({'epochs': 3, 'optim': {'leaning_rate': 1}}, 'config.optim.leaning_rate is not a key'),
    ({'epochs': 3, 'optim': {'lr': 'fast'}}, "config.optim.lr is 'fast'; it must be a number"),
    ({'epochs': 3, 'optim': {'lr': -1.0}}, 'config.optim.lr is -1.0; it must be at least 0'),
    ({'epochs': 3, 'optim': {'lr': float('nan')}}, 'it must be at least 0'),
    ({'epochs': 3, 'batch_size': True}, 'config.batch_size is True; it must be a whole number'),
    ({'epochs': 3, 'batch_size': 64.0}, 'config.batch_size is 64.0; it must be a whole number'),
    ({'epochs': 3, 'data': {'crop': 'centre'}}, 'must be one of: none, random_resized, pad'),
    ({'epochs': 3, 'data': {'image_size': 224}}, 'config.data.image_size is 224; it must be 2'),
    ({'epochs': 3, 'data': {'evals': {}}}, 'config.data.evals is empty'),
    ({'epochs': 3, 'data': {'evals': {'seed': 'test'}}}, "cannot be called 'seed'"),
    ({'epochs': 3, 'evals': {'digits': {}}}, 'config.evals.digits.data is missing'),
    ({'epochs': 3, 'evals': {'test': {'data': 'digits'}}}, "both have 'test'"),
    (
      {'epochs': 3, 'evals': {'digits': {'data': 'digits', 'methods': 'knn'}}},
      'a list of some of: few-shot, knn, linear',
    ),
    (
      {'epochs': 3, 'evals': {'digits': {'data': 'digits', 'methods': ['nearest']}}},
      "'nearest'; it must be one of: few-shot, knn, linear",
    ),
    ({'epochs': 3, 'data': {'crop_area': (0.5, 0.1)}}, 'the first must be the smaller'),
    ({'epochs': 3, 'data': {'channels': 1}}, 'config.data.mean has 3 numbers'),
    ({'epochs': 3, 'data': {'name': 'folder'}}, 'config.data.dir is missing'),
    ({'epochs': 3, 'batch_size': 10, 'optim': {'accumulate': 3}}, 'not divisible by'),
    ({'epochs': 3, 'checkpoint': {'best': 'val/top1'}}, 'none of the evals measures'),
    ({'epochs': 3, 'checkpoint': {'best': 'test/acc'}}, 'it must be one of: test/top1, test/top5'),
    ({'epochs': 3, 'steps': 4}, 'a length is given once, but steps and epochs are both set'),
    ({'epochs': 3, 'model': 'B/16'}, 'config.model must be a group of keys'),
    ({}, 'the length of the run is missing'),
  ],
)
def test_a_mistake_is_one_sentence(values, sentence):
  with pytest.raises(UserError) as error:
    config.resolve(values)
  assert sentence in str(error.value)
  assert '\n' not in str(error.value)


def test_folder_shorthand():
  x = config.resolve({'epochs': 1, 'data': {'name': 'folder:some/where'}})
  assert (x.data.name, x.data.dir) == ('folder', 'some/where')


def test_durations():
  assert config.Duration(steps=7).to_steps(64, 1003) == 7
  assert config.Duration(epochs=1).to_steps(64, 1003) == 16  # the last step is partly epoch 2
  assert config.Duration(epochs=3).to_steps(64, 1024) == 48
  assert config.Duration(examples=129).to_steps(64, 1003) == 3
  assert config.Duration().to_steps(64, 1003) == 0


def test_overrides_set_keys_that_the_recipe_leaves_out(tmp_path):
  recipe = tmp_path / 'r.py'
  recipe.write_text(
    'from ml_collections import ConfigDict\n'
    'def get_config():\n  return ConfigDict(dict(epochs=1.0, optim=dict(lr=1)))\n'
  )
  loaded = recipes.load_config(
    str(recipe),
    [
      '--config.optim.lr=1e-3',
      '--config.optim.warmup.steps=5',
      '--config.data.flip=false',
      '--config.data.image_size=(32, 48)',
      '--config.name=some name',
    ],
  )
  assert isinstance(loaded, ConfigDict)
  x = config.resolve(loaded)
  assert (x.optim.lr, x.optim.warmup.steps, x.data.flip) == (1e-3, 5, False)
  assert x.data.image_size == (32, 48) and x.name == 'some name'


@pytest.mark.parametrize(
  'argv, sentence',
  [
    (['trian'], "did you mean 'train'"),
    (['train', '--config=configs/earth_climat.py'], "did you mean 'earth_climate.py'?"),
    (['train', '--config=configs/earth_climate.py:B/16'], 'takes no argument'),
    (['train', '--config=configs/before_after.py:VGG'], 'VGG is none of bag of words'),
    (['train', '--config=configs/finetune.py'], 'config.init_from is missing'),
    (['train', '--config=configs/earth_climate.py', '--confg.seed=1'], 'is not a flag'),
    (['train', '--config=configs/earth_climate.py', '--config.optim.lrr=1'], "did you mean 'lr'"),
    (['train', '--config=configs/earth_climate.py', '--config.seed.x=1'], 'a whole number'),
    (['train'], 'the following arguments are required: --config'),
    (['evaluate', '--workdir=nowhere'], 'nowhere is not a run folder'),
  ],
)
def test_the_command_line_answers_a_mistake_in_one_line_and_exits_with_2(
  argv, sentence, capsys, monkeypatch
):
  monkeypatch.chdir(ROOT)
  assert cli.main(argv) == 2
  error = capsys.readouterr().err
  assert sentence in error and error.count('\n') == 1 and 'Traceback' not in error


def test_config_json_is_canonical():
  x = config.resolve({'steps': 3})
  assert list(json.loads(x.to_json())) == sorted(json.loads(x.to_json()))
