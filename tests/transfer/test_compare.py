"""`vit_jax compare`: what is trained on what, what is chosen, what is done again, and its table.

The whole of it, with real runs, takes a minute:

    pytest -n 0 -m slow tests/transfer/test_compare.py
"""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vit_jax import commands, config, models
from vit_jax.errors import PREEMPTED, UserError
from vit_jax.models import flops
from vit_jax.report.comparison import read_rows, write_comparison
from vit_jax.run import Run
from vit_jax.run.predictions import Predictions
from vit_jax.transfer import bovw, compare

RECIPE = """
from ml_collections import ConfigDict

TEACHER = dict(name='LeNet-5')


def get_comparison():
  rates = [{{'optim.lr': lr}} for lr in (1e-3, 3e-3)]
  return [dict(name='old words', year=2006, method='bag_of_words'),
          dict(name='teacher', year=1998, choices=rates),
          dict(name='student', year=2020, teacher='teacher', choices=rates[:1])]


def get_config(name):
  c = ConfigDict(dict(
      name='compared', epochs=6.0, batch_size=16, eval_batch_size=16,
      model=dict(TEACHER) if name != 'old words' else dict(name=''),
      data=dict(name='folder', dir={folder!r}, image_size=(32, 32), eval_crop=1.0, crop='pad'),
      evals=dict(test=dict(split='test')), optim=dict(warmup=dict(epochs=3.0)),
      checkpoint=dict(minutes=0.0)))
  if name == 'student':
    c.loss = dict(distill=dict(kind='hard', teacher=TEACHER))
  return c
"""

COLUMNS = [
  'system',
  'year',
  'pixels',
  'top1',
  'spread',
  'seeds',
  'parameters',
  'mflops',
  'seconds',
  'seconds_in_all',
  'chosen',
]
WORDS_ALONE = """
def get_comparison():
  return all_of_it()[:1]
"""


@pytest.fixture
def recipe(tiny_folder, tmp_path) -> Path:
  path = tmp_path / 'compared.py'
  path.write_text(RECIPE.format(folder=str(tiny_folder)))
  return path


@pytest.fixture
def stand_in(monkeypatch):
  """Runs that are over at once: .runs are their (folder, experiment), .top1 what they reach."""
  trained = SimpleNamespace(runs=[], top1={}, stop_at='')

  def train(x, workdir, data_dir, preemption, opened):
    name = '/'.join(workdir.parts[-2:])
    if name == trained.stop_at:
      return PREEMPTED
    trained.runs.append((name, x))
    run = Run(workdir)
    run.write_config(x)
    results = {name_of: {'top1': trained.top1.get(name, 0.5)} for name_of in x.evals}
    seconds = {'train': 10.0 + len(trained.runs), 'total': 99.0}
    run.write_summary(results | {'seconds': seconds, 'parameters': 1000, 'seed': x.seed})
    none = np.zeros(0, int)
    for name_of in x.evals:
      images_0HWC = np.zeros((0, 32, 32, 3), np.uint8)
      found = Predictions(none, none, none, none, ('a', 'b', 'c'), images_0HWC, none)
      run.write_predictions(name_of, found)
    return 0

  def bag(*args):
    return {
      'top1': 0.25,
      'seconds': 3.0,
      'parameters': 7,
      'macs': 5,
      'feature': 'SIFT',
      'classifier': 'SVM',
    }

  monkeypatch.setattr(compare, 'train', train)
  monkeypatch.setattr(bovw, 'judge_bag_of_words', bag)
  return trained


def work(recipe: Path, *seeds: int) -> None:
  compare.compare(str(recipe), {}, seeds or (0,), recipe.parent / 'runs', recipe.parent)


def test_choices_are_made_on_held_out_images_and_runs_use_the_best(recipe, stand_in):
  stand_in.top1 = {'teacher/choice-1': 0.9, 'teacher/seed-0': 0.1}
  work(recipe, 0, 5)
  runs = dict(stand_in.runs)
  assert list(runs) == [
    'teacher/choice-0',
    'teacher/choice-1',
    'teacher/seed-0',
    'teacher/seed-5',
    'student/choice-0',
    'student/seed-0',
    'student/seed-5',
  ]
  for name, x in runs.items():
    choosing = 'choice' in name
    assert x.data.train == ('train:kept' if choosing else 'train')
    splits = {name: line.split for name, line in x.evals.items()}
    assert splits == ({'val': 'train:held'} if choosing else {'test': 'test'})
    assert (x.epochs, x.optim.warmup.epochs) == ((2.0, 1.0) if choosing else (6.0, 3.0))
    assert x.checkpoint.best == ''
    assert x.seed == (5 if name.endswith('5') else 0)
  assert runs['teacher/choice-0'].optim.lr == 1e-3 and runs['teacher/seed-5'].optim.lr == 3e-3


def test_no_teacher_of_a_choice_has_seen_the_held_out_images(recipe, stand_in):
  stand_in.top1 = {'teacher/choice-1': 0.9}
  work(recipe, 0, 5)
  teachers = {
    name: '/'.join(Path(x.loss.distill.teacher_weights).parts[-2:])
    for name, x in stand_in.runs
    if 'student' in name
  }
  assert teachers == {
    'student/choice-0': 'teacher/choice-1',
    'student/seed-0': 'teacher/seed-0',
    'student/seed-5': 'teacher/seed-5',
  }


def test_what_is_done_is_not_done_again(recipe, stand_in):
  stand_in.stop_at = 'student/seed-0'
  with pytest.raises(compare.Interrupted) as stopped:
    work(recipe)
  assert stopped.value.code == PREEMPTED
  first = [name for name, _ in stand_in.runs]
  index = json.loads((recipe.parent / 'runs' / 'comparison.json').read_text())
  assert [row['system'] for row in index] == ['old words', 'teacher']
  stand_in.stop_at = ''
  stand_in.runs.clear()
  work(recipe)
  assert [name for name, _ in stand_in.runs] == ['student/seed-0'] and len(first) == 4
  work(recipe, 0, 1)  # another seed: nothing but that
  assert [name for name, _ in stand_in.runs] == [
    'student/seed-0',
    'teacher/seed-1',
    'student/seed-1',
  ]


def test_a_folder_of_another_comparison_is_refused(recipe, stand_in, capsys):
  flags = ['compare', f'--config={recipe}', f'--workdir={recipe.parent / "runs"}']
  work(recipe)
  assert commands.main([*flags, '--config.batch_size=32']) == 2
  assert 'holds another run: config.batch_size was 16 and is now 32' in capsys.readouterr().err


@pytest.mark.parametrize(
  'old, new, told',
  [
    ('def get_comparison', 'def get_comparisons', 'it has no function get_comparison()'),
    ("teacher='teacher'", "teacher='techer'", "the teacher 'techer' must come before its student"),
    ("name='student', year=2020", "name='student'", 'a year in some rows only'),
    ("name='student', year", "nam='student', year", 'get_comparison() of'),
    ('year=1998, choices', 'year=1998, seeds=1, choices', 'needs a teacher of each of its seeds'),
    ("name='student', year", "name='teacher', year", "has 'teacher' twice"),
    ("{{'optim.lr': lr}}", "{{'optim.lrr': lr}}", "did you mean 'lr'"),
  ],
)
def test_faults_of_a_recipe(old, new, told, recipe, stand_in, capsys):
  text = recipe.read_text()
  assert old.format() in text
  recipe.write_text(text.replace(old.format(), new.format()))
  assert (
    commands.main(['compare', f'--config={recipe}', f'--workdir={recipe.parent / "runs"}']) == 2
  )
  error = capsys.readouterr().err
  assert told in error and error.count('\n') == 1
  assert not stand_in.runs


def test_an_argument_and_systems_of_fewer_seeds_without_years(recipe, stand_in, capsys):
  text = recipe.read_text().replace(
    'def get_config(name):', 'def get_config(arg):\n  name = arg[4:]'
  )
  text += """

def get_comparison(arg):
  assert arg == 'big'
  return [dict(name='teacher'), dict(name='student', teacher='teacher', seeds=1)]
"""
  recipe.write_text(
    text.replace('eval_batch_size=16', 'eval_batch_size=32 if arg[:3] == "big" else 8')
  )
  root = recipe.parent / 'runs'
  flags = ['compare', f'--config={recipe}:big', f'--workdir={root}', '--seeds', '3', '1']
  assert commands.main(flags) == 0
  done = [(name, x.seed, x.eval_batch_size) for name, x in stand_in.runs if 'seed' in name]
  assert done == [('teacher/seed-3', 3, 32), ('teacher/seed-1', 1, 32), ('student/seed-3', 3, 32)]
  rows = read_rows(root)
  assert [(row.system, row.label, row.seeds) for row in rows] == [
    ('teacher', 'teacher', 2),
    ('student', 'student', 1),
  ]
  assert 'year' not in rows[0].cells()
  assert 'year' not in capsys.readouterr().out


def summaries_of(root: Path) -> dict[str, dict]:
  return {
    path.parent.relative_to(root).as_posix(): json.loads(path.read_text())
    for path in root.glob('*/*/summary.json')
  }


def test_the_table_says_what_the_runs_do(recipe, stand_in, capsys):
  stand_in.top1 = {'teacher/seed-0': 0.5, 'teacher/seed-1': 0.7, 'student/seed-0': 0.875}
  root, out = recipe.parent / 'runs', recipe.parent
  assert (
    commands.main(
      [
        'compare',
        f'--config={recipe}',
        f'--workdir={root}',
        '--seeds',
        '0',
        '1',
        f'--csv={out / "t.csv"}',
        f'--json={out / "t.json"}',
        f'--plot={out / "t.png"}',
      ]
    )
    == 0
  )
  text = capsys.readouterr().out
  rows = {row.system: row for row in read_rows(root)}
  assert list(rows) == ['teacher', 'old words', 'student']  # by year
  teacher, words, student = rows.values()
  assert teacher.headline == pytest.approx(60) and teacher.spread == pytest.approx(200**0.5)
  assert '60.00' in text and '1998' in text and teacher.seeds == 2 and teacher.parameters == 1000
  summaries = summaries_of(root)
  seconds = {name: summary['seconds']['train'] for name, summary in summaries.items()}
  assert len(set(seconds.values())) == len(seconds) - 1  # those of the two bags alone are equal
  assert teacher.seconds == (seconds['teacher/seed-0'] + seconds['teacher/seed-1']) / 2
  chosen = seconds['teacher/choice-0'] + seconds['teacher/choice-1']
  assert teacher.seconds_in_all == pytest.approx(chosen + teacher.seconds)
  assert student.seconds_in_all == pytest.approx(
    teacher.seconds_in_all + seconds['student/choice-0'] + student.seconds
  )
  assert (words.headline, words.parameters, words.mflops, words.seconds_in_all) == (25, 7, 1e-5, 3)
  macs = flops.forward_macs(models.build('LeNet-5', 3), (32, 32, 3))
  assert teacher.mflops == student.mflops == pytest.approx(2 * macs / 1e6)
  stored = list(csv.DictReader((out / 't.csv').open()))
  told = json.loads((out / 't.json').read_text())['rows']
  assert list(stored[0]) == COLUMNS
  for row, line, entry in zip(rows.values(), stored, told, strict=True):
    assert float(line['top1']) == entry['top1'] == row.headline
    assert line['chosen'] == entry['chosen'] == row.chosen
  assert Image.open(out / 't.png').size[0] > 1000


def test_nothing_to_tell_yet(tmp_path):
  with pytest.raises(UserError, match='holds no finished system yet'):
    write_comparison(tmp_path)


def test_a_bag_of_words_is_a_run_folder(tiny_folder, tmp_path, monkeypatch):
  monkeypatch.setattr(bovw, 'SIDES', (32,))
  monkeypatch.setattr(bovw, 'VOCABULARIES', (12,))
  recipe = tmp_path / 'words.py'
  all_of_it = RECIPE.format(folder=str(tiny_folder))
  recipe.write_text(f'{all_of_it}\n\nall_of_it = get_comparison\n\n\n{WORDS_ALONE}')
  updates = {'data.image_size': (20, 20), 'data.eval_crop': 1.0}
  compare.compare(str(recipe), updates, (0,), tmp_path / 'runs', tmp_path)
  run = Run(tmp_path / 'runs' / 'old_words' / 'seed-0')
  assert run.experiment == config.recipe(f'{recipe}:old words', updates)
  assert 0 <= run.result('test')['top1'] <= 1 and run.summary['seconds']['train'] > 0
  vocabulary, width = run.summary['vocabulary'], 384 if run.summary['color'] else 128
  patches, values = 3 * 3, 3 * 21 * vocabulary  # patches of 32 pixels; the map of the pyramid
  assert run.summary['macs'] == vocabulary * patches * width + 3 * values
  assert run.summary['parameters'] == vocabulary * width + 3 * (values + 1)


@pytest.mark.slow
def test_the_whole_of_it(recipe, capsys):
  root = recipe.parent / 'runs'
  flags = [
    'compare',
    f'--config={recipe}',
    f'--workdir={root}',
    '--config.epochs=3',
    '--config.optim.warmup.epochs=1',
  ]
  assert commands.main(flags) == 0
  rows = read_rows(root)
  summaries = summaries_of(root)
  assert len(rows) == 3 and len(summaries) == 6
  for row in rows:
    summary = summaries[f'{row.system.replace(" ", "_")}/seed-0']
    assert row.headline == 100 * summary['test']['top1'] and row.parameters == summary['parameters']
  assert f'teacher: {root / "teacher" / "seed-0"}' in (out := capsys.readouterr().out)
  assert '== ' in out
  assert commands.main(flags) == 0  # nothing left to do: the table alone
  assert summaries_of(root) == summaries and '== ' not in capsys.readouterr().out
