"""The bench on a small step: figures that add up, and a refusal of what it cannot time."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vit_jax import commands
from vit_jax.bench import feeding, timing
from vit_jax.data.loader import Loader


def test_figures_add_up():
  figures = timing.measure(
    'Ti/16',
    8,
    shape=(32, 32, 3),
    dtypes=('float32', 'bfloat16'),
    seconds=1,
    options=dict(width=64, depth=1, heads=2, mlp=128),
  )
  assert json.loads(json.dumps(figures)) == figures
  assert [row['name'] for row in figures['contenders']] == ['vit_jax float32', 'vit_jax bfloat16']
  for row in figures['contenders']:
    assert 0 < row['slowest_turn'] <= row['examples_per_second'] <= row['fastest_turn']
    flops = row['examples_per_second'] * figures['gflop_per_example'] * 1e9
    assert row['flop_per_second'] == pytest.approx(flops)
    rate = figures['matmul_flop_per_second'][row['name'].split()[1]]
    assert row['fraction_of_matmul'] == pytest.approx(flops / rate)
  assert 'vit_jax float32' in timing.table(figures)


SMALL = {'name': 'Ti/8', 'width': 32, 'depth': 2, 'heads': 2, 'mlp': 64}
SLOW = 0.15  # seconds, far above what a step or a batch takes here


@pytest.mark.parametrize('slow, waits', [('loader', 'step'), ('step', 'loader')])
def test_who_waits(slow, waits, tiny_folder, tmp_path, monkeypatch):
  def slowly(method):
    def call(*args):
      time.sleep(SLOW)
      return method(*args)

    return call

  if slow == 'loader':  # two batches are made at a time
    monkeypatch.setattr(Loader, 'batch', slowly(Loader.batch))
  else:
    monkeypatch.setattr(feeding.Feeding, '_step', slowly(feeding.Feeding._step))
  figures = feeding.measure(
    {'name': 'folder', 'dir': str(tiny_folder), 'image_size': (16, 16)},
    SMALL,
    16,
    data_dir=tmp_path,
    seconds=1,
  )
  assert json.loads(json.dumps(figures)) == figures
  assert figures['waits'] == waits and figures['examples'] == 75
  rates, share = figures['images_per_second'], figures['step_waits_share']
  assert rates[slow] < 2 * 16 / SLOW < rates[waits]
  assert rates['both'] < 1.5 * rates[slow]
  assert share > 0.2 if waits == 'step' else share <= feeding.KEPT_UP
  assert f'the {waits} waits for the {slow}' in feeding.table(figures)


def test_a_folder_is_timed_by_the_command(tiny_folder, tmp_path, capsys):
  said = tmp_path / 'said.json'
  argv = ['bench', f'--data={tiny_folder}', '--model=LeNet-5', '--image_size=28', '--batch=16']
  assert commands.main([*argv, '--seconds=0.1', f'--json={said}']) == 0
  figures = json.loads(said.read_text())
  assert figures['data'] == f'folder:{tiny_folder}' and figures['model'] == 'LeNet-5'
  assert min(figures['images_per_second'].values()) > 0
  assert ' waits for the ' in capsys.readouterr().out


def test_flops_of_ti_16_are_the_published_ones():
  """1.25 GMAC forward at 224 px (timm's results table), three passes of two FLOP each."""
  from vit_jax import models
  from vit_jax.models import flops

  macs = flops.forward_macs(models.build('Ti/16', timing.NUM_CLASSES), (224, 224, 3))
  assert 6 * macs == pytest.approx(6 * 1.26e9, rel=0.01)


@pytest.mark.parametrize(
  'argv, expected',
  [
    (['--model=Ti/17x'], "'Ti/17x'"),
    (['--model=Ti/16', '--batch=9'], '--batch is 9'),
    (['--model=Ti/8', '--batch=8', '--image_size=32', '--against=timm'], 'did you mean'),
    (['--batch=0'], "--batch: '0'"),
    (['--data=earth_climate', '--against=timm'], '--against'),
    (['--data=earth_climate', '--dtype=both'], '--dtype'),
    (['--data=earth_climate', '--model=RNN-GRU'], '--data'),
    (['--data=no_such_data', '--model=Ti/16', '--batch=8'], 'no_such_data'),
    (['--image_size=0'], "--image_size: '0'"),
    *((['--seconds=' + text], f"--seconds: '{text}'") for text in ('0', '-1', 'nan', 'inf', 'x')),
  ],
)
def test_mistakes(argv, expected, capsys):
  assert commands.main(['bench', *argv]) == 2
  assert expected in capsys.readouterr().err


@pytest.mark.parametrize('error', ['ImportError', 'RuntimeError'])
def test_the_rival_does_without_a_torchvision_that_fails(error, tmp_path, monkeypatch):
  for name, text in (
    ('torchvision', f'raise {error}("operator torchvision::nms does not exist")'),
    ('timm', 'from torchvision.ops.misc import FrozenBatchNorm2d as imported'),
  ):
    (tmp_path / name).mkdir()
    (tmp_path / name / '__init__.py').write_text(text)
  monkeypatch.setenv('PYTHONPATH', f'{tmp_path}{os.pathsep}{Path(__file__).parents[1]}')
  said = subprocess.check_output(
    [
      sys.executable,
      '-c',
      'from vit_jax.bench import timm_worker; print(timm_worker._import_timm().imported.__name__)',
    ],
    text=True,
  )
  assert said == 'FrozenBatchNorm2d\n'
