"""What runs reached, and in what their recipes differ, as tables of HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from vit_jax.report.run import Run

METRICS = {'top1': 'top-1', 'top5': 'top-5', 'loss': 'loss', 'ece': 'calibration error'}
UNTOLD = ('name', 'limits', 'log')  # groups of keys that say nothing about a result


def results(runs: Sequence[Run], labels: Sequence[str]) -> str:
  """A row for each split of each run, where there is more than one; over seeds also the mean."""
  rows = [
    (label, split, run.result(split))
    for run, label in zip(runs, labels, strict=True)
    for split in run.evals
  ]
  rows = [row for row in rows if row[2]]
  if len(rows) < 2:
    return ''
  lines = [
    row(f'{label}, {split}', [_value(result, key) for key in METRICS])
    for label, split, result in rows
  ]
  for split in runs[0].evals if set(differences(runs)) <= {'seed'} else ():
    judged = [result for _, name, result in rows if name == split]
    if len(judged) > 1:
      lines.append(
        row(
          f'mean of {len(judged)} runs ± standard deviation, {split}',
          [_mean(judged, key) for key in METRICS],
          'mean',
        )
      )
  return table('run, split', list(METRICS.values()), lines)


def comparison(runs: Sequence[Run], labels: Sequence[str]) -> str:
  """A row for each of several runs: the keys of the recipes that differ, cost and accuracy."""
  if len(runs) < 2:
    return ''
  told = differences(runs)
  split = runs[0].evals[0]
  lines = []
  for r, (run, label) in enumerate(zip(runs, labels, strict=True)):
    seconds = run.summary['seconds']['train'] if 'seconds' in run.summary else None
    cells = [
      *(values[r] for values in told.values()),
      f'{run.summary["parameters"]:,}' if 'parameters' in run.summary else '',
      f'{run.last_step:,}',
      '' if seconds is None else f'{seconds:,.0f}',
      _value(run.result(split), 'top1'),
      _value(run.result(split), 'loss'),
    ]
    lines.append(row(label, [escape(cell) for cell in cells]))
  head = [
    *map(escape, told),
    'parameters',
    'steps',
    'seconds of training',
    escape(f'top-1, {split}'),
    escape(f'loss, {split}'),
  ]
  return '<h2>Recipes and results</h2>\n' + table('run', head, lines)


def features(runs: Sequence[Run], labels: Sequence[str]) -> str:
  """A row for each figure of features on other data sets, a column for each run."""
  metrics = dict.fromkeys(
    (name, metric) for run in runs for name, metrics in run.features.items() for metric in metrics
  )
  if not metrics:
    return ''
  lines = [
    row(f'{name}, {metric}', [_value(run.result(name), metric) for run in runs])
    for name, metric in metrics
  ]
  head = ['accuracy'] if len(runs) == 1 else [escape(label) for label in labels]
  return '<h2>Features on other data</h2>\n' + table('data set, method', head, lines)


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
  """Key of the recipe -> its value in each run, of the keys that are not the same in all."""
  flat = [
    _flat({key: value for key, value in run.config.items() if key not in UNTOLD}) for run in runs
  ]
  keys = dict.fromkeys(key for one in flat for key in one)
  told = {key: [one[key] if key in one else '' for one in flat] for key in keys}
  return {key: values for key, values in told.items() if len(set(values)) > 1}


def _flat(config: Mapping[str, Any], where: str = '') -> dict[str, str]:
  out: dict[str, str] = {}
  for key, value in config.items():
    name = where if key == 'options' else f'{where}.{key}' if where else key  # as a flag has it
    if isinstance(value, Mapping):
      out |= _flat(value, name)
    else:
      out[name] = value if isinstance(value, str) else json.dumps(value)
  return out


def table(first: str, head: Sequence[str], lines: Sequence[str]) -> str:
  """A table that scrolls where it is too wide; `first` heads the rows' names."""
  cells = ''.join(f'<th scope="col">{name}</th>' for name in (first, *head))
  return (
    f'<div class="scroll"><table class="results"><thead><tr>{cells}</tr></thead>\n<tbody>\n'
    f'{chr(10).join(lines)}\n</tbody></table></div>'
  )


def row(head: str, cells: Sequence[str], kind: str = '') -> str:
  """A line of a table; the cells are HTML already."""
  return (
    f'<tr class="{kind}"><th scope="row">{escape(head)}</th>'
    + ''.join(f'<td>{cell}</td>' for cell in cells)
    + '</tr>'
  )


def _value(result: Mapping[str, float], key: str) -> str:
  return f'{result[key]:.4f}' if key in result else ''


def _mean(judged: Sequence[Mapping[str, float]], key: str) -> str:
  if not all(key in result for result in judged):
    return ''
  values = [result[key] for result in judged]
  return f'{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}'
