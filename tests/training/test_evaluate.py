"""`vit_jax evaluate` on a run folder: the run's own figures again, on other devices too."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from vit_jax import cli


def test_evaluate_gives_the_figures_of_the_run(finished_run, tmp_path, capsys):
  run = tmp_path / 'run'
  shutil.copytree(finished_run, run)
  summary = json.loads((run / 'summary.json').read_text())
  assert summary['examples'] == 75  # of the training split
  rows = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
  measured = {row['step']: row['test/top1'] for row in rows if 'test/top1' in row}
  assert list(measured) == [5, 10, 12]

  # Eight devices instead of one: the same counts.
  assert cli.main(['evaluate', f'--workdir={run}']) == 0
  output = capsys.readouterr().out
  assert '21 examples' in output and 'light' in output
  again = json.loads((run / 'evaluation-12.json').read_text())
  assert again == {'step': 12, 'test': pytest.approx(summary['test'], abs=1e-6)}
  assert again['test']['top1'] == summary['test']['top1']
  assert again['test']['top5'] == summary['test']['top5']

  assert cli.main(['evaluate', f'--workdir={run}', '--checkpoint=best']) == 0
  kept = json.loads(max(run.glob('evaluation-*.json'), key=os.path.getmtime).read_text())
  assert kept['test']['top1'] == max(measured.values()) == measured[kept['step']]
