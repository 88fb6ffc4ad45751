"""What tests of opening weights share."""

from pathlib import Path

import pytest

from tests.weights.made_up_folder import made_up
from tests.weights.made_up_run import write_run


@pytest.fixture(scope='session')
def run(tmp_path_factory) -> Path:
  """Checkpoints of steps 2, the best, and 5."""
  folder = tmp_path_factory.mktemp('runs') / 'made_up'
  steps = {step: (made_up(step, pool='mean'), top1) for step, top1 in ((2, 0.9), (5, 0.4))}
  write_run(folder, steps, dropout=0.1, pool='mean')
  return folder


@pytest.fixture
def no_downloads(tmp_path, monkeypatch):
  monkeypatch.setenv('VIT_JAX_DATA_DIR', str(tmp_path / 'data'))
