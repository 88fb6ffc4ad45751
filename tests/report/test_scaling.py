"""Runs to points, points to a study, and one sentence for what makes none."""

import csv
import functools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vit_jax import commands, config, models
from vit_jax.config import recipes
from vit_jax.models import flops
from vit_jax.report import laws, scaling, scaling_plots
from vit_jax.report.laws import Law
from vit_jax.report.scaling import EXA, Point
from vit_jax.tables import write_csv

ROOT = Path(__file__).parents[2]
LAW = Law(0.6 * 1e9**0.3, 0.3, 0.05, 1e9)  # of compute in FLOP
SIZES = {16: 9_888, 32: 36_160}  # width -> multiply-accumulates, counted by hand below


@pytest.fixture
def write_point(tmp_path):
  """write_point(folder, ...) -> a run folder as a sweep of tiny models leaves it."""

  def write(
    folder: str,
    *,
    width: int = 16,
    examples: int = 1000,
    steps: int = 100,
    error: float = 0.25,
    ended: bool = True,
    data: str = 'fashion_mnist',
    **keys,
  ) -> Path:
    path = tmp_path / 'runs' / folder
    path.mkdir(parents=True)
    x = config.resolve(
      {
        'steps': steps,
        'batch_size': 8,
        'data': {
          'name': data,
          'num_classes': 10,
          'channels': 1,
          'image_size': (8, 8),
          'mean': (0.5,),
          'std': (0.5,),
          'train': f'train[:{examples}]',
        },
        'model': {
          'name': 'Ti/4',
          'width': width,
          'depth': 1,
          'heads': 1,
          'mlp': 2 * width,
          'pool': 'mean',
        },
        'evals': {'test': {'kind': 'classify'}},
        **keys,
      }
    )
    (path / 'config.json').write_text(x.to_json())
    if ended:
      (path / 'summary.json').write_text(
        json.dumps(
          {
            'test': {'top1': 1 - error, 'loss': 1.5},
            'seconds': {'train': 3.5},
            'steps': steps,
            'examples': examples,
            'parameters': 100 * width,
            'digits': {'10-shot': 1 - 2 * error},
          }
        )
      )
    return path

  return write


def macs(D: int, N: int = 4, patch: int = 16, K: int = 10) -> int:
  """Embedding, qkv and out, scores and values, MLP of 2 D, head."""
  return N * patch * D + 4 * N * D * D + 2 * N * N * D + 4 * N * D * D + D * K


def test_a_run_is_a_point(write_point):
  assert {width: macs(width) for width in SIZES} == SIZES
  runs = [
    write_point('b', width=32, steps=50, error=0.125, examples=8000, seed=3),
    write_point('a', width=16),
  ]
  first, second = scaling.read_points(runs)  # by compute
  assert second == Point(
    run='b',
    data='fashion_mnist',
    model='Ti/4 mlp=64 width=32',
    seed=3,
    parameters=3200,
    examples=8000,
    images=400,
    gflops=2 * SIZES[32] / 1e9,
    exaflops=6 * SIZES[32] * 400 / EXA,
    metric='test/top1',
    error=0.125,
    loss=1.5,
    seconds=3.5,
  )
  assert first.run == 'a' and first.exaflops == 6 * SIZES[16] * 800 / EXA


def test_another_metric(write_point, capsys):
  """An eval of features (config.evals) in place of the accuracy on the test split."""
  run = write_point('a', error=0.125)
  (point,) = scaling.read_points([run], 'digits/10-shot')
  assert (point.metric, point.error, point.loss) == ('digits/10-shot', 0.25, 1.5)
  assert 'did you mean' in refused(capsys, run, '--scaling', '--metric=digits/10-shots')
  assert 'has not measured' in refused(capsys, run, '--scaling', '--metric=test/loss')
  assert 'add --scaling' in refused(capsys, run, '--metric=digits/10-shot')
  table = run.parent / 'points.csv'
  write_csv(table, [point._asdict()])
  assert 'of one metric' in refused(capsys, run, table, '--scaling')
  assert scaling.read_points([table]) == [point]


def made_up(noise: float = 0.02, seed: int = 0) -> list[Point]:
  """Four models of three data sizes and four lengths; those with all the data follow LAW."""
  rng, points = np.random.default_rng(seed), []
  for size in range(4):
    for examples in (1000, 8000, 60000):
      for length in range(4):
        flop = 1e10 * 6**size * 2**length
        error = LAW(flop) * np.exp(noise * rng.standard_normal()) * (60000 / examples) ** 0.1
        points.append(
          Point(
            f'r{size}-{examples}-{length}',
            'made_up',
            f'M{size}',
            0,
            10 ** (4 + size),
            examples,
            1000 * 2**length,
            0.1,
            flop / EXA,
            'test/top1',
            float(error),
            1.0,
            60.0,
          )
        )
  return points


@pytest.fixture(scope='module')
def study():
  return scaling.study(made_up(), resamples=40)


def test_the_largest_compute_is_held_out_whole(study):
  largest = [point for point in study.points if point.exaflops == study.held_out.exaflops]
  assert len(largest) == 3  # of three data sizes, of which the best speaks
  assert study.held_out.error == min(point.error for point in largest)
  assert study.held_out in study.best
  seen = [point for point in study.points if point not in largest]
  best = [seen[i] for i in laws.frontier(*scaling._arrays(seen))]
  alone = laws.fit(*scaling._arrays(best), resamples=40)
  assert study.blind.law == alone.law and study.fit.law != alone.law
  predicted, low, high = study.predicted
  assert low <= study.held_out.error <= high and predicted == alone.law(study.held_out.exaflops)


def test_what_is_printed(study):
  text = scaling.as_words(study)
  assert (
    '48 runs on made_up, judged by test/top1: 4 models of 10,000 to 10,000,000 parameters' in text
  )
  assert '3 data sizes (1,000, 8,000, 60,000), 48 min 00 s of training' in text
  assert study.unit == 'gigaFLOPs'
  ours = next(line for line in text.splitlines() if line.startswith('made_up, here'))
  published = [line for line in text.splitlines() if 'TPUv3 core-days' in line]
  assert published[0].split()[-4:] == ['0.26', '0.35', '0.09', '0.01']
  b, (low, high) = study.fit.law.b, study.fit.interval(lambda law: law.b)
  assert f'{b:.3g} ({low:.3g} to {high:.3g})' in ours
  d = study.fit.law.d * 1e9  # an exaFLOP is 1e9 gigaFLOPs
  assert f'  {d:.3g} (' in ours
  frontier = text.split('frontier: ')[1].split('\n\n')[1].splitlines()
  assert len(frontier) == 1 + len(study.best) and frontier[-1].startswith(study.best[-1].model)
  assert 'within the interval' in text and 'at 10 times the largest compute' in text


def test_a_surprise_is_reported():
  points = made_up()
  largest = max(point.exaflops for point in points)
  points = [
    point._replace(error=point.error * 0.7) if point.exaflops == largest else point
    for point in points
  ]
  assert 'outside the interval' in scaling.as_words(scaling.study(points, resamples=40))


def test_the_command_writes_table_and_picture(write_point, tmp_path, monkeypatch, capsys):
  """From runs, and again from their table alone."""
  runs = [
    write_point(
      f'{width}-{steps}', width=width, steps=steps, error=float(LAW(6e4 * SIZES[width] * 8 * steps))
    )
    for width in SIZES
    for steps in (100, 200, 400, 800)
  ]
  monkeypatch.setattr(scaling, 'study', functools.partial(scaling.study, resamples=20))
  table, picture = tmp_path / 'scaling.csv', tmp_path / 'scaling.png'
  assert (
    commands.main(['report', '--scaling', *map(str, runs), f'--csv={table}', f'--png={picture}'])
    == 0
  )
  text = capsys.readouterr().out
  assert '8 runs on fashion_mnist' in text and str(tmp_path) not in table.read_text()
  assert Image.open(picture).size[0] > 1000
  assert commands.main(['report', '--scaling', str(table)]) == 0
  assert capsys.readouterr().out == text
  with table.open() as file:
    rows = list(csv.DictReader(file))
  assert [row['run'] for row in rows][:1] == ['16-100'] and len(rows) == 8


def test_what_is_drawn(study):
  drawn = scaling_plots.figure(study)
  left, right = drawn.axes
  marks = [
    line for line in left.lines if line.get_linestyle() == 'None' and len(line.get_xdata()) == 1
  ]
  assert len([line for line in marks if line.get_marker() in 'osD']) == len(study.points)
  assert len({line.get_color() for line in marks if line.get_marker() == 'o'}) == 4
  (legend,) = drawn.legends
  assert [text.get_text() for text in legend.get_texts()][-3:] == [
    '1k examples',
    '8k examples',
    '60k examples',
  ]
  curves = [line for line in right.lines if len(line.get_xdata()) > 1]
  smallest = [
    min(
      point.error
      for point in study.points
      if (point.parameters, point.examples) == (10_000, examples)
    )
    for examples in (1000, 8000, 60000)
  ]
  assert len(curves) == 4 and list(curves[0].get_ydata()) == smallest


def test_the_grid():
  """Six sizes over 1.5 decades of parameters and compute, three of data, five of length."""
  path = ROOT / 'configs' / 'scaling.py'
  runs = recipes.load_sweep(str(path))
  settled = [config.recipe(path, run) for run in runs]
  assert len({x.to_json() for x in settled}) == len(runs) == 90
  assert len({x.data.train for x in settled}) == 3 and len({x.examples for x in settled}) == 5
  macs = {
    flops.forward_macs(models.build(x.model.name, 10, x.model.options), (28, 28, 1))
    for x in settled
  }
  assert len(macs) == 6 and max(macs) > 10**1.5 * min(macs)


def refused(capsys, *argv: str | Path) -> str:
  assert commands.main(['report', *map(str, argv)]) == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1
  return error


def test_runs_that_make_no_study(write_point, tmp_path, capsys):
  run = write_point('run')
  assert '--scaling: of the 1 runs' in refused(capsys, '--scaling', run)
  assert 'runs/open' in refused(capsys, '--scaling', run, write_point('open', ended=False))
  told = refused(capsys, '--scaling', run, write_point('other', data='mnist_10k'))
  assert "'fashion_mnist'" in told and "'mnist_10k'" in told
  tuned = write_point('tuned', init_from='elsewhere')
  assert 'elsewhere' in refused(capsys, '--scaling', run, tuned)
  assert 'perfect' in refused(capsys, '--scaling', write_point('perfect', error=0.0))
  broken = tmp_path / 'broken.csv'
  for content in (b'run,data\na,b\n', b'\x89PNG\r\n\xff\x00'):
    broken.write_bytes(content)
    assert 'columns run, data, model' in refused(capsys, '--scaling', broken)


def test_flags_that_do_not_fit(write_point, tmp_path, capsys):
  run = write_point('run')
  assert 'add --scaling' in refused(capsys, run, '--png=x.png')
  for path in ('x.pdf', f'{tmp_path}/nowhere/x.png'):
    assert f'--png: {path!r}' in refused(capsys, '--scaling', run, f'--png={path}')
