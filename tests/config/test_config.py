"""The schema: defaults, checks, and recipes that resolve to what they should."""

import dataclasses
import json
import os
import re
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from all_recipes import RECIPES, resolved

from tests.config.papers import RECORDS, variants
from vit_jax import commands, config, models
from vit_jax.data import splits
from vit_jax.errors import UserError

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / 'tests' / 'golden' / 'configs'


def test_every_recipe_is_listed_here():
  assert {path.stem for path in (ROOT / 'configs').glob('*.py')} == {
    spec.split(':')[0] for spec in RECIPES
  }


@pytest.mark.parametrize('spec', RECIPES)
def test_golden_resolved_config(spec):
  """What differs from the defaults."""
  golden = GOLDEN / f'{re.sub("[:/, ]", "_", spec)}.json'
  text = json.dumps(resolved(spec).changes(), indent=2, sort_keys=True) + '\n'
  if os.environ.get('UPDATE_GOLDEN'):
    golden.parent.mkdir(parents=True, exist_ok=True)
    golden.write_text(text)
  assert text == golden.read_text(), (
    f'{spec} resolves to something else than {golden.name}; if that is what you want, run '
    'UPDATE_GOLDEN=1 pytest tests/config/test_config.py and commit the difference'
  )


@pytest.mark.parametrize('spec', RECIPES)
def test_the_best_checkpoint_is_chosen_by_training_images_that_are_held_out(spec):
  """Or none is: where all of them are learned from."""
  for x in resolved(spec).phases:
    name = x.checkpoint.best.partition('/')[0]
    if name:
      line = x.evals[name]
      assert line.data in ('', x.data.name), x.name
      kept, held = (_indices(x.data.name, split) for split in (x.data.train, line.split))
      assert kept and held and not kept & held, x.name


def _indices(name: str, split: str) -> set[tuple[str, int]]:
  """Examples of a split, of 100,000 in each part; raises for a part that is not of training."""
  infos = {part: tfds.core.SplitInfo(part, [100_000], 0) for part in ('train', 'full')}
  pieces = splits.pieces(name, split, infos)
  return {(part, i) for part, start, stop in pieces for i in range(start, stop)}


@pytest.mark.parametrize('id', [id for id in RECORDS if variants(id)])
def test_a_recipe_of_a_paper_names_its_best_checkpoint(id):
  for variant in variants(id):
    x = variant.experiment
    assert x.checkpoint.best or x.data.name == 'vtab'  # 1,000 examples, all of them learned from


@pytest.mark.parametrize('spec', RECIPES)
def test_a_stored_experiment_resolves_to_itself(spec):
  x = resolved(spec)
  assert config.resolve(json.loads(x.to_json())) == x
  assert config.resolve(json.loads(x.to_json())).to_json() == x.to_json()
  assert config.resolve(x.changes()) == x
  assert len(json.dumps(x.changes())) < len(x.to_json())


def test_a_stored_experiment_has_every_option_of_its_model():
  x = resolved('vit_i1k:B/16')
  stored = json.loads(x.to_json())['model']
  assert stored.pop('name') == 'B/16'
  assert stored.keys() == {field.name for field in dataclasses.fields(x.model.options)}
  assert x.model.changes() == {
    'name': 'B/16',
    'representation': True,
    'dropout': 0.1,
    'dtype': 'bfloat16',
  }


@pytest.mark.parametrize(
  'values, words',
  [
    ({'epoch': 3}, ['config.epoch', "'epochs'"]),
    ({'optim': {'leaning_rate': 1}}, ['config.optim.leaning_rate']),
    ({'optim': {'lr': 'fast'}}, ['config.optim.lr', "'fast'", 'a number']),
    ({'optim': {'decay': 'coupled'}}, ['config.optim.decay', 'sgd']),
    ({'optim': {'nesterov': True}}, ['config.optim.nesterov', 'sgd']),
    ({'optim': {'groups': {'a': {}}}}, ['config.optim.groups.a.match is missing']),
    ({'optim': {'groups': {'a': {'match': '('}}}}, ['config.optim.groups.a.match', "'('"]),
    ({'loss': {'name': 'bce', 'label_smoothing': 0.1}}, ['config.loss.label_smoothing', 'bce']),
    ({'spikes': {'patience': 1}}, ['config.spikes.patience', 'at least 2']),
    ({'optim': {'lr': -1.0}}, ['config.optim.lr', '-1.0', 'at least 0']),
    ({'optim': {'lr': float('nan')}}, ['config.optim.lr', 'nan', 'at least 0']),
    ({'batch_size': True}, ['config.batch_size', 'True', 'a whole number']),
    ({'batch_size': 64.0}, ['config.batch_size', '64.0', 'a whole number']),
    ({'data': {'crop': 'center'}}, ['config.data.crop', 'none, random_resized, inception']),
    ({'data': {'channels': True}}, ['config.data.channels', 'True', 'whole number']),
    ({'data': {'image_size': 224}}, ['config.data.image_size', '224', '2 numbers']),
    ({'data': {'crop_area': (0.5, 0.1)}}, ['config.data.crop_area']),
    ({'data': {'channels': 1}}, ['config.data.mean', 'config.data.channels']),
    ({'data': {'crop': 'resized'}}, ['config.data.crop_resize', '(0, 0)', '(224, 224)']),
    (
      {'data': {'channels': 1, 'mean': (0.5,), 'std': (0.5,)}, 'augment': {'saturation': 0.3}},
      ['config.augment.saturation', 'config.data.channels'],
    ),
    (
      {'data': {'image_size': (12, 10)}, 'augment': {'dihedral': True}},
      ['config.augment.dihedral', '12 x 10'],
    ),
    ({'augment': {'rand_std': 0.5}}, ['config.augment.rand_std', 'timm_rand_augment']),
    (
      {'batch_size': 4, 'data': {'repeats': 3}, 'augment': {'cutmix': 1.0}},
      ['config.batch_size', 'config.data.repeats', '6'],
    ),
    ({'data': {'name': 'folder'}}, ['config.data.dir']),
    ({'batch_size': 10, 'optim': {'accumulate': 3}}, ['config.batch_size', 'accumulate']),
    ({'evals': {'seed': {}}}, ['config.evals.seed']),
    ({'evals': {'digits': {'kind': 'nearest'}}}, ['config.evals.digits.kind', 'few_shot, knn']),
    ({'checkpoint': {'best': 'val/top1'}}, ['config.checkpoint.best', "'val/top1'"]),
    ({'evals': {'test': {}}, 'checkpoint': {'best': 'test/acc'}}, ['test/top1 or test/top5']),
    ({'steps': 4}, ['config.steps and epochs']),
    ({'optim': {'warmup': {'steps': 4, 'epochs': 1}}}, ['config.optim.warmup.steps and epochs']),
    ({'epochs': 0}, ['config.steps, config.epochs or config.examples']),
    ({'model': 'B/16'}, ['config.model']),
    ({'model': {'name': 'b/16'}}, ['config.model.name', "'B/16'"]),
    ({'model': {'width': 64}}, ['config.model.name']),
    ({'model': {'name': 'B/16', 'widht': 128}}, ['config.model.widht', "'width'"]),
    ({'model': {'name': 'B/16', 'width': 12.5}}, ['config.model.width', '12.5', 'a whole number']),
    ({'model': {'name': 'B/16', 'depth': 0}}, ['config.model.depth', 'at least 1']),
    ({'model': {'name': 'B/16', 'heads': 7}}, ['config.model.heads', '7', 'width 768']),
    ({'model': {'name': 'B/16', 'patch': 8}}, ['config.model.patch', "'B/16'"]),
    ({'model': {'name': 'B/16', 'stages': (2,)}}, ['config.model.stages']),
    (
      {'model': {'name': 'ResNet-50', 'stages': (2, 0)}},
      ['config.model.stages[1]', '0', 'at least 1'],
    ),
    ({'loss': {'distill': {'kind': 'hard'}}}, ['config.loss.distill.teacher.name']),
    (
      {'loss': {'distill': {'kind': 'hard', 'teacher': {'name': 'B/16'}}}},
      ['config.loss.distill.teacher_weights'],
    ),
    (
      {'loss': {'distill': {'teacher': {'name': 'B/16', 'depht': 2}}}},
      ['config.loss.distill.teacher.depht', "'depth'"],
    ),
  ],
)
def test_a_mistake_is_one_sentence(values, words):
  with pytest.raises(UserError) as error:
    config.resolve({'epochs': 3, **values})
  assert all(word in str(error.value) for word in words), error.value
  assert '\n' not in str(error.value)


def test_no_two_models_differ_in_the_type_of_an_option():
  for family in {entry.options for entry in models.MODELS.values()}:
    hints = {field.name: field.type for field in dataclasses.fields(family)}
    assert hints.items() <= _annotations().items()


def _annotations() -> dict[str, str]:
  return {
    field.name: field.type
    for entry in models.MODELS.values()
    for field in dataclasses.fields(entry.options)
  }


def test_folder_shorthand():
  x = config.resolve({'epochs': 1, 'data': {'name': 'folder:some/where'}})
  assert (x.data.name, x.data.dir) == ('folder', 'some/where')


def test_durations():
  assert config.Duration(steps=7).to_steps(64, 1003) == 7
  assert config.Duration(epochs=1).to_steps(64, 1003) == 16  # the last step is partly epoch 2
  assert config.Duration(epochs=3).to_steps(64, 1024) == 48
  assert config.Duration(examples=129).to_steps(64, 1003) == 3
  assert config.Duration().to_steps(64, 1003) == 0


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
  assert commands.main(argv) == 2
  error = capsys.readouterr().err
  assert sentence in error and error.count('\n') == 1 and 'Traceback' not in error


def test_config_json_is_canonical():
  x = config.resolve({'steps': 3})
  assert list(json.loads(x.to_json())) == sorted(json.loads(x.to_json()))


def test_how_an_evaluation_sees_an_image_is_checked():
  base = dict(steps=1)
  for keys, words in (
    (dict(eval_antialias=False), "config.data.eval_antialias is False.*'bilinear'"),
    (dict(eval_crop=1.2), 'config.data.eval_crop is 1.2; it must be between 0.05 and 1'),
    (dict(eval_interpolation='area'), 'config.data.eval_interpolation .* bicubic, bilinear'),
    (dict(eval_resize=256), 'config.data.eval_resize is not a key'),
  ):
    with pytest.raises(UserError, match=words):
      config.resolve(base | {'data': keys})
  plain = dict(eval_antialias=False, eval_interpolation='bilinear')
  assert not config.resolve(base | {'data': plain}).images.eval_antialias
