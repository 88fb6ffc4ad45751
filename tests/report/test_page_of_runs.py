"""What a page says of several runs at once."""

import json

import numpy as np
import pytest
from read_page import page, table

from vit_jax.report import plots


def test_several_runs_are_compared(write_run):
  first, second = write_run('first', top1=0.70), write_run('second', top1=0.66)
  read = page(first, second)
  assert not (second / 'report.html').exists()
  mean, spread = np.mean([0.70, 0.66]), np.std([0.70, 0.66], ddof=1)
  assert f'{mean:.4f} ± {spread:.4f}' in read.text
  ids = [attrs['id'] for _, attrs in read.tags if 'id' in attrs]
  assert len(ids) == len(set(ids))
  assert 'first, val' in read.text and 'second, val' in read.text


def change(run, key: str, value) -> None:
  """Sets a key of the recipe that a run folder holds."""
  config = json.loads((run / 'config.json').read_text())
  config[key] = value
  (run / 'config.json').write_text(json.dumps(config))


def test_recipes_that_differ_stand_beside_what_they_reached(write_run):
  first, second = write_run('first', top1=0.70), write_run('second', top1=0.66)
  change(second, 'model', {'name': 'S/8', 'depth': 3})
  change(second, 'log', {'every': 7})  # says nothing about a result
  page(first, second)
  text = (first / 'report.html').read_text()
  head, *lines = table(text, 'Recipes and results')
  assert head == [
    'run',
    'model.name',
    'model.width',
    'model.depth',
    'parameters',
    'steps',
    'seconds of training',
    'top-1, val',
    'loss, val',
  ]
  summaries = [json.loads((run / 'summary.json').read_text()) for run in (first, second)]
  for line, name, summary in zip(lines, ('first', 'second'), summaries, strict=True):
    assert line[0] == name and line[4] == f'{summary["parameters"]:,}'
    assert line[6:] == [
      f'{summary["seconds"]["train"]:.0f}',
      f'{summary["val"]["top1"]:.4f}',
      f'{summary["val"]["loss"]:.4f}',
    ]
  assert [line[1:4] for line in lines] == [['Ti/8', '128', ''], ['S/8', '', '3']]
  assert 'standard deviation' not in text  # they are two things, not two seeds of one


def test_seeds_alone_are_averaged(write_run):
  runs = [write_run(f'seed{seed}', top1=0.6 + seed / 10) for seed in range(3)]
  for seed, run in enumerate(runs):
    change(run, 'seed', seed)
  assert f'0.7000 ± {np.std([0.6, 0.7, 0.8], ddof=1):.4f}' in page(*runs).text


def judge_features(run, *values: float) -> None:
  """Adds few-shot accuracies on `digits`, at two steps, the last also as the end has them."""
  rows = [
    {'step': step, 'digits/1-shot': value / 2, 'digits/5-shot': value}
    for step, value in zip((5, 10), values, strict=True)
  ]
  with (run / 'metrics.jsonl').open('a') as file:
    file.write(''.join(json.dumps(row) + '\n' for row in rows))


def test_features_judged_on_other_data(write_run):
  first, second, plain = write_run('first'), write_run('second'), write_run('plain')
  judge_features(first, 0.5, 0.75)
  judge_features(second, 0.25, 0.5)
  figure = next(svg for svg in page(first).of('svg') if svg['aria-label'].startswith('digits'))
  assert figure['aria-label'].endswith('1-shot: 0.375; 5-shot: 0.75')
  assert table((first / 'report.html').read_text(), 'Features on other data') == [
    ['data set, method', 'accuracy'],
    ['digits, 1-shot', '0.3750'],
    ['digits, 5-shot', '0.7500'],
  ]
  page(second, first, plain)
  assert table((second / 'report.html').read_text(), 'Features on other data') == [
    ['data set, method', 'second', 'first', 'plain'],
    ['digits, 1-shot', '0.2500', '0.3750', ''],
    ['digits, 5-shot', '0.5000', '0.7500', ''],
  ]
  assert 'Features on other data' not in page(plain).text


def test_many_runs_have_colors_of_their_own(write_run):
  runs = [write_run(f'run{i}', files={}) for i in range(9)]
  read = page(*runs)
  loss = next(svg for svg in read.of('svg') if svg['aria-label'].startswith('Loss'))
  assert all(f'run{i}, val' in loss['aria-label'] for i in range(9))
  assert len(set(plots.colors(9))) == 9 and plots.colors(3) == plots.COLORS


def test_runs_of_a_sweep_are_called_by_the_keys_that_differ(write_run):
  read = page(
    *(
      write_run(f'width={width},lr=0.001,train=train_8000_,examples=163840', files={})
      for width in (16, 112)
    )
  )
  assert 'width=112, val' in read.text and 'lr=0.001' not in read.text


@pytest.mark.parametrize('letters', [6, 66])
def test_long_names_leave_room_for_the_curves(letters):
  step_T = np.arange(5)
  lines = [plots.Line(letter * letters, step_T, step_T, plots.INK) for letter in 'wxyz']
  figure = plots.curves(lines)
  figure.draw_without_rendering()
  place = figure.axes[0].get_position()
  assert place.width > 0.8 and place.height * figure.get_figheight() > 2
