"""Every family learns: its smallest member, whole, on the climates of the Earth.

Larger members are the same code with other numbers. A minute a member on two cores:

    pytest -n 0 -s -m slow tests/train/test_zoo.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vit_jax import models

STEPS, ENDS = 50, 10
# Images are resized to as few pixels as the family's strides leave a map of at least 2x2.
ROWS = [
  ('Ti/8', 32, 1e-3),
  ('DeiT-Ti/8', 32, 1e-3),
  ('DeiT-Ti/8-distilled', 32, 1e-3),
  ('DeiT3-S/8', 32, 1e-3),
  ('CaiT-XXS24', 64, 1e-3),
  ('DINOv2-S/14', 42, 1e-3),
  ('DINOv2-S/14-reg4', 42, 1e-3),
  ('R+Ti/16', 64, 1e-3),
  ('R26+S/32', 64, 3e-4),
  ('R50+B/16', 64, 1e-4),
  ('ResNet-18', 64, 1e-3),
  ('ResNet-50', 64, 1e-3),
  ('BiT-R50x1', 64, 1e-3),
  ('AlexNet', 96, 3e-4),
  ('LeNet-5', 32, 3e-3),
]


RECIPE = """
from ml_collections import ConfigDict


def get_config():
  return ConfigDict(dict(
      name='zoo', steps={steps}, batch_size=64, model=dict(name={name!r}),
      data=dict(name='earth_climate', image_size=({pixels}, {pixels}), crop='none',
                eval_crop=1.0, mean=(0.42, 0.41, 0.32), std=(0.30, 0.29, 0.32)),
      optim=dict(lr={lr}, weight_decay=0.05, clip_norm=1.0, warmup=dict(steps=10)),
      log=dict(every=dict(steps=1))))
"""


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory) -> Path:
  kept = os.environ.get('VIT_JAX_DATA_DIR')
  return Path(kept) if kept else tmp_path_factory.mktemp('data')


def test_every_family_is_there():
  tested = {models.find(name)[0].family for name, *_ in ROWS}
  entries = models.MODELS.values()
  assert tested == {each.family for each in entries if not isinstance(each.inputs, models.Texts)}


@pytest.mark.slow
@pytest.mark.parametrize('name, pixels, lr', ROWS, ids=[row[0] for row in ROWS])
def test_the_loss_falls(name, pixels, lr, data_dir, tmp_path):
  recipe, workdir = tmp_path / 'zoo.py', tmp_path / 'run'
  recipe.write_text(RECIPE.format(steps=STEPS, name=name, pixels=pixels, lr=lr))
  # The tests' own environment has many fake devices and compiles in haste: too slow to train in.
  env = {k: v for k, v in os.environ.items() if k not in ('XLA_FLAGS', 'PJRT_NPROC')}
  command = [
    sys.executable,
    '-m',
    'vit_jax',
    'train',
    f'--config={recipe}',
    f'--workdir={workdir}',
    f'--data_dir={data_dir}',
  ]
  subprocess.run(command, env=env, check=True, capture_output=True, timeout=3600)
  rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  losses = [row['train/loss'] for row in rows if 'train/loss' in row]
  first, last = np.mean(losses[:ENDS]), np.mean(losses[-ENDS:])
  print(f'{name}: loss {first:.3f} -> {last:.3f}')
  assert len(losses) == STEPS and np.isfinite(losses).all() and last < 0.9 * first
