"""metrics.jsonl across a restart, and writers whose package is not installed."""

from __future__ import annotations

import importlib.util
import json

import pytest

from vit_jax import config
from vit_jax.errors import UserError
from vit_jax.training import writers


def test_a_restart_keeps_rows_up_to_its_step_and_drops_half_a_line(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  first = writers.JsonlWriter(path, 0)
  for step in (5, 10, 15):
    first.write(step, {'train/loss': 1 / step})
  first.close()
  with open(path, 'a') as file:
    file.write('{"step": 20, "train/lo')
  second = writers.JsonlWriter(path, 10)
  second.write(12, {'train/loss': 0.5})
  second.close()
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  assert rows == [
    {'step': 5, 'train/loss': 0.2},
    {'step': 10, 'train/loss': 0.1},
    {'step': 12, 'train/loss': 0.5},
  ]
  assert writers.read_rows(path) == rows


@pytest.mark.parametrize('key, package', [('tensorboard', 'tensorboardX'), ('wandb', 'wandb')])
def test_a_missing_package_is_one_sentence(key, package, tmp_path):
  if importlib.util.find_spec(package):
    pytest.skip(f'{package} is installed here')
  x = config.resolve({'steps': 1, 'log': {key: True}})
  with pytest.raises(UserError, match=f'config.log.{key} needs the package {package}'):
    writers.open_writers(x, tmp_path, 0)
