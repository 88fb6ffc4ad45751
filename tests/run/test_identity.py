"""A run is one run: same recipe, same data, same classes, same length, in all its processes."""

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.fleet import Life, result
from vit_jax import commands, config
from vit_jax.data.identity import label_map
from vit_jax.errors import UserError
from vit_jax.parallel.processes import Processes
from vit_jax.run.folder import Run
from vit_jax.run.identity import Identity, agree, check_classes, read_identity

EPOCHS = '--config.steps=0', '--config.epochs=2'
START = Identity(('dark', 'gray', 'light'), 75, 'f00d', 60, {'test: folder': 'cafe'}, 'beef')


def other(**changes) -> Identity:
  return dataclasses.replace(START, **changes)


def test_it_comes_back_from_its_file(tmp_path):
  Run(tmp_path).claim(config.resolve({'steps': 3}), START)
  assert Run(tmp_path).identity == START


@pytest.mark.parametrize('text', ['{"steps": 3}', '{}', '[]', '{"class_names": 3, "steps": ""}'])
def test_a_file_that_is_none_is_a_fault(text, tmp_path):
  (tmp_path / 'identity.json').write_text(text)
  faults = []
  assert read_identity(tmp_path / 'identity.json', faults) is None
  assert len(faults) == (text != '{}')


@pytest.mark.parametrize(
  'now, words',
  [
    (other(class_names=('dark', 'grey', 'light')), ["no class 'grey'", "'gray' is missing"]),
    (other(class_names=('dark', 'light')), ["class 'gray' is missing"]),
    (other(class_names=('dark', 'gray', 'light', 'red')), ["no class 'red'"]),
    (other(class_names=('light', 'gray', 'dark')), ['another order']),
    (other(data='0000', num_examples=76), ['75 training examples', '76', '--accept_data']),
    (other(data='0000'), ['f00d', '0000']),
    (other(evals={'test: folder': '0000'}), ["eval 'test: folder'"]),
    (other(steps=61), ['60 steps', '61', 'config.epochs']),
    (other(vocabularies='feed'), ['vocabularies.json']),
  ],
)
def test_what_differs_is_named(now, words):
  with pytest.raises(UserError) as caught:
    START.goes_on_as(now, Path('run'))
  assert all(word in str(caught.value) for word in ['run', *words])
  assert '\n' not in str(caught.value)


def test_other_data_is_accepted_where_the_user_says_so():
  now = other(
    data='0000', num_examples=76, num_batches=9, steps=61, evals={'val: x': '1'}, weights=''
  )
  found = START.goes_on_as(now, Path('run'), accept_data=True)
  assert (found.data, found.num_examples, found.num_batches) == ('0000', 76, 9)
  assert (found.steps, found.weights) == (60, 'beef')  # as at the start
  assert found.evals == {'test: folder': 'cafe', 'val: x': '1'}
  with pytest.raises(UserError, match='is missing'):
    START.goes_on_as(other(class_names=('dark', 'light')), Path('run'), accept_data=True)
  assert START.goes_on_as(other(evals={}, versions={}), Path('run')) == START


def test_classes_are_matched_by_name():
  known = ('dark', 'gray', 'light')
  check_classes(('light', 'dark', 'gray'), known)
  with pytest.raises(UserError, match="training data .*class 'gray' is missing"):
    check_classes(('light', 'dark'), known)
  with pytest.raises(UserError, match="no class 'grey'"):
    check_classes(('grey', 'dark'), known)
  twice = ('crane', 'crane', 'light')
  check_classes(twice, twice)
  np.testing.assert_array_equal(label_map(twice, twice, 'x'), [0, 1, 2])
  np.testing.assert_array_equal(label_map(('light', 'dark', 'x'), known, 'x'), [2, 0, -1])
  with pytest.raises(UserError, match='one name'):
    check_classes(('light', 'crane'), twice)


def test_one_process_agrees_with_itself():
  agree(Processes(config.Limits()), config.resolve({'steps': 3}), START)


@pytest.fixture
def images(tiny_folder, tmp_path) -> Path:
  """A copy of the training data, to change."""
  shutil.copytree(tiny_folder, tmp_path / 'images')
  return tmp_path / 'images'


def files(folder: Path) -> dict[str, bytes]:
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def command(recipe: Path, run: Path, images: Path, *flags: str) -> list[str]:
  return [
    'train',
    f'--config={recipe}',
    f'--workdir={run}',
    f'--config.data.dir={images}',
    '--config.batch_size=16',
    '--config.eval_batch_size=16',
    *flags,
  ]


def add_an_image(images: Path) -> None:
  shutil.copy(images / 'test' / 'dark' / '000.png', images / 'train' / 'dark' / 'new.png')


@pytest.fixture(scope='module')
def ended(lenet_recipe, tiny_folder, tmp_path_factory) -> Path:
  """The folder of a run that has ended. Its length is given in epochs."""
  run = tmp_path_factory.mktemp('ended') / 'run'
  assert commands.main(command(lenet_recipe, run, tiny_folder, *EPOCHS)) == 0
  return run


@pytest.fixture
def begun(lenet_recipe, ended, images, tmp_path, capsys) -> tuple[list[str], Path]:
  """A copy of it, and the command that made it."""
  shutil.copytree(ended, tmp_path / 'run')
  capsys.readouterr()
  return command(lenet_recipe, tmp_path / 'run', images, *EPOCHS), tmp_path / 'run'


def test_it_stands_from_the_start(begun):
  _, run = begun
  identity = Run(run).identity
  assert identity.class_names == ('dark', 'gray', 'light') and identity.num_examples == 75
  assert identity.steps == 10 and identity.data and identity.versions['jax']


def rename(images: Path) -> None:
  for part in ('train', 'test'):
    (images / part / 'gray').rename(images / part / 'grey')


def remove(images: Path) -> None:
  for part in ('train', 'test'):
    shutil.rmtree(images / part / 'gray')


@pytest.mark.parametrize(
  'change, trained, judged',
  [(rename, "no class 'grey'", 'grey'), (remove, "class 'gray' is missing", '--accept_data')],
)
def test_a_class_renamed_or_missing(change, trained, judged, begun, images, capsys):
  argv, run = begun
  change(images)
  before = files(run)
  judge = ['evaluate', f'--workdir={run}', f'--config.data.dir={images}']
  for refused, words in ((argv, trained), ([*argv, '--accept_data'], trained), (judge, judged)):
    assert commands.main(refused) == 2
    error = capsys.readouterr().err
    assert words in error and error.count('\n') == 1
  assert files(run) == before


def test_images_added_before_a_resume(begun, images, capsys):
  argv, run = begun
  add_an_image(images)
  before = files(run)
  assert commands.main(argv) == 2
  error = capsys.readouterr().err
  assert '75 training examples' in error and '76' in error and error.count('\n') == 1
  assert files(run) == before
  shutil.rmtree(run / 'checkpoints' / '10')  # so that there is something left to train
  assert commands.main([*argv, '--accept_data']) == 0
  assert Run(run).identity.num_examples == 76
  assert Run(run).summary['steps'] == Run(run).identity.steps == 10  # as at the start
  capsys.readouterr()
  assert commands.main(argv) == 0  # it is the data of this run now


def test_a_bad_line_and_other_damage_block_no_resume(begun, capsys):
  argv, run = begun
  rows = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
  text = (run / 'metrics.jsonl').read_text().splitlines(keepends=True)
  (run / 'metrics.jsonl').write_text(''.join([*text[:3], '\x00{"step": 3,\n', *text[3:]]))
  (run / 'summary.json').write_text('')
  (run / 'identity.json').write_text('')
  predictions = run / 'predictions' / 'test.npz'
  predictions.write_bytes(predictions.read_bytes()[:100])
  with open(run / 'events.jsonl', 'r+') as file:
    file.truncate(50)
  (run / 'report.html').write_text('')
  assert commands.main(['report', str(run)]) == 0
  page = (run / 'report.html').read_text()
  assert 'metrics.jsonl: line 4' in page and 'test.npz is damaged' in page
  shutil.rmtree(run / 'checkpoints' / '10')
  assert commands.main(argv) == 0
  again = Run(run)
  clocked = ('train/seconds', 'train/images_per_second', 'train/fraction_of_peak')

  def timeless(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in clocked}

  assert list(map(timeless, again.metrics)) == list(map(timeless, rows))
  assert again.summary and again.predictions and again.identity and again.events
  assert again.faults == []


def test_a_workdir_that_cannot_work_is_refused(lenet_recipe, images, tmp_path, monkeypatch, capsys):
  name = '[exp] 1'  # a pattern to Orbax
  monkeypatch.chdir(tmp_path)
  before = files(tmp_path), sorted(tmp_path.iterdir())
  for argv in (
    command(lenet_recipe, name, images),
    ['evaluate', f'--workdir={name}'],
    ['report', name],
  ):
    assert commands.main(argv) == 2
    error = capsys.readouterr().err
    assert name in error and error.count('\n') == 1
  assert (files(tmp_path), sorted(tmp_path.iterdir())) == before


def test_a_workdir_in_the_home_folder(lenet_recipe, images, tmp_path, monkeypatch):
  home = tmp_path / 'home'
  home.mkdir()
  monkeypatch.setenv('HOME', str(home))
  monkeypatch.chdir(tmp_path)
  assert commands.main(command(lenet_recipe, '~/run', images, '--config.steps=1')) == 0
  assert (home / 'run' / 'summary.json').exists() and not (tmp_path / '~').exists()
  assert commands.main(['evaluate', '--workdir=~/run']) == 0
  assert Run('~/run').evaluations[1]['test'] == pytest.approx(Run('~/run').summary['test'])


def other_pixels(images: Path) -> None:
  path = images / 'train' / 'dark' / '000.png'
  cv2.imwrite(str(path), 255 - cv2.imread(str(path)))


@pytest.mark.parametrize(
  'change, common, flags, words',
  [
    (None, [], ['--config.optim.lr=0.2'], 'process 1 has config.optim.lr 0.2, process 0 has 0.1'),
    (None, [], ['--config.steps=6'], 'process 1 has config.steps 6, process 0 has 5'),
    (other_pixels, [], [], "process 1 has training data '75 examples, digest"),
    (
      add_an_image,
      ['--config.steps=0', '--config.epochs=12'],
      [],
      'process 1 has length in steps 76, process 0 has 75',
    ),
  ],
)
def test_a_process_that_differs_is_named(
  change, common, flags, words, lenet_recipe, images, tiny_folder, nursery, tmp_path
):
  """Two processes, each with data on a disk of its own; process 1 is another in one thing."""
  argv = [
    'train',
    f'--config={lenet_recipe}',
    f'--workdir={tmp_path / "run"}',
    '--config.optim.lr=0.1',
    '--config.steps=5',
    *common,
  ]
  if change:
    change(images)
  plant = {1: {'argv': [*argv, f'--config.data.dir={images}', *flags]}}
  life = Life(nursery, tmp_path / 'lives', argv, 2, plant)
  assert life.codes() == [2, 2], life.logs()
  for index in range(2):
    assert words in life.log(index), life.logs()
  assert not (tmp_path / 'run' / 'checkpoints').exists()
  assert not (tmp_path / 'run' / 'config.json').exists()


def test_processes_may_differ_in_what_decides_nothing(lenet_recipe, images, nursery, tmp_path):
  argv = [
    'train',
    f'--config={lenet_recipe}',
    f'--workdir={tmp_path / "run"}',
    '--config.steps=3',
  ]
  own = [
    *argv,
    f'--config.data.dir={images}',
    '--config.data.threads=2',
    '--config.log.every.steps=2',
  ]
  life = Life(nursery, tmp_path / 'lives', argv, 2, {1: {'argv': own}})
  assert life.codes() == [0, 0], life.logs()
  assert result(tmp_path / 'run')[2]['steps'] == 3
