"""A page does not grow with the rows of its runs, and loses nothing that matters."""

import json
import time

import numpy as np
import pytest

from vit_jax import config
from vit_jax.report.page import write_page
from vit_jax.report.plots import thinned
from vit_jax.run import Run

DATA = {'name': 'folder', 'dir': 'x', 'channels': 1, 'mean': (0.5,), 'std': (0.5,)}


def long_runs(folder, count: int, steps: int) -> list:
  x = config.resolve(
    {'steps': steps, 'model': {'name': 'LeNet-5'}, 'data': DATA, 'evals': {'test': {}}}
  )
  random_T3 = np.random.default_rng(0).random((steps, 3)).tolist()
  text = ''.join(
    json.dumps({'step': s, 'train/loss': a, 'train/top1': b, 'train/lr': c, 'train/seconds': s})
    + '\n'
    for s, (a, b, c) in enumerate(random_T3, 1)
  )
  runs = [Run(folder / f'run{i}') for i in range(count)]
  for run in runs:
    run.write_config(x)
    (run.path / 'metrics.jsonl').write_text(text)
  return [run.path for run in runs]


def test_a_page_of_many_rows_is_small(tmp_path):
  page = write_page(long_runs(tmp_path, 2, 20_000), tmp_path / 'page.html')
  assert page.stat().st_size < 400_000


@pytest.mark.slow
def test_a_million_rows(tmp_path):
  runs = long_runs(tmp_path, 20, 50_000)
  began = time.process_time()
  page = write_page(runs, tmp_path / 'page.html')
  seconds = time.process_time() - began
  print(f'{seconds:.1f} s of CPU, {page.stat().st_size:,} bytes')
  assert page.stat().st_size < 2_000_000


def test_a_thinned_curve_keeps_what_matters():
  value_T = np.random.default_rng(0).normal(size=100_000)
  value_T[[5, 31_234, 77_777]] = -9, 99, np.nan
  step_T = np.arange(100_000.0)
  steps, values = thinned(step_T, value_T)
  assert len(steps) <= 1001 and np.all(np.diff(steps) > 0)
  assert {0, 5, 31_234, 77_777, 99_999} <= set(steps)
  np.testing.assert_array_equal(values, value_T[steps.astype(int)])
  np.testing.assert_array_equal(thinned(step_T[:99], value_T[:99])[1], value_T[:99])
