"""`vit_jax train --dry_run` and `--diff`: what a recipe means, without starting it."""

import re

import numpy as np
import pytest

from vit_jax import commands, config, models
from vit_jax.models import flops
from vit_jax.plan.preview import WIDTH, diff, plot, preview

SIZE = dict(num_examples=75, num_classes=3)


def number(text, pattern):
  return float(re.search(pattern, text)[1].replace(',', ''))


def test_a_recipe_in_figures(tiny_recipe, tmp_path):
  updates = {
    'optim.groups': {
      'head': {'match': '^head/', 'lr': 5.0},
      'stem': {'match': '^embedding/', 'freeze': True},
    },
    'data.dir': 'nowhere',
    'optim.layer_decay': 0.5,
  }
  x = config.recipe(tiny_recipe, updates)
  text = preview(x, tmp_path, **SIZE)
  keys = dict(re.findall(r'^  (\S+) = (.*)$', text, re.M))
  assert keys['optim.lr'] == '0.003' and keys['model.width'] == '32' and 'seed' not in keys
  assert keys['optim.groups.head.match'] == '^head/'
  assert number(text, r'length: ([\d,]+) steps of 16 images, 2.56 epochs of 75') == 12
  rows = [
    line.split() for line in text.splitlines() if re.match(r'  (frozen|(not )?decayed) ', line)
  ]
  sizes = {row[0] for row in rows}
  assert sizes == {'frozen', 'decayed', 'not'}
  rates = {float(row[-2]) for row in rows if row[0] == 'decayed'}
  assert rates == {5.0, 0.5, 0.25}  # the head, and the two layers of one stack
  model = 6 * flops.forward_macs(_model(x), (16, 16, 3), train=True) * 16
  assert number(text, r'compute: ([\d.,]+) TFLOP') == pytest.approx(model / 1e12, abs=1e-3)
  assert list(tmp_path.iterdir()) == []


def _model(x):
  return models.build(x.model.name, 3, x.model.options)


def test_every_phase_shows_what_it_changes(tmp_path):
  text = preview(config.recipe('deit3:S/16,21k,384', {'model.depth': 2}), tmp_path)
  first, second, third = text.split('\n\n\n')
  assert 'phase 1 of 3' in first and 'data.num_classes = 21843' in first
  assert 'data.num_classes = 1000' in second and 'optim.name' not in second
  assert 'data.image_size = [384, 384]' in third and 'optim.name = adamw' in third
  assert number(first, r'([\d.,]+) exaFLOP') > number(third, r'([\d.,]+) exaFLOP') > 0


def test_the_plot_has_the_shape_of_the_schedule():
  lines = plot(np.linspace(0, 1, WIDTH).tolist(), 1000)
  columns = [line.find('*') for line in lines[:8]]
  assert columns == sorted(columns, reverse=True) and columns[-1] == 11
  assert '999' in lines[-1] and lines[0].lstrip().startswith('1 |')
  assert len(plot([0.0] * WIDTH, 1)) == len(lines)


def test_the_command_starts_nothing(tiny_recipe, finished_run, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  argv = ['train', f'--config={tiny_recipe}', '--dry_run', f'--data_dir={tmp_path}']
  assert commands.main(argv) == 0  # by the data itself, whose size is not known
  assert 'epochs of 75' in capsys.readouterr().out
  assert commands.main([*argv, '--num_examples=1000', '--num_classes=3']) == 0
  assert 'epochs of 1,000' in capsys.readouterr().out
  same = ['train', f'--config={tiny_recipe}', f'--diff={finished_run}']
  assert commands.main(same) == 0
  assert 'are the same recipe' in capsys.readouterr().out
  assert commands.main([*same, '--config.optim.lr=0.5', '--config.model.depth=3']) == 0
  out = capsys.readouterr().out.splitlines()
  assert [line.split() for line in out[1:]] == [
    ['model.depth', '3', '2'],
    ['optim.lr', '0.5', '0.003'],
  ]
  assert list(tmp_path.iterdir()) == []


def test_two_recipes_key_by_key():
  text = diff(config.recipe('cait:S24'), 'cait:S36')
  rows = dict(line.split(maxsplit=1) for line in text.splitlines()[1:])
  assert {*rows} == {
    'name', 'model.name', 'model.depth', 'model.layerscale', 'model.stochastic_depth',
  }  # fmt: skip


@pytest.mark.parametrize(
  'argv, word',
  [
    (['--diff=nowhere:1'], 'nowhere'),
    (['--dry_run', '--config.data.name=unheard_of'], '--num_examples'),
    (['--dry_run', '--config.optim.lrr=1'], 'lrr'),
    (['--num_examples=3'], '--dry_run'),
  ],
)
def test_mistakes_get_a_sentence(argv, word, capsys, tmp_path):
  assert commands.main(['train', '--config=cait:S24', f'--data_dir={tmp_path}', *argv]) == 2
  error = capsys.readouterr().err
  assert word in error and error.count('\n') == 1
