"""A run folder as training leaves it, made up; tables of papers without the counting."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_run import predictions, rows

from vit_jax.report import counting, paper_tables


@pytest.fixture
def write_run(tmp_path):
  """write_run(name, ...) -> the folder of a run that has ended, or, with ended=False, has not."""

  def write(
    folder: str = 'run', *, name: str = 'a_run', ended: bool = True, top1: float = 0.7, files=None
  ) -> Path:
    path = tmp_path / folder
    (path / 'predictions').mkdir(parents=True)
    (path / 'config.json').write_text(
      json.dumps(
        {
          'name': name,
          'seed': 3,
          'model': {'name': 'Ti/8', 'width': 128},
          'checkpoint': {'best': 'val/top1'},
          'data': {'name': 'folder'},
          'evals': {
            'test': {'kind': 'classify'},
            'val': {'kind': 'classify'},
            'digits': {'kind': 'few_shot'},
          },
        }
      )
    )
    (path / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows()))
    if ended:
      metrics = {'top1': top1, 'top5': 0.93, 'loss': 1.1, 'ece': 0.05}
      (path / 'summary.json').write_text(
        json.dumps(
          {
            'val': metrics,
            'test': metrics,
            'seconds': {'train': 20.0, 'total': 31.0},
            'seed': 3,
            'steps': 10,
            'parameters': 123456,
            'device': '1 x cpu',
            'versions': {'jax': '0.10'},
          }
        )
      )
      files = {'val': predictions(40)} if files is None else files
      for split, arrays in files.items():
        np.savez(path / 'predictions' / f'{split}.npz', **arrays)
    return path

  return write


@pytest.fixture
def uncounted(monkeypatch):
  """Fixed numbers in place of counting, which takes seconds and has its own tests."""
  monkeypatch.setattr(counting, 'parameters', lambda spec: 12_345_678)
  monkeypatch.setattr(counting, 'forward_macs', lambda spec: (2_000_000_000, 0))


@pytest.fixture
def only(monkeypatch):
  """only(MODEL, ...) leaves the rows of these models in each table."""
  read = paper_tables.read_paper

  def leave(*models: str) -> None:
    monkeypatch.setattr(
      paper_tables, 'read_paper', lambda name: [row for row in read(name) if row['model'] in models]
    )

  return leave
