"""What runs reached, beside the papers' figures."""

import csv
import json

import pytest

from vit_jax import commands, config


@pytest.fixture
def write_run(tmp_path):
  """write_run(folder, model, data, result, ...) -> a run folder that has ended."""

  def write(folder, model, data, results, **more):
    path = tmp_path / folder
    path.mkdir()
    evals = {name: {'kind': 'classify'} for name in results}
    resolved = config.resolve(
      {'epochs': 300.0, 'model': model, 'data': data, 'evals': evals, **more}
    )
    (path / 'config.json').write_text(resolved.to_json())
    (path / 'summary.json').write_text(json.dumps(results))
    return path

  return write


IMAGENET = {'name': 'imagenet2012:5.1.0', 'image_size': (224, 224)}


def test_a_run_stands_in_its_row(write_run, only, tmp_path, capsys, uncounted):
  only('DeiT-Ti', 'DeiT-Ti distilled', 'ResNet-18')
  run = write_run(
    'my_deit',
    {'name': 'DeiT-Ti/16', 'dtype': 'bfloat16'},
    IMAGENET,
    {
      'val': {'top1': 0.9, 'top5': 0.9},
      'test': {'top1': 0.7125, 'top5': 0.905},
      'real': {'top1': 0.79},
    },
  )
  narrow = write_run('narrow', {'name': 'Ti/16', 'width': 96}, IMAGENET, {'test': {'top1': 0.6}})
  path = tmp_path / 'deit.csv'
  assert commands.main(['report', '--table=deit', f'--csv={path}', str(run), str(narrow)]) == 0
  text = capsys.readouterr().out
  lines = [line.split() for line in text.splitlines()]
  assert ['my_deit', '71.25', '90.50', '79.00'] in lines
  assert ['difference', '-0.95', '-1.10'] in lines
  assert sum(line[:1] == ['my_deit'] for line in lines) == 1
  assert f'{narrow}: Ti/16 at 224x224 pixels on imagenet2012:5.1.0, which fits no row' in ' '.join(
    text.split()
  )
  written = {row['model']: row for row in csv.DictReader(path.open())}
  deit = written['DeiT-Ti']
  assert deit['run'] == str(run) and float(deit['imagenet_ours']) == 71.25
  assert float(deit['imagenet_difference']) == pytest.approx(71.25 - 72.2)
  assert deit['v2_ours'] == '' and written['DeiT-Ti distilled']['run'] == ''


def test_a_run_is_of_its_pretraining_data(write_run, only, capsys, uncounted):
  """The rows of one model differ in that; a start that nobody knows fits none of them."""
  only('ViT-B/32')
  data = {'name': 'cifar10', 'image_size': (384, 384)}
  start = write_run('start', {'name': 'B/32'}, {'name': 'imagenet21k'}, {})
  result = {'test': {'top1': 0.98}}
  known = write_run('known', {'name': 'B/32'}, data, result, init_from=str(start))
  unknown = write_run('unknown', {'name': 'B/32'}, data, result, init_from='B_32.npz')
  small = write_run('small', {'name': 'B/32'}, {**data, 'image_size': (224, 224)}, result)
  assert commands.main(['report', '--table=vit_table5', *map(str, (known, unknown, small))]) == 0
  text = capsys.readouterr().out
  fits, row = {}, ''
  for line in text.splitlines():
    row = line.split()[1] if line.startswith('ViT-B/32') else row
    if '98.00' in line:
      fits.setdefault(line.split()[0], []).append(row)
  assert fits == {'known': ['ImageNet-21k']}
  assert (
    f'{unknown}: B/32 at 384x384 pixels on cifar10, started from B_32.npz, whose training '
    'data is unknown, which fits no row' in ' '.join(text.split())
  )
  assert f'{small}: B/32 at 224x224 pixels on cifar10, which fits no row' in ' '.join(text.split())
