"""`vit_jax compare` of translation systems: a real comparison of a few steps, and its table."""

import csv
import json
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from vit_jax import commands, models
from vit_jax.evaluate.translation import score_by_length
from vit_jax.models import flops
from vit_jax.models.texts import Texts
from vit_jax.report import lengths
from vit_jax.report.comparison import draw, read_rows
from vit_jax.run import Run

RECIPE = """
from ml_collections import ConfigDict

MODELS = dict(old=dict(name='RNN-GRU', width=8, alignment='none'),
              new=dict(name='RNN-GRU', width=8, alignment='dot'))


def get_comparison():
  return [dict(name='new', year=2015{choices}), dict(name='old', year=2014)]


def get_config(name):
  return ConfigDict(dict(
      name='compared', steps=2, batch_size=64, eval_batch_size=64, model=MODELS[name],
      data=dict(kind='pairs', name={data!r}, tokens='words', vocabulary=0, max_length=16,
                buckets=(16,)),
      evals=dict(test=dict(kind='translate', split='test')), checkpoint=dict(minutes=0.0)))
"""


def write(path: Path, choices: str = '') -> Path:
  """A recipe of two systems, and the pairs that it learns from, beside it."""
  for split, count in (('train', 24), ('test', 9)):
    words = [' '.join(chr(97 + (i * j) % 7) for j in range(1 + i)) for i in range(count)]
    lines = [line[:25] for line in words]
    (path / f'{split}.src').write_text(''.join(f'{line}\n' for line in lines))
    (path / f'{split}.tgt').write_text(''.join(f'{line.upper()}\n' for line in lines))
  recipe = path / 'compared.py'
  recipe.write_text(RECIPE.format(data=f'pairs:{path}', choices=choices))
  return recipe


class Compared(NamedTuple):
  root: Path
  csv: list[dict[str, str]]
  told: dict  # as JSON
  plot: Path


@pytest.fixture(scope='module')
def compared(tmp_path_factory):
  path = tmp_path_factory.mktemp('compared')
  root, files = path / 'runs', [path / f'table.{kind}' for kind in ('csv', 'json', 'png')]
  flags = [f'--config={write(path)}', f'--workdir={root}', f'--data_dir={path}']
  flags += [f'--{name}={file}' for name, file in zip(('csv', 'json', 'plot'), files, strict=True)]
  assert commands.main(['compare', *flags]) == 0
  rows = list(csv.DictReader(files[0].open()))
  return Compared(root, rows, json.loads(files[1].read_text()), files[2])


def test_the_table_says_what_the_runs_do(compared):
  assert list(compared.csv[0]) == [
    'system',
    'year',
    'tokens',
    'bleu',
    'spread',
    'exact',
    'seeds',
    'parameters',
    'mflops',
    'seconds',
    'seconds_in_all',
    'chosen',
  ]
  assert [row['system'] for row in compared.csv] == ['old', 'new']  # by year
  for row, told in zip(compared.csv, compared.told['rows'], strict=True):
    summary = Run(compared.root / row['system'] / 'seed-0').summary
    assert float(row['bleu']) == told['bleu'] == summary['test']['bleu']
    assert float(row['exact']) == told['exact'] == 100 * summary['test']['exact']
    assert int(row['parameters']) == summary['parameters']
    assert float(row['seconds']) == float(row['seconds_in_all']) == summary['seconds']['train']
  assert 'on the test sentences' in compared.told['note']


def test_flops_are_those_of_a_pair_of_mean_length(compared):
  run = Run(compared.root / 'new' / 'seed-0')
  found, vocabularies = run.translations['test'], run.vocabularies
  lines = [found.sources, found.references]
  shape = [round(sum(len(line.split()) for line in side) / len(side)) + 1 for side in lines]
  texts = Texts(len(vocabularies.source))
  options = run.experiment.model.options
  model = models.build('RNN-GRU', len(vocabularies.target), options, texts)
  (row,) = (row for row in compared.csv if row['system'] == 'new')
  assert int(row['tokens']) == sum(shape)
  assert float(row['mflops']) == pytest.approx(2e-6 * flops.forward_macs(model, tuple(shape)))


def test_the_plot_is_scores_by_length(compared):
  assert Image.open(compared.plot).size[0] > 1000
  rows = read_rows(compared.root)
  panels = draw(rows).axes
  assert [axes.get_ylabel() for axes in panels] == ['BLEU', 'exact match']
  for row, container in zip(rows, panels[1].containers, strict=True):
    assert container.get_label() == f'{row.system} ({row.year})'
    found = row.runs[0].translations['test']
    groups = score_by_length(found.sources, found.translations, found.references)
    assert container[0].get_ydata().tolist() == [group.scores.exact for group in groups]
    assert groups == lengths.scores(row.runs[0], 'test')


def test_choices_of_translation_systems_are_refused(tmp_path, capsys):
  recipe = write(tmp_path, ", choices=[{'optim.lr': 1e-3}]")
  assert commands.main(['compare', f'--config={recipe}', f'--workdir={tmp_path / "runs"}']) == 2
  error = capsys.readouterr().err
  assert "'new' choices, but pairs of sentences have no part to hold out" in error
  assert error.count('\n') == 1 and not (tmp_path / 'runs').exists()
