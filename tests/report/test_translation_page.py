"""The page of translation runs."""

import json
import re
import sys

import numpy as np
import pytest
from made_up_run import predictions
from made_up_translations import RIGHT, SOURCES, alignment, write
from read_page import page, table

from vit_jax import commands
from vit_jax.evaluate.translation import LengthScores, Scores, score
from vit_jax.report import lengths
from vit_jax.report.alignment import alignment_figure
from vit_jax.run import Run


def headlines(read: str) -> list[str]:
  return re.findall(r'<h2>(.*?)</h2>', read)


def html_of(*runs) -> str:
  page(*runs)
  return (runs[0] / 'report.html').read_text()


def test_the_parts_of_a_page(tmp_path, write_run):
  read = html_of(write(tmp_path / 'run', aligned=[alignment()]))
  assert headlines(read) == [
    'Training',
    'Scores on test by length of the source',
    'Alignments',
    'Translations of test',
  ]
  body = read.partition('</style>')[2].partition('<details>')[0]
  for word in ('top-1', 'images', '<img', 'Confusion', 'Calibration', 'has learned'):
    assert word not in body
  assert headlines(html_of(write_run())) == ['Training', 'Images of val', 'Mistakes on val']


def test_what_was_reached(tmp_path):
  read = html_of(write(tmp_path / 'run', aligned=[alignment()]))
  assert 'BLEU on test' in read and re.search(r'width:41.25%.*>41.2<', read)
  facts = dict(re.findall(r'<dt>(.*?)</dt><dd>(.*?)</dd>', read))
  assert facts['chrF, test'] == '61.8' and facts['exact match, test'] == '75.0%'
  assert facts['loss per token, test'] == '0.875'
  assert facts['alignment error rate, test'] == '0.375'
  assert facts['tokens per second, median'] == '906'
  without = html_of(write(tmp_path / 'without'))
  assert 'alignment error rate' not in without and 'Alignments' not in without


def test_the_curves(tmp_path):
  words = [svg['aria-label'] for svg in page(write(tmp_path / 'run')).of('svg')]
  curves = [label for label in words if 'over steps' in label]
  assert [label.partition(' over')[0] for label in curves] == [
    'Loss per token',
    'Accuracy per token',
    'BLEU',
    'Learning rate',
    'Tokens per second',
  ]
  assert curves[0].endswith('train, labels smoothed: 0.3; test: 0.2')
  assert curves[2].endswith('test: 40')


def test_a_bleu_that_was_measured_once_is_no_curve(tmp_path):
  run = write(tmp_path / 'run')
  rows = (run / 'metrics.jsonl').read_text().splitlines()
  once = [line for line in rows if 'bleu' not in line or json.loads(line)['step'] == 10]
  (run / 'metrics.jsonl').write_text('\n'.join(once) + '\n')
  words = [svg['aria-label'] for svg in page(run).of('svg')]
  assert not any(label.startswith('BLEU over') for label in words)
  assert any('test: 0.2' in label for label in words)  # the loss, as a point beside training's


def test_scores_by_length(tmp_path):
  first, second = write(tmp_path / 'first'), write(tmp_path / 'second', seed=4)
  caption = 'by length of the source'
  head, counts, bleu, exact = table(html_of(first), caption)
  assert head == ['words of the source', '1-6', '7-12'] and counts == ['sentences', '2', '2']
  assert (bleu[0], exact) == ('BLEU', ['exact match', '100.0%', '50.0%'])
  _, _, *rows = table(html_of(first, second), caption)
  assert rows == [
    [f'{name}, {row[0]}', *row[1:]] for row in (bleu, exact) for name in ('first', 'second')
  ]
  found = Run(first).translations['test']
  expected = score(found.translations[1:3], found.references[1:3]).bleu
  assert bleu[2] == f'{expected:.1f}'
  assert 'nrefs:1|of|a|test' in (first / 'report.html').read_text()


def test_a_line_for_each_system_and_bars_for_its_seeds():
  def rows(*exact: float) -> list[LengthScores]:
    groups = ((1, 6), (7, 12), (51, 0))
    return [
      LengthScores(*group, Scores(9, 10.0, 20.0, value, ''))
      for group, value in zip(groups, exact, strict=False)
    ]

  figure = lengths.length_figure(
    {'old': [rows(0.5, 0.25)], 'new': [rows(1, 1, 0.5), rows(0, 1, 0)]}
  )
  bleu, exact = figure.axes
  assert [label.get_text() for label in exact.get_xticklabels()] == ['1-6', '7-12', '51+']
  (old, _, old_bars), (new, _, new_bars) = exact.containers
  assert old.get_ydata().tolist() == [0.5, 0.25] and not old_bars
  assert new.get_ydata().tolist() == [0.5, 1, 0.25] and new_bars
  spread = np.std([1, 0], ddof=1)
  low, high = new_bars[0].get_segments()[0][:, 1]
  assert (low, high) == pytest.approx((0.5 - spread, 0.5 + spread))
  assert exact.get_ylim()[1] <= 1.05 and bleu.get_ylim()[0] == 0


def test_every_translation_is_marked_right_or_wrong(tmp_path):
  read = html_of(write(tmp_path / 'run'))
  kinds = re.findall(r'<dl class="sentence (\w+)">', read)
  assert sorted(kinds) == sorted('right' if right else 'wrong' for right in RIGHT)
  assert read.count('✓') == 3 and read.count('✗') == 1
  assert re.findall(r'<mark>(.*?)</mark>', read) == ['noch einer', 'kein anderer']


def test_sentences_are_text_and_never_markup(tmp_path):
  read = page(write(tmp_path / 'run', aligned=[alignment()]))
  assert len(read.of('b')) == 4 and not read.of('i')  # the marks
  assert SOURCES[2] in read.text and '<i>Satz</i> &' in read.text
  assert '<eins>' in read.text  # of an axis


def test_alignments_beside_gold_links(tmp_path):
  known, unknown = alignment(), alignment(links=False)
  read = html_of(write(tmp_path / 'run', aligned=[known, unknown]))
  assert '1 of 2 gold links found' in read and read.count('gold links found') == 1
  assert 'Frames are gold links' in read
  assert read.count('zwei: two; &lt;eins&gt;: one') == 2


def test_no_frames_are_spoken_of_where_no_links_are_known(tmp_path):
  read = html_of(write(tmp_path / 'run', aligned=[alignment(links=False)]))
  assert 'Alignments' in read and 'gold' not in read


@pytest.mark.parametrize('runs, each', [(1, 6), (2, 3), (7, 1)])
def test_alignments_are_few(runs, each, tmp_path):
  folders = [write(tmp_path / f'run{i}', aligned=[alignment()] * 8) for i in range(runs)]
  labels = [svg['aria-label'] for svg in page(*folders).of('svg')]
  drawn = [label for label in labels if label.startswith('Where')]
  assert len(drawn) == 6
  if runs > 1:
    assert sum(label.startswith('Where run0 looks') for label in drawn) == each


def test_frames_are_on_gold_links():
  figure = alignment_figure(np.eye(2), ['a', 'b'], ['x', 'y'], [(0, 1)])
  (frame,) = figure.axes[0].patches
  assert frame.get_xy() == (-0.5, 0.5)


def test_runs_are_compared_by_what_translations_are_judged_on(tmp_path):
  runs = [write(tmp_path / f'seed{seed}', seed=seed, bleu=40.0 + seed) for seed in range(2)]
  read = html_of(*runs)
  mean = 'mean of 2 runs ± standard deviation, test'
  assert f'{mean}</th><td>40.50 ± 0.71</td>' in read
  assert table(read, 'Recipes and results')[0][-3:] == [
    'BLEU, test',
    'exact match, test',
    'loss per token, test',
  ]


def test_a_run_that_has_not_ended_has_a_page(tmp_path):
  read = html_of(write(tmp_path / 'run', ended=False))
  assert 'this run has not ended' in read and headlines(read) == ['Training']
  assert '>40.0<' in read  # the last BLEU


def test_runs_of_two_kinds_are_refused(tmp_path, write_run, capsys):
  runs = [write_run('images', files={'val': predictions(40)}), write(tmp_path / 'pairs')]
  assert commands.main(['report', *map(str, runs)]) == 2
  error = capsys.readouterr().err
  assert 'learns from images' in error and 'translates sentences' in error
  assert error.count('\n') == 1 and not (runs[0] / 'report.html').exists()


def test_without_sacrebleu_the_page_says_why(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'sacrebleu.metrics.bleu', None)
  assert 'Without scores by length: translations are scored by' in html_of(write(tmp_path / 'run'))
