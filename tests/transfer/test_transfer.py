"""`vit_jax transfer`: which examples a task judges, and what is printed of it."""

import csv
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tests.evaluate.made_up import FirstPixels, MadeUp
from tests.weights import made_up
from vit_jax import commands
from vit_jax.errors import UserError
from vit_jax.evaluate.backbone import Pulse
from vit_jax.evaluate.sets import Part
from vit_jax.layouts import files, layout, registry
from vit_jax.transfer import candidates, suite, tasks
from vit_jax.transfer.candidates import Candidate


def rows_of(task: tasks.Task, data: tasks.TaskData, folder, methods=('knn',)):
  candidate = Candidate('made up', '', lambda part, whole: FirstPixels())
  return list(suite.judge_task(candidate, task, data, methods, folder, Pulse()))


def test_a_style_is_held_out(monkeypatch, tmp_path):
  monkeypatch.setattr(tasks.sources, 'open_source', lambda *_, **__: MadeUp(42))
  task = tasks.Task('x', 'made_up', held_out=('style', 1))
  data = tasks.open_task(task, tmp_path)
  train, (test,) = data
  assert set(train.source.column('style')[train.keep_N]) == {0, 2, 3}
  assert set(test.source.column('style')[test.keep_N]) == {1}
  assert len(train.keep_N) + len(test.keep_N) == 42
  rows = rows_of(task, data, tmp_path)
  assert {(row.train_examples, row.test_examples) for row in rows} == {(31, 11)}
  # Features of all styles are kept: the task of the next style costs no images.
  assert len(list(tmp_path.glob('*.npz'))) == 1


def test_rows_count_the_examples_with_a_label(tmp_path):
  train, test = MadeUp(42), MadeUp(42)
  train.labels_N[:5] = test.labels_N[:9] = -1
  test.split = 'test'
  data = tasks.TaskData(Part('made up', train), [Part('made up', test)])
  rows = rows_of(tasks.Task('x', 'made_up'), data, tmp_path)
  assert {(row.train_examples, row.test_examples) for row in rows} == {(37, 33)}
  test.labels_N[:] = -1
  with pytest.raises(UserError, match="'made_up', split 'test' has no example with a label"):
    rows_of(tasks.Task('x', 'made_up'), data, tmp_path)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  """Two classes by brightness, 30 images each for training and 9 for the test."""
  folder = tmp_path_factory.mktemp('images')
  rng = np.random.default_rng(0)
  for split, count in (('train', 30), ('test', 9)):
    for k, name in enumerate(('dark', 'light')):
      (folder / split / name).mkdir(parents=True)
      for i in range(count):
        image = rng.normal(80 + 60 * k, 30, (20, 24, 3)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / split / name / f'{i}.png'), image)
  return folder


def test_the_command(images, tmp_path, capsys):
  _, leaves = made_up.tiny('mu/16', 5, size=32, depth=1, mlp=128, exact_gelu=True)
  weights = tmp_path / 'mu.safetensors'
  files.write(weights, layout.to_published(registry.LAYOUTS['timm'], leaves))
  paths = tmp_path / 'rows.csv', tmp_path / 'rows.json'
  argv = [
    'transfer',
    '--model=mu/16',
    f'--weights={weights}',
    '--data',
    f'folder:{images}',
    f'--csv={paths[0]}',
    f'--json={paths[1]}',
    f'--data_dir={tmp_path}',
    '--image_size=32',
  ]
  assert commands.main(argv) == 0
  out = capsys.readouterr().out
  rows = list(csv.DictReader(paths[0].open()))
  assert [(row['method'], row['setting']) for row in rows[:6]] == [
    ('few_shot', '1 shots'),
    ('few_shot', '5 shots'),
    ('few_shot', '10 shots'),
    ('few_shot', '25 shots'),
    ('knn', 'k 10'),
    ('knn', 'k 20'),
  ]
  assert rows[-1]['method'] == 'linear'
  assert float(rows[-1]['top1']) > 80  # brightness is easy to see
  assert {row['train_examples'] for row in rows} == {'60'}
  assert {row['test_examples'] for row in rows} == {'18'}
  assert 'leaves matched' in out and 'spread of' in out
  said = json.loads(paths[1].read_text())
  assert said['weights'] == [str(weights)] and len(said['rows']) == len(rows)
  assert {row['model'] for row in rows} == {'mu/16'}
  assert len(list((tmp_path / 'features').glob('*.npz'))) == 2


def test_several_side_by_side(images, tmp_path, capsys):
  """Two networks and a bag of visual words, one table and one page."""
  weights = []
  for seed, model in ((5, 'mu/16'), (6, 'mu/8')):
    _, leaves = made_up.tiny(model, seed, size=32, depth=1, mlp=128, exact_gelu=True)
    weights.append(f'{model}@32={tmp_path / f"{seed}.safetensors"}')
    files.write(
      tmp_path / f'{seed}.safetensors', layout.to_published(registry.LAYOUTS['timm'], leaves)
    )
  page = tmp_path / 'page.html'
  argv = [
    'transfer',
    '--weights',
    *weights,
    'bag_of_words',
    '--data',
    f'folder:{images}',
    '--methods',
    'few_shot',
    'knn',  # a linear probe of 12,600 features takes its time
    f'--page={page}',
    f'--data_dir={tmp_path}',
    f'--csv={tmp_path / "rows.csv"}',
  ]
  assert commands.main(argv) == 0
  rows = list(csv.DictReader((tmp_path / 'rows.csv').open()))
  assert list(dict.fromkeys(row['model'] for row in rows)) == ['mu/16', 'mu/8', 'bag_of_words']
  kinds = {
    model: [row['metric'] for row in rows if row['model'] == model]
    for model in ('mu/16', 'bag_of_words')
  }
  assert kinds['mu/16'] == kinds['bag_of_words'] and 'knn-10' in kinds['mu/16']
  text = page.read_text()
  assert '<script' not in text and text.count('<svg') == 1 + len(kinds['mu/16'])
  capsys.readouterr()
  assert commands.main(argv) == 0  # the words are kept: the same bag, the same features
  assert [row | {'seconds': ''} for row in csv.DictReader((tmp_path / 'rows.csv').open())] == [
    row | {'seconds': ''} for row in rows
  ]
  kept = {path.name.partition('-')[0] for path in (tmp_path / 'features').glob('bag-*')}
  assert kept == {'bag'} and len(list((tmp_path / 'features').iterdir())) == 7


def test_a_name_is_that_of_its_own_weights(monkeypatch, tmp_path):
  """The model and the size of one of several weights are not those of the next."""
  asked = []

  def open_weights(source, *, model, image_size, **_):
    asked.append((source, model, image_size))
    return SimpleNamespace(line='', model=None)

  monkeypatch.setattr(candidates, 'open_weights', open_weights)
  found = candidates.candidates(['mu/16@32=a', 'b', 'mu/8=c'], tmp_path, 8, image_size=64)
  assert asked == [('a', 'mu/16', (32, 32)), ('b', '', (64, 64)), ('c', 'mu/8', (64, 64))]
  assert [one.name for one in found] == ['mu/16', 'b', 'mu/8']


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--data', 'x', '--model=Ti/16', '--weights', 'a.npz', 'b.npz'], 'say which is whose'),
    (['--data', 'x', '--weights', 'bag_of_words', 'bag_of_words'], 'two are called'),
    ([], 'either a suite'),
    (['--suite=ofline'], "did you mean 'offline'"),
    (['--data', 'x', '--methods', 'nn'], "'nn' (choose from"),
    (['--data', 'x'], 'x.npz'),
    (['--data', 'x', '--csv=nowhere/x.csv'], 'in a folder that exists'),
    (['--data', 'x', '--page=x.txt'], 'must be a .html file'),
  ],
)
def test_mistakes_get_a_sentence(flags, words, capsys):
  assert commands.main(['transfer', '--weights=x.npz', *flags]) == 2
  assert words in capsys.readouterr().err
