"""`vit_jax finetune`: a recipe by the size of the data, for every family, as an ordinary run."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.weights.made_up import TINY, random_variables
from tests.weights.made_up_folder import made_up
from tests.weights.made_up_run import write_run
from vit_jax import commands, config, layouts, models
from vit_jax.errors import UserError
from vit_jax.run import Run
from vit_jax.train.trainer import Trainer
from vit_jax.transfer import defaults

CLASSES = ('dark', 'gray', 'light')  # of the folder
FAMILIES = {
  'Ti/8': TINY,
  'DeiT-Ti/16-distilled': TINY,
  'DeiT3-S/16': TINY,
  'DINOv2-S/14': TINY,
  'DINOv2-S/14-reg4': TINY,
  'CaiT-XXS24': TINY,
  'R+Ti/16': TINY,
  'ResNet-18': dict(stages=(1, 1, 1, 1)),
}
OFTEN = ('DeiT-Ti/16-distilled', 'DINOv2-S/14', 'ResNet-18')


def found(count=3000, side=32, classes=CLASSES, splits=('test',)):
  data = config.ImageData(name='folder', dir='nowhere')
  return defaults.Found(data, count, classes, side, splits)


def weights_of(name, folder, side=0, num_classes=5):
  options = FAMILIES[name]
  side = side or models.inputs_of(name).size[0]
  inputs = models.inputs_of(name, (side, side))
  model = models.build(name, num_classes, inputs=inputs, **options)
  layouts.write(
    path := folder / 'a.safetensors', model, random_variables(model, side), notes={'model': name}
  )
  return str(path)


@pytest.mark.parametrize(
  'name', [pytest.param(name, marks=[pytest.mark.slow] * (name not in OFTEN)) for name in FAMILIES]
)
def test_every_family_begins_from_its_weights(name, tiny_folder, tmp_path):
  source = weights_of(name, tmp_path)
  what = defaults.look(str(tiny_folder), tmp_path)
  x, line = defaults.recipe(source, what, data_dir=tmp_path)
  trainer = Trainer(x, tmp_path)
  assert trainer.sizes.class_names == CLASSES
  state, said, _ = trainer.begin()
  assert ' 0 fresh' not in said and name in line
  fresh = [key for key in said.split(', ') if 'fresh' in key]
  heads = 4 if 'distilled' in name else 2
  assert fresh[0].startswith(f'{heads} fresh')
  inputs, data = models.inputs_of(name), x.images
  assert (data.mean, data.std, data.eval_crop) == (inputs.mean, inputs.std, inputs.crop)
  assert x.optim.layer_decay == (1.0 if name == 'ResNet-18' else 0.75)
  assert jax.tree.leaves(state.ema)


def test_the_class_token_of_dinov2_is_pooled_without_a_word(tmp_path):
  x, _ = defaults.recipe(weights_of('DINOv2-S/14', tmp_path, num_classes=0), found())
  assert x.model.options.pool == 'cls' and x.model.name == 'DINOv2-S/14'
  assert x.images.image_size == (98, 98)  # three times 32, in patches of 14


@pytest.mark.parametrize(
  'count, side, epochs, batch, pixels',
  [
    (3000, 32, 17, 64, 96),
    (100, 300, 50, 8, 224),
    (30_000, 80, 5, 128, 224),
    (1_000_000, 500, 5, 512, 224),
  ],
)
def test_by_the_size_of_the_data(count, side, epochs, batch, pixels, tmp_path):
  x, line = defaults.recipe(weights_of('Ti/8', tmp_path, 224), found(count, side))
  assert (x.epochs, x.batch_size, x.images.image_size) == (epochs, batch, (pixels, pixels))
  warmup, steps = x.optim.warmup.steps, count * epochs / batch
  assert abs(warmup - steps / 10) <= 1
  assert x.optim.lr == pytest.approx(5e-4 * (batch / 64) ** 0.5)
  assert f'{count:,} training images of 3 classes, median {side} px' in line
  assert f'seen at {pixels}x{pixels} (the weights: 224x224)' in line


def test_what_the_user_changes_is_followed(tmp_path):
  source, updates = weights_of('Ti/8', tmp_path, 224), {'epochs': 3, 'batch_size': 32}
  x, line = defaults.recipe(source, found(), updates=updates)
  assert (
    x.epochs == 3 and x.optim.warmup.steps == 28 and x.optim.lr == pytest.approx(5e-4 * 0.5**0.5)
  )
  assert '3 epochs = 282 steps of 32, 28 of warm-up' in line
  x, _ = defaults.recipe(source, found(), updates={'steps': 40, 'optim.warmup.epochs': 0.5})
  assert x.length == config.Duration(steps=40) and x.optim.warmup == config.Duration(epochs=0.5)
  x, _ = defaults.recipe(source, found(), updates={'optim.lr': 1e-5, 'model.pool': 'mean'})
  assert x.optim.lr == 1e-5 and x.model.options.pool == 'mean'
  with pytest.raises(UserError, match="did you mean 'epochs'"):
    defaults.recipe(source, found(), updates={'epoch': 3})
  for key in ('epochs', 'batch_size', 'steps'):
    with pytest.raises(UserError, match=f'config.{key} is .abc.'):
      defaults.recipe(source, found(), updates={key: 'abc'})


def test_validation_picks_where_there_is_a_test_too(tmp_path):
  x, line = defaults.recipe(weights_of('Ti/8', tmp_path), found(splits=('val', 'test')))
  assert x.checkpoint.best == 'val/top1' and {*x.evals} == {'val', 'test'}
  assert 'judged: val on val, test on test, best by val/top1' in line
  x, _ = defaults.recipe(weights_of('Ti/8', tmp_path), found(splits=('validation',)))
  assert x.evals['test'].split == 'validation' and not x.checkpoint.best


def test_the_command_trains_an_ordinary_run(tiny_folder, tmp_path, capsys):
  pretrained = write_run(tmp_path / 'pretrained', {2: (made_up(2), 0.9)}).path
  run = tmp_path / 'run'
  command = ['finetune', f'--weights={pretrained}', f'--data={tiny_folder}', f'--workdir={run}']
  command += ['--freeze=backbone', '--config.epochs=2', f'--data_dir={tmp_path}']
  assert commands.main(command) == 0
  said = capsys.readouterr().out
  assert 'fine-tuning the head of Ti/8; 75 training images of 3 classes' in said
  assert 'backbone frozen' in said and '--config.KEY=VALUE changes any of it' in said
  assert Run(run).summary['test'] and Run(run).class_names == CLASSES
  before, _ = Run(pretrained).variables()
  after, _ = Run(run).variables()
  old, new = before['params'], after['params']
  kernel = new['encoder']['blocks']['mlp']['up']['kernel']
  np.testing.assert_array_equal(kernel, old['encoder']['blocks']['mlp']['up']['kernel'])
  assert np.abs(new['head']['kernel'] - old['head']['kernel']).max() > 0
  assert commands.main(command) == 0  # it is done
  assert commands.main(['export', str(run), f'--to={tmp_path / "out"}', '--formats', 'hf']) == 0
  config_json = json.loads((tmp_path / 'out' / 'hf' / 'config.json').read_text())
  assert [*config_json['id2label'].values()] == [*CLASSES]


def test_a_dry_run_prints_a_recipe_that_resolves(tiny_folder, tmp_path, capsys):
  source = weights_of('Ti/8', tmp_path, 32)
  command = ['finetune', f'--weights={source}', f'--data={tiny_folder}', '--dry_run']
  assert commands.main(command) == 0
  line, _, text = capsys.readouterr().out.partition('\n')
  x = config.resolve(json.loads(text))
  assert x.init_from == source and line.startswith('fine-tuning all of Ti/8')
  assert commands.main([*command, '--data=/nowhere']) == 2
  assert replace(x, seed=1).images.channels == 3
