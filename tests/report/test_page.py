import re
import shutil

import numpy as np
import pytest
from made_up_run import PATCH, predictions
from read_page import Page, page

from vit_jax import commands
from vit_jax.errors import UserError
from vit_jax.evaluate import metrics
from vit_jax.report import plots, transfer
from vit_jax.report.page import write_page
from vit_jax.run.folder import Run
from vit_jax.transfer import suite


def world(count=12):
  return predictions(count, positions=[(PATCH * (i % 18), PATCH * i) for i in range(count)])


def test_needs_nothing_from_elsewhere(write_run):
  read = page(write_run(files={'val': predictions(40), 'world': world()}))
  assert not read.of('script') and not read.of('link') and not read.of('base')
  references = [
    value
    for _, attrs in read.tags
    for name, value in attrs.items()
    if name in ('src', 'href', 'xlink:href', 'srcset', 'action', 'poster', 'data')
  ]
  assert len(references) > 10
  assert all(value.startswith(('#', 'data:')) for value in references)
  css = ' '.join(
    [read.text, *(attrs.get('style', '') + attrs.get('clip-path', '') for _, attrs in read.tags)]
  )
  assert '@import' not in css
  assert set(re.findall(r'url\(\s*[\'"]?(.)', css)) <= {'#'}


def test_can_be_read_without_seeing_it(write_run):
  read = page(write_run(files={'val': predictions(40), 'world': world()}))
  assert len(read.of('h1')) == 1 and 'a_run' in read.text
  assert all(image['alt'] for image in read.of('img'))
  assert all(svg['role'] == 'img' and svg['aria-label'] for svg in read.of('svg'))
  ids = [attrs['id'] for _, attrs in read.tags if 'id' in attrs]
  assert ids and len(ids) == len(set(ids))
  referred = {
    attrs['xlink:href'][1:] for _, attrs in read.tags if attrs.get('xlink:href', '').startswith('#')
  }
  assert referred <= set(ids)


def test_the_run_is_shown_above_the_majority_class(write_run):
  arrays = predictions(40)
  arrays['label_N'] = np.array([0] * 13 + [1] * 10 + [2] * 9 + [-1] * 8, np.int32)
  text = page(write_run(top1=0.694, files={'val': arrays})).text
  assert text.index('40.6%') < text.index('69.4%')  # 13 of the 32 that have a label
  assert '123,456 parameters' in text
  assert 'has not ended' not in text


def test_every_image_of_the_sample_is_marked_right_or_wrong(write_run):
  arrays = predictions(40)
  arrays['sample_S'] = np.array([1, 2, 3, 39])  # the last has no label
  arrays['label_N'][1:4] = [0, 1, 2]
  arrays['prediction_N'][1:4] = [0, 2, 2]
  arrays['images_SHWC'] = arrays['images_SHWC'][:4]
  read = page(write_run(files={'val': arrays}))
  alts = [image['alt'] for image in read.of('img')]
  assert [alt.split(': ')[1] for alt in alts] == ['right', 'is BWh', 'right', 'no label']
  assert alts[1].startswith('predicted EF')
  kinds = [attrs['class'] for attrs in read.of('figure') if 'class' in attrs]
  assert kinds == ['right', 'wrong', 'right', 'unknown']
  assert read.text.count('✗') == 1 and read.text.count('✓') == 2


@pytest.mark.parametrize('shape, kind', [((6, 8, 8, 1), 'png'), ((6, 90, 70, 3), 'jpeg')])
def test_gray_and_large_images_are_shown(write_run, shape, kind):
  arrays = predictions(40) | {'images_SHWC': np.full(shape, 77, np.uint8)}
  images = page(write_run(files={'val': arrays})).of('img')
  assert len(images) == 6
  assert all(image['src'].startswith(f'data:image/{kind};base64,') for image in images)


def test_a_run_that_has_not_ended_has_a_page(write_run):
  path = write_run(ended=False)
  read = page(path)
  assert 'this run has not ended' in read.text and '10 steps' in read.text
  assert len(read.of('svg')) == 4 and not read.of('img')
  (path / 'metrics.jsonl').unlink()
  shutil.rmtree(path / 'predictions')
  read = page(path)
  assert '0 steps' in read.text and not read.of('svg')


def test_damaged_lines_are_named_on_the_page(write_run):
  path = write_run()
  with (path / 'metrics.jsonl').open('a') as file:
    file.write('no json\n')
  read = page(path)
  assert 'metrics.jsonl' in read.text and len(read.of('svg')) == 6


def test_a_diverged_run_has_a_page(write_run):
  path = write_run(ended=False)
  (path / 'metrics.jsonl').write_text(
    '{"step": 1, "train/loss": 2.5}\n{"step": 2, "train/loss": Infinity}\n'
    '{"step": 3, "train/loss": NaN}\n'
  )
  assert len(page(path).of('svg')) == 1


def test_a_page_elsewhere_leaves_the_runs_alone(write_run, tmp_path, capsys):
  runs = [
    write_run(name, files={'val': predictions(40), 'world': world()})
    for name in ('first', 'second')
  ]
  before = sorted(tmp_path.rglob('*'))
  out = tmp_path / 'page.html'
  assert commands.main(['report', *map(str, runs), f'--page={out}']) == 0
  assert capsys.readouterr().out.strip() == str(out)
  assert sorted(tmp_path.rglob('*')) == sorted([*before, out])
  read = Page(out.read_text())
  assert 'first' in read.text and 'second' in read.text and not read.of('script')


@pytest.mark.parametrize(
  'flags, expected',
  [
    (['--page=page.txt'], "--page: 'page.txt'"),
    (['--page=nowhere/page.html'], "--page: 'nowhere/page.html'"),
    (['--page=page.html', '--goodput'], '--goodput'),
    (['--page=page.html', 'elsewhere'], 'elsewhere'),
  ],
)
def test_a_page_that_cannot_be(flags, expected, write_run, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert commands.main(['report', *flags, str(write_run())]) == 2
  error = capsys.readouterr().err
  assert expected in error and error.count('\n') == 1


@pytest.fixture(scope='module')
def trained(tiny_recipe, tmp_path_factory):
  """A run of two steps, with its checkpoint and its page."""
  workdir = tmp_path_factory.mktemp('trained') / 'run'
  assert (
    commands.main(
      [
        'train',
        f'--config={tiny_recipe}',
        f'--workdir={workdir}',
        '--config.steps=2',
        '--config.optim.warmup.steps=1',
      ]
    )
    == 0
  )
  return workdir


def test_what_the_model_has_learned(trained):
  read = Page((trained / 'report.html').read_text())
  assert not read.of('script')
  assert all(
    value.startswith(('#', 'data:'))
    for _, attrs in read.tags
    for name, value in attrs.items()
    if name in ('src', 'href', 'xlink:href')
  )
  for title in ('What the model has learned', 'Filters', 'Positions', 'Attention distance'):
    assert title in read.text
  words = [svg['aria-label'] for svg in read.of('svg')]
  distance = next(label for label in words if label.startswith('Mean attention distance'))
  assert 'layer 1: ' in distance and 'layer 2: ' in distance and 'layer 3: ' not in distance
  assert any('principal components' in label for label in words)
  assert any(label.startswith('Cosine similarity of position') for label in words)
  assert any('lit where the attention is' in label for label in words)


def test_without_weights_there_is_a_page_that_says_why(trained, tmp_path):
  run = shutil.copytree(trained, tmp_path / 'run')
  shutil.rmtree(run / 'checkpoints')
  (run / 'checkpoints').mkdir()
  assert 'Without pictures of what the model has learned' in page(run).text
  shutil.rmtree(run / 'checkpoints')
  assert 'has learned' not in page(run).text
  assert 'has learned' not in write_page([trained], tmp_path / 'p.html', weights=False).read_text()


def test_names_are_text_and_never_markup(write_run):
  names = ('<script>alert(1)</script>', 'a $1 & a $5', '"quoted"')
  read = page(write_run(name='<b>bold</b>', files={'val': predictions(40, names=names)}))
  assert '<b>bold</b>' in read.text and 'a $1 & a $5' in read.text
  assert not read.of('script')


def test_every_map_is_also_a_picture(write_run):
  path = write_run(files={'val': predictions(40), 'world': world()})
  read = page(path)
  assert [file.name for file in (path / 'figures').iterdir()] == ['world.png']
  assert 'Map of world' in read.text and 'Images of world' not in read.text
  assert 'Images of val' in read.text


def test_a_page_that_cannot_be_written_is_refused(write_run):
  path = write_run()
  (path / 'report.html').mkdir()
  with pytest.raises(UserError, match='report.html cannot be written'):
    write_page([path])
  with pytest.raises(UserError, match='no run folder'):
    write_page([])


def test_ink_takes_the_color_of_the_page(write_run):
  run = Run(write_run())
  svg = plots.to_svg(plots.confusion(run.predictions['val']), 'a "matrix" & more')
  assert plots.INK not in svg and svg.count('currentColor') > 10
  assert '<svg role="img" aria-label="a &quot;matrix&quot; &amp; more"' in svg
  assert re.match(r'<svg[^>]* viewBox="[^>]*>', svg) and not re.match(r'<svg[^>]* width=', svg)


def test_bars_of_calibration_are_what_the_metric_measures(write_run):
  rng = np.random.default_rng(0)
  arrays = predictions(500)
  arrays['label_N'] = rng.integers(0, 3, 500).astype(np.int32)
  arrays['confidence_N'] = rng.beta(5, 2, 500).astype(np.float32)
  read = Run(write_run(files={'val': arrays})).predictions['val']
  upper, lower = plots.reliability(read).axes
  accuracy = {
    round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in upper.patches
  }
  share = {round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in lower.patches}
  bin_N = np.minimum((arrays['confidence_N'] * 15).astype(int), 14)
  gap = sum(
    share[center] * abs(accuracy[center] - arrays['confidence_N'][bin_N == int(center * 15)].mean())
    for center in accuracy
  )
  rank_N = (arrays['label_N'] != arrays['prediction_N']).astype(int)
  expected = metrics.summarize(
    {
      'label': arrays['label_N'],
      'rank': rank_N,
      'confidence': arrays['confidence_N'],
      'loss': np.zeros(500),
    }
  )['ece']
  assert expected > 0.1
  assert gap == pytest.approx(expected, abs=1e-6)


def test_names_that_begin_with_an_underscore_stand_in_the_legends(tmp_path):
  steps_T = np.arange(3)
  lines = [plots.Line(name, steps_T, steps_T, plots.INK) for name in ('_base', 'other')]
  assert '_base' in plots.to_svg(plots.curves(lines), 'two runs')
  rows = [
    suite.TransferRow(
      model, 'digits', 'few_shot', f'{k}-shot', f'{k} shots', 50.0, 1.0, 'seeds', 9, 9, 1.0
    )
    for model in ('_mine', 'B/16')
    for k in (1, 5)
  ]
  transfer.write_page(rows, [], [], tmp_path / 'page.html')
  pictures = (tmp_path / 'page.html').read_text().split('<svg')[1:]
  assert len(pictures) == 3 and all('_mine' in each.partition('</svg>')[0] for each in pictures)
