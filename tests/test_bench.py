"""The bench on a small step: figures that add up, and a refusal of what it cannot time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vit_jax import commands
from vit_jax.bench import timing


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
