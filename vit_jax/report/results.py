"""Tables of what runs reached and how their recipes differ."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vit_jax.report.kinds import KINDS, Metric
from vit_jax.report.render import Table
from vit_jax.run import Run

NOT_OF_RESULTS = ('name', 'limits', 'log')  # groups of keys that change no result


def results(runs: Sequence[Run], labels: Sequence[str]) -> Table | None:
  """A row for each split of each run; over seeds also the mean. None for a single row."""
  metrics, rows, by_split = _measured(runs), [], {}
  for run, label in zip(runs, labels, strict=True):
    for split in run.evals:
      if result := run.result(split):
        rows.append([f'{label}, {split}', *_values(result, metrics)])
        by_split.setdefault(split, []).append(result)
  count = len(rows)
  if count < 2:
    return None
  for split in runs[0].evals if set(differences(runs)) <= {'seed'} else ():
    same = by_split.get(split, [])
    if len(same) > 1:
      name = f'mean of {len(same)} runs ± standard deviation, {split}'
      rows.append([name, *(_mean(same, key, metric) for key, metric in metrics.items())])
  head = ['run, split', *(metric.label for metric in metrics.values())]
  return Table(head, rows, bold=range(count, len(rows)))


def comparison(runs: Sequence[Run], labels: Sequence[str]) -> Table | None:
  """A row for each of several runs: the keys of the recipes that differ, cost and result."""
  if len(runs) < 2:
    return None
  differing, split, kind = differences(runs), runs[0].headline, KINDS[runs[0].kind]
  metrics = {key: kind.metrics[key] for key in (*kind.compared, 'loss')}
  head = ['run', *differing, 'parameters', 'steps', 'seconds of training']
  rows = []
  for label, run, *values in zip(labels, runs, *differing.values(), strict=True):
    summary = run.summary
    parameters = f'{summary["parameters"]:,}' if 'parameters' in summary else ''
    seconds = f'{summary["seconds"]["train"]:,.0f}' if 'seconds' in summary else ''
    reached = _values(run.result(split), metrics)
    rows.append([label, *values, parameters, f'{run.last_step:,}', seconds, *reached])
  return Table([*head, *(f'{metric.label}, {split}' for metric in metrics.values())], rows)


def on_other_data(runs: Sequence[Run], labels: Sequence[str]) -> Table | None:
  """A row for each metric of features on other data sets, a column for each run."""
  metrics = dict.fromkeys(
    (name, metric) for run in runs for name, metrics in run.features.items() for metric in metrics
  )
  head = ['data set, method', *(['accuracy'] if len(runs) == 1 else labels)]
  rows = [
    [f'{name}, {metric}', *(_value(run.result(name), metric, Metric(metric)) for run in runs)]
    for name, metric in metrics
  ]
  return Table(head, rows) if rows else None


def differences(runs: Sequence[Run]) -> dict[str, list[str]]:
  """Key of the recipe -> its value in each run, for keys that differ between runs."""
  flat = [_flat(run.config) for run in runs]
  values = {key: [one.get(key, '') for one in flat] for one in flat for key in one}
  return {
    key: each
    for key, each in values.items()
    if len(set(each)) > 1 and key.partition('.')[0] not in NOT_OF_RESULTS
  }


def _flat(config: Mapping[str, Any], above: str = '') -> dict[str, str]:
  flat: dict[str, str] = {}
  for key, value in config.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f'{above}{key}.')
    else:
      flat[above + key] = value if isinstance(value, str) else json.dumps(value)
  return flat


def _measured(runs: Sequence[Run]) -> dict[str, Metric]:
  """Those metrics of the kind of data that some run has."""
  found = {key for run in runs for split in run.evals for key in run.result(split)}
  return {key: metric for key, metric in KINDS[runs[0].kind].metrics.items() if key in found}


def _values(result: Mapping[str, float], metrics: Mapping[str, Metric]) -> list[str]:
  return [_value(result, key, metric) for key, metric in metrics.items()]


def _value(result: Mapping[str, float], key: str, metric: Metric) -> str:
  return format(result[key], metric.cell) if key in result else ''


def _mean(results: Sequence[Mapping[str, float]], key: str, metric: Metric) -> str:
  if not all(key in result for result in results):
    return ''
  values = [result[key] for result in results]
  mean, spread = (format(value, metric.cell) for value in (np.mean(values), np.std(values, ddof=1)))
  return f'{mean} ± {spread}'
