"""What runs reached, and in what their recipes differ, as tables."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vit_jax.report.render import Table
from vit_jax.run import Run

METRICS = {'top1': 'top-1', 'top5': 'top-5', 'loss': 'loss', 'ece': 'calibration error'}
NOT_OF_RESULTS = ('name', 'limits', 'log')  # groups of keys that change no result


def results(runs: Sequence[Run], labels: Sequence[str]) -> Table | None:
  """A row for each split of each run; over seeds also the mean. None for a single row."""
  found = [
    (label, split, run.result(split))
    for run, label in zip(runs, labels, strict=True)
    for split in run.evals
    if run.result(split)
  ]
  if len(found) < 2:
    return None
  rows = [
    [f'{label}, {split}', *(_value(result, key) for key in METRICS)]
    for label, split, result in found
  ]
  for split in runs[0].evals if set(differences(runs)) <= {'seed'} else ():
    same = [result for _, name, result in found if name == split]
    if len(same) > 1:
      name = f'mean of {len(same)} runs ± standard deviation, {split}'
      rows.append([name, *(_mean(same, key) for key in METRICS)])
  return Table(['run, split', *METRICS.values()], rows, bold=range(len(found), len(rows)))


def comparison(runs: Sequence[Run], labels: Sequence[str]) -> Table | None:
  """A row for each of several runs: the keys of the recipes that differ, cost and accuracy."""
  if len(runs) < 2:
    return None
  differing, split = differences(runs), runs[0].headline
  head = ['run', *differing, 'parameters', 'steps', 'seconds of training']
  rows = [
    [
      label,
      *(values[r] for values in differing.values()),
      f'{run.summary["parameters"]:,}' if 'parameters' in run.summary else '',
      f'{run.last_step:,}',
      f'{run.summary["seconds"]["train"]:,.0f}' if 'seconds' in run.summary else '',
      _value(run.result(split), 'top1'),
      _value(run.result(split), 'loss'),
    ]
    for r, (run, label) in enumerate(zip(runs, labels, strict=True))
  ]
  return Table([*head, f'top-1, {split}', f'loss, {split}'], rows)


def on_other_data(runs: Sequence[Run], labels: Sequence[str]) -> Table | None:
  """A row for each metric of features on other data sets, a column for each run."""
  metrics = dict.fromkeys(
    (name, metric) for run in runs for name, metrics in run.features.items() for metric in metrics
  )
  head = ['data set, method', *(['accuracy'] if len(runs) == 1 else labels)]
  rows = [
    [f'{name}, {metric}', *(_value(run.result(name), metric) for run in runs)]
    for name, metric in metrics
  ]
  return Table(head, rows) if rows else None


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
  """Key of the recipe -> its value in each run, of the keys that are not the same in all."""
  flat = [
    _flat({key: value for key, value in run.config.items() if key not in NOT_OF_RESULTS})
    for run in runs
  ]
  keys = dict.fromkeys(key for one in flat for key in one)
  values = {key: [one.get(key, '') for one in flat] for key in keys}
  return {key: each for key, each in values.items() if len(set(each)) > 1}


def _flat(config: Mapping[str, Any], where: str = '') -> dict[str, str]:
  out: dict[str, str] = {}
  for key, value in config.items():
    name = f'{where}.{key}' if where else key
    if isinstance(value, Mapping):
      out |= _flat(value, name)
    else:
      out[name] = value if isinstance(value, str) else json.dumps(value)
  return out


def _value(result: Mapping[str, float], key: str) -> str:
  return f'{result[key]:.4f}' if key in result else ''


def _mean(results: Sequence[Mapping[str, float]], key: str) -> str:
  if not all(key in result for result in results):
    return ''
  values = [result[key] for result in results]
  return f'{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}'
