"""Fine-tuning: from a run folder to other sizes and classes, and as a method of `transfer`."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.fleet import run_to_end
from vit_jax import commands
from vit_jax.run.folder import Run
from vit_jax.transfer import finetune, suite, tasks
from vit_jax.transfer.candidates import candidates


def params_of(workdir) -> dict:
  return Run(workdir).variables()[0]['params']


def test_finetune_from_a_run(finished_run, tiny_recipe, write_images, nursery, tmp_path):
  tuned = tmp_path / 'tuned'
  for split in ('train', 'test'):
    write_images(tmp_path / 'two' / split, {'a': 9, 'b': 9})
  output = run_to_end(
    nursery,
    tmp_path,
    [
      'train',
      f'--config={tiny_recipe}',
      f'--workdir={tuned}',
      '--config.steps=1',
      f'--config.data.dir={tmp_path / "two"}',
      f'--config.init_from={finished_run}',
      '--config.data.image_size=(24, 16)',
      '--config.optim.lr=0.0',
      '--config.optim.warmup.steps=0',
      '--config.optim.ema=0.0',
    ],
  )
  assert '1 resized, 2 fresh' in output
  before, after = params_of(finished_run), params_of(tuned)  # lr 0: what it started from
  np.testing.assert_array_equal(
    before['encoder']['blocks']['mlp']['up']['kernel'],
    after['encoder']['blocks']['mlp']['up']['kernel'],
  )
  assert after['head']['kernel'].shape == (32, 2) and not after['head']['kernel'].any()
  assert after['pos_embedding'].shape == (1, 7, 32)
  assert json.loads((tuned / 'summary.json').read_text())['steps'] == 1


RECIPE = """
from ml_collections import ConfigDict


def get_sweep(dataset):
  return [{'optim.lr': 0.0}, {'optim.lr': 3e-3}]


def get_config(dataset):
  return ConfigDict(dict(
      name='tune', steps=30, batch_size=16, eval_batch_size=16, init_from='', model=dict(name=''),
      data=dict(name=dataset, image_size=(16, 16), eval_crop=1.0, train='train[:70%]'),
      evals=dict(val=dict(split='train[70%:]'), test=dict(split='test')),
      optim=dict(lr=1e-3), log=dict(every=dict(steps=30)),
      checkpoint=dict(every=dict(steps=99), minutes=0.0)))
"""


@pytest.fixture
def recipe(tmp_path) -> Path:
  path = tmp_path / 'tune.py'
  path.write_text(RECIPE)
  return path


def test_fine_tuning_as_a_method(finished_run, recipe, write_images, tmp_path, capsys):
  """The rate is chosen on held-out images; the runs of all seeds are judged on the test."""
  folder = tmp_path / 'two'
  write_images(folder / 'train', {'a': 40, 'b': 40})
  write_images(folder / 'test', {'a': 9, 'b': 9}, seed=1)
  argv = [
    'transfer',
    f'--weights={finished_run}',
    '--data',
    f'folder:{folder}',
    '--methods',
    'fine_tune',
    'knn',
    '--seeds',
    '3',
    '4',
    f'--recipe={recipe}',
    f'--workdir={tmp_path / "runs"}',
    f'--data_dir={tmp_path}',
    f'--csv={tmp_path / "rows.csv"}',
    '--config.optim.clip_norm=1.0',
  ]
  assert commands.main(argv) == 0
  rows = {row['metric']: row for row in csv.DictReader((tmp_path / 'rows.csv').open())}
  tuned = rows['fine_tune']
  runs = sorted(path.parent for path in (tmp_path / 'runs').rglob('summary.json'))
  assert [f'{run.parent.name}/{run.name}' for run in runs] == [
    'optim.lr=0.0/seed-3',
    'optim.lr=0.003/seed-3',
    'optim.lr=0.003/seed-4',
  ]
  top1s = [json.loads((run / 'summary.json').read_text())['test']['top1'] for run in runs]
  assert tuned['setting'] == 'lr 0.003' and tuned['spread_of'] == 'seeds'
  assert float(tuned['top1']) == pytest.approx(100 * np.mean(top1s[1:]))
  assert float(tuned['top1']) > 100 * top1s[0] and tuned['test_examples'] == '18'
  assert 'knn-10' in rows and tuned['train_examples'] == '56'
  x = Run(runs[0]).experiment
  assert x.init_from == str(finished_run) and x.optim.clip_norm == 1.0
  assert x.model == Run(finished_run).experiment.model

  before = [run.stat().st_mtime_ns for run in runs]
  capsys.readouterr()
  assert commands.main(argv) == 0  # nothing is trained twice
  assert [run.stat().st_mtime_ns for run in runs] == before and '==' not in capsys.readouterr().out


@pytest.mark.slow
def test_weights_that_changed_behind_their_path_are_tuned_anew(
  finished_run, tiny_recipe, nursery, write_images, tmp_path
):
  """A run is replaced by another of its name and model."""
  recipe = tmp_path / 'short.py'
  recipe.write_text(RECIPE.replace("{'optim.lr': 0.0}, ", '').replace('steps=30', 'steps=2'))
  for split in ('train', 'test'):
    write_images(tmp_path / 'two' / split, {'a': 20, 'b': 20})
  run = shutil.copytree(finished_run, tmp_path / 'run')
  argv = [
    'transfer',
    f'--weights={run}',
    '--data',
    f'folder:{tmp_path / "two"}',
    '--methods',
    'fine_tune',
    f'--recipe={recipe}',
    f'--workdir={tmp_path / "runs"}',
    f'--data_dir={tmp_path}',
  ]

  def trained() -> set[Path]:
    assert commands.main(argv) == 0
    return {path.parent for path in (tmp_path / 'runs').rglob('summary.json')}

  first = trained()
  assert trained() == first and len(first) == 1
  shutil.rmtree(run)
  run_to_end(
    nursery,
    tmp_path / 'other',
    ['train', f'--config={tiny_recipe}', f'--workdir={run}', '--config.seed=7', '--config.steps=3'],
  )
  (anew,) = trained() - first
  (old,) = first
  kernels = [params_of(run)['encoder']['blocks']['mlp']['up']['kernel'] for run in (anew, old)]
  assert np.abs(kernels[0] - kernels[1]).max() > 0.02  # further apart than two steps go


def test_a_models_own_head_is_judged_where_it_knows_the_classes(
  finished_run, tiny_folder, tmp_path, monkeypatch, capsys
):
  """And says what the run's own evaluation said."""
  name = f'folder:{tiny_folder}'
  classes = 3
  task = tasks.Task('own', name, classes=classes, others=(tasks.OtherTest('again', name, 'test'),))
  monkeypatch.setattr(suite, 'tasks', lambda *_: (task,))
  argv = [
    'transfer',
    f'--weights={finished_run}',
    '--suite=own',
    '--methods',
    'classify',
    f'--data_dir={tmp_path}',
    f'--csv={tmp_path / "rows.csv"}',
  ]
  assert commands.main(argv) == 0
  rows = list(csv.DictReader((tmp_path / 'rows.csv').open()))
  said = json.loads((finished_run / 'summary.json').read_text())['test']['top1']
  assert [row['task'] for row in rows] == ['own', 'again']
  assert [float(row['top1']) for row in rows] == pytest.approx([100 * said] * 2)
  monkeypatch.setattr(suite, 'tasks', lambda *_: (tasks.Task('own', name, classes=classes + 1),))
  assert commands.main(argv) == 2
  assert 'none of them can be judged' in capsys.readouterr().err


def test_an_image_size_that_the_recipe_does_not_train_at(finished_run, recipe, monkeypatch, capsys):
  monkeypatch.setattr(tasks, 'open_task', lambda *_: None)
  argv = [
    'transfer',
    f'--weights={finished_run}',
    '--data',
    'x',
    '--methods',
    'fine_tune',
    f'--recipe={recipe}',
    '--image_size=24',
  ]
  assert commands.main(argv) == 2
  told = capsys.readouterr().err
  assert 'at 24 pixels, but' in told and 'trains at 16 x 16' in told
  assert "--config.data.image_size='(24, 24)'" in told
  here = Path('.')
  judged = candidates([str(finished_run)], here, 8, image_size=24)
  updates = {'data.image_size': (24, 24)}
  finetune.FineTuning(str(recipe), updates, [0], here, here, 8).check(
    judged, [tasks.Task('x', 'x')]
  )


def test_a_task_with_examples_of_its_own_is_tuned_on_those(
  finished_run, recipe, write_images, tmp_path, monkeypatch
):
  """Labels by a rule, brighter pixels, some training images for validation: as VTAB's tasks are."""
  folder = tmp_path / 'two'
  write_images(folder / 'train', {'a': 20, 'b': 20})
  write_images(folder / 'test', {'a': 9, 'b': 9}, seed=1)
  task = tasks.Task(
    'own',
    f'folder:{folder}',
    validation=10,
    rule=lambda source: 1 - source.labels,
    gain=2,
    whole=True,
  )
  monkeypatch.setattr(suite, 'tasks', lambda *_: (task,))
  argv = [
    'transfer',
    f'--weights={finished_run}',
    '--suite=own',
    '--methods',
    'fine_tune',
    f'--recipe={recipe}',
    f'--workdir={tmp_path / "runs"}',
    f'--data_dir={tmp_path}',
    f'--csv={tmp_path / "rows.csv"}',
  ]
  assert commands.main(argv) == 0
  (row,) = csv.DictReader((tmp_path / 'rows.csv').open())
  assert (row['train_examples'], row['test_examples']) == ('30', '18')
  assert float(row['top1']) > 80
  run = Run(next((tmp_path / 'runs').rglob('summary.json')).parent)
  data = run.experiment.images
  assert run.identity.class_names == ('0', '1')
  assert (data.eval_crop, data.eval_aspect, data.eval_antialias) == (1.0, 'change', False)


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--data', 'x', '--config.steps=1'], '--methods fine_tune; add it'),
    (['--data', 'x', '--methods', 'fine_tune', '--weights=bag_of_words'], 'no weights'),
  ],
)
def test_mistakes_of_fine_tuning(flags, words, finished_run, monkeypatch, capsys):
  monkeypatch.setattr(tasks, 'open_task', lambda *_: None)
  assert commands.main(['transfer', f'--weights={finished_run}', *flags]) == 2
  assert words in capsys.readouterr().err
