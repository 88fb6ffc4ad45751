"""`vit_jax transfer`: which examples are judged, how often, and what is printed of it."""

from __future__ import annotations

import csv
import json

import cv2
import jax
import numpy as np
import pytest

from tests.weights import made_up
from vit_jax import cli
from vit_jax.errors import UserError
from vit_jax.transfer import extract, suite, tasks
from vit_jax.transfer.contestants import Contestant
from vit_jax.transfer.features import features_fn
from vit_jax.weights import files, layout, registry

HALF = (0.5, 0.5, 0.5)


class MadeUp:
  """A source of tiny images that counts how often each is read."""

  name, split, class_names, metadata = 'made_up', 'train', ('a', 'b', 'c'), {}

  def __init__(self, count: int):
    rng = np.random.default_rng(0)
    self.labels_N = rng.integers(0, 3, count)
    self.images_NHWC = rng.integers(0, 256, (count, 16, 16, 3), np.uint8)
    self.images_NHWC[:, 0, 0] += (50 * self.labels_N[:, None]).astype(np.uint8)
    self.times_read = np.zeros(count, int)

  def __len__(self):
    return len(self.labels_N)

  def read(self, indices):
    for index in indices:
      self.times_read[index] += 1
    return [(self.images_NHWC[i].tobytes(), int(self.labels_N[i])) for i in indices]

  def column(self, name):
    return np.arange(len(self)) % 4 if name == 'style' else None

  def where(self, index):
    return f'row {index}'

  def content(self):
    return self.images_NHWC.tobytes() + self.labels_N.tobytes()


def view(record, out_HWC):
  out_HWC[...] = np.frombuffer(record, np.uint8).reshape(out_HWC.shape)


def subject(features, fingerprint: str = 'a') -> extract.Subject:
  return extract.Subject('made up', (16, 16, 3), view, features, fingerprint)


def test_each_of_1003_examples_once_and_in_order(tmp_path):
  source, calls = MadeUp(1003), []

  def first_pixels(images_BHWC):
    calls.append(len(images_BHWC))
    return images_BHWC[:, 1, 1].astype(np.float32)

  found = extract.extract(subject(first_pixels), source, tmp_path)
  assert (source.times_read == 1).all()
  assert sum(calls) == 1003
  np.testing.assert_array_equal(found.features_ND, source.images_NHWC[:, 1, 1])
  np.testing.assert_array_equal(found.labels_N, source.labels_N)


def test_features_are_kept_for_the_same_subject_and_split_only(tmp_path):
  calls = []

  def count(images_BHWC):
    calls.append(len(images_BHWC))
    return images_BHWC[:, 0, 0].astype(np.float32)

  source = MadeUp(10)
  first = extract.extract(subject(count), source, tmp_path)
  again = extract.extract(subject(count), source, tmp_path)
  assert calls == [10]
  np.testing.assert_array_equal(first.features_ND, again.features_ND)
  extract.extract(subject(count, 'b'), source, tmp_path)  # other weights
  source.images_NHWC[0] += 1
  extract.extract(subject(count), source, tmp_path)  # other data
  assert calls == [10, 10, 10]


@pytest.mark.parametrize(
  'altered', [dict(labels_N=np.array([0, 1, 1])), dict(gain=2), dict(border=1)]
)
def test_an_altered_source_has_its_own_content(altered):
  contents = {
    tasks.Altered(MadeUp(3), 'as said', **given).content()
    for given in (altered, {}, dict(labels_N=np.array([0, 1, 2])))
  }
  assert len(contents) == 3


def test_a_label_corrected_in_place_is_seen(tmp_path):
  """No record beside it changes, and the file stays as long as it was."""
  source = MadeUp(1003)
  judged = subject(lambda images_BHWC: images_BHWC[:, 0, 0].astype(np.float32))
  extract.extract(judged, source, tmp_path)
  source.labels_N[1] += 1
  found = extract.extract(judged, source, tmp_path)
  np.testing.assert_array_equal(found.labels_N, source.labels_N)


def test_one_and_eight_devices_agree_exactly(tmp_path, monkeypatch):
  model, leaves = made_up.tiny('Ti/8', 0)
  variables = made_up.tree_variables(leaves)
  source, rows, features = MadeUp(301), [], []
  task = tasks.Task('made up', 'made_up')
  opened = tasks.Opened(tasks.Part('made up', source), [tasks.Part('made up', source)])
  for count in (8, 1):
    devices = jax.devices()[:count]
    monkeypatch.setattr(jax, 'local_devices', lambda devices=devices: devices)
    judged = subject(features_fn(model, variables, HALF, HALF, 16), f'{count} devices')
    features.append(extract.extract(judged, source, tmp_path / 'features').features_ND)
    contestant = Contestant('made up', '', lambda train, judged=judged: judged)
    rows.append(
      [
        row._replace(seconds=0)
        for row in suite.judge(
          contestant, task, opened, ['few-shot', 'knn', 'linear'], tmp_path / 'features'
        )
      ]
    )
  np.testing.assert_array_equal(*features)
  assert rows[0] == rows[1]
  assert {row.setting for row in rows[0]} >= {'1 shots', '25 shots', 'k 10', 'k 200'}
  assert all(row.test_examples == 301 for row in rows[0])


def test_a_style_is_held_out(monkeypatch, tmp_path):
  monkeypatch.setattr(tasks.sources, 'open_source', lambda *_, **__: MadeUp(42))
  task = tasks.Task('x', 'made_up', held_out=('style', 1))
  opened = tasks.open_task(task, tmp_path)
  train, (test,) = opened
  assert set(train.source.column('style')[train.keep_N]) == {0, 2, 3}
  assert set(test.source.column('style')[test.keep_N]) == {1}
  assert len(train.keep_N) + len(test.keep_N) == 42

  judged = subject(lambda images_BHWC: images_BHWC[:, 0, 0].astype(np.float32))
  contestant = Contestant('made up', '', lambda train: judged)
  rows = list(suite.judge(contestant, task, opened, ['knn'], tmp_path))
  assert {(row.train_examples, row.test_examples) for row in rows} == {(31, 11)}
  # Features of all styles are kept: the task of the next style costs no images.
  assert len(list(tmp_path.glob('*.npz'))) == 1


@pytest.mark.parametrize('method', suite.METHODS)
def test_examples_without_a_label_count_nowhere(method):
  rng = np.random.default_rng(0)
  labels_N = np.arange(100) % 2
  features_ND = (rng.normal(0, 0.1, (100, 4)) + labels_N[:, None]).astype(np.float32)
  whole = extract.Features(features_ND, labels_N)
  holed = whole._replace(labels_N=np.where(np.arange(100) % 5, labels_N, -1))
  kept = extract.Features(*(rows[holed.labels_N >= 0] for rows in holed))
  for given, same in ((whole, whole), (holed, kept)):
    found = list(suite.verdicts(given, [holed], method))
    assert found == list(suite.verdicts(same, [kept], method)) and found
  right_NK = np.eye(2, dtype=bool)[labels_N]  # these say what is right, whatever the label is
  judged = [list(suite.verdicts(whole, [test], method, [right_NK])) for test in (whole, holed)]
  assert judged[0] == judged[1]
  none = whole._replace(labels_N=np.full(100, -1))
  for train, test in ((none, whole), (whole, none)):
    with pytest.raises(UserError, match='no example with a label'):
      list(suite.verdicts(train, [test], method))


def test_rows_count_the_examples_with_a_label(tmp_path):
  train, test = MadeUp(42), MadeUp(42)
  train.labels_N[:5] = test.labels_N[:9] = -1
  test.split = 'test'
  judged = subject(lambda images_BHWC: images_BHWC[:, 0, 0].astype(np.float32))
  contestant = Contestant('made up', '', lambda train: judged)

  def rows():
    opened = tasks.Opened(tasks.Part('made up', train), [tasks.Part('made up', test)])
    return list(suite.judge(contestant, tasks.Task('x', 'made_up'), opened, ['knn'], tmp_path))

  assert {(row.train_examples, row.test_examples) for row in rows()} == {(37, 33)}
  test.labels_N[:] = -1
  with pytest.raises(UserError, match="'made_up', split 'test', has no example with a label"):
    rows()


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
  assert cli.main(argv) == 0
  out = capsys.readouterr().out
  rows = list(csv.DictReader(paths[0].open()))
  assert [(row['method'], row['setting']) for row in rows[:6]] == [
    ('few-shot', '1 shots'),
    ('few-shot', '5 shots'),
    ('few-shot', '10 shots'),
    ('few-shot', '25 shots'),
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
    'few-shot',
    'knn',  # a linear probe of 12,600 features takes its time
    f'--page={page}',
    f'--data_dir={tmp_path}',
    f'--csv={tmp_path / "rows.csv"}',
  ]
  assert cli.main(argv) == 0
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
  assert cli.main(argv) == 0  # the words are kept: the same bag, the same features
  assert [row | {'seconds': ''} for row in csv.DictReader((tmp_path / 'rows.csv').open())] == [
    row | {'seconds': ''} for row in rows
  ]
  kept = {path.name.partition('-')[0] for path in (tmp_path / 'features').glob('bag-*')}
  assert kept == {'bag'} and len(list((tmp_path / 'features').iterdir())) == 7


@pytest.mark.parametrize(
  'flags, words',
  [
    (['--data', 'x', '--model=Ti/16', '--weights', 'a.npz', 'b.npz'], 'say which is whose'),
    (['--data', 'x', '--weights', 'bag_of_words', 'bag_of_words'], 'two are called'),
    ([], 'either a suite'),
    (['--suite=ofline'], "did you mean 'offline'"),
    (['--data', 'x', '--methods', 'nn'], "'nn' is not one"),
    (['--data', 'x'], 'x.npz is no run folder'),
    (['--data', 'x', '--csv=nowhere/x.csv'], 'in a folder that exists'),
    (['--data', 'x', '--page=x.txt'], 'must be a .html file'),
  ],
)
def test_mistakes_get_a_sentence(flags, words, capsys):
  assert cli.main(['transfer', '--weights=x.npz', *flags]) == 2
  assert words in capsys.readouterr().err
