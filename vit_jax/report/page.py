"""The page of a run: report.html, one file that runs no script and loads nothing from elsewhere."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vit_jax.errors import UserError, writing
from vit_jax.parallel import chips
from vit_jax.paths import Place
from vit_jax.report import curves, goodput, images, plots, sentences
from vit_jax.report.kinds import KINDS, kind_of
from vit_jax.report.render import render
from vit_jax.report.results import comparison, results
from vit_jax.run import Run
from vit_jax.writes import write

PARTS = {'images': images, 'pairs': sentences}


def write_page(
  run_dirs: Sequence[Path | str], page: Path | None = None, *, weights: bool = True
) -> Place:
  """Writes report.html into the first run folder, and each run's maps into its figures/NAME.png.

  Several runs are compared on one page. A run that has not ended gives a page of what it has.

  Args:
    page: written instead, and nothing into the run folders.
    weights: whether to read those of runs that have ended, and draw what the model has learned.

  Returns the path of the page.

  Raises:
    UserError: a folder is not a run folder, runs are on other kinds of data, or the page cannot be
      written.
  """
  runs = [Run(path) for path in run_dirs]
  if not runs:
    raise UserError('no run folder is named; name at least one, such as runs/earth_climate')
  parts = PARTS[kind_of(runs)]
  drawn = [parts.figures(run) for run in runs]
  text = render('run.html', **_page(runs, parts, drawn, weights))
  if page is not None:
    write(page, text)
    return page
  with writing(runs[0].path / 'report.html'):
    path = runs[0].write_report(text)
    for run, figures in zip(runs, drawn, strict=True):
      for name, figure in figures.items():
        with run.figure(name) as file:
          plots.save_png(figure, file)
  return path


def _page(
  runs: Sequence[Run], parts: Any, drawn: Sequence[Mapping[str, Figure]], weights: bool
) -> dict[str, Any]:
  """The values of templates/run.html; `parts` is the module of the kind of data."""
  labels, levels = _labels(runs), parts.levels(runs)
  return {
    'title': ' and '.join(dict.fromkeys(run.name for run in runs)),
    'leads': [(_lead(run), bool(run.summary)) for run in runs],
    'caption': f'{KINDS[runs[0].kind].caption} on {runs[0].headline}',
    'bars': _bars(runs, labels, levels),
    'results': results(runs, labels),
    'comparison': comparison(runs, labels),
    'training': curves.training(runs, labels, levels, parts.trained),
    'parts': parts.TEMPLATE,
    'shared': parts.shared(runs, labels),
    'runs': [
      _run(run, label, f' of {label}' if len(runs) > 1 else '', parts, figures, weights)
      for run, label, figures in zip(runs, labels, drawn, strict=True)
    ],
  }


def _run(
  run: Run, label: str, of: str, parts: Any, figures: Mapping[str, Figure], weights: bool
) -> dict[str, Any]:
  """The part of the page about one run; `of` follows the names of its parts."""
  versions = run.summary.get('versions', {}).items()
  return {
    'label': label,
    'of': of,
    'facts': _facts(run),
    'found': run.found,
    **parts.parts(run, of, figures, weights),
    'hours': goodput.read_goodput(run.path),
    'made_with': ', '.join(f'{name} {version}' for name, version in versions),
    'recipe': json.dumps(run.config, indent=2),
    'faults': run.faults,  # last: the others read the files
  }


def _labels(runs: Sequence[Run]) -> list[str]:
  """The name of each run's folder, or its path where two have the same.

  Folders of a sweep are named by its keys: those with the same value in all runs are left out.
  """
  parts = [run.path.name.split(',') for run in runs]
  common = set.intersection(*map(set, parts)) if len(runs) > 1 else set()
  short = [','.join(part for part in mine if part not in common) for mine in parts]
  names = [name or run.path.name for name, run in zip(short, runs, strict=True)]
  return [
    str(run.place) if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)
  ]


def _lead(run: Run) -> list[str]:
  summary, words = run.summary, [run.config['model']['name']]
  if 'parameters' in summary:
    words.append(f'{summary["parameters"]:,} parameters')
  words.append(f'{run.last_step:,} steps')
  if 'seconds' in summary:
    words.append(f'{summary["seconds"]["train"]:,.0f} s of training')
  words.append(f'seed {run.config["seed"]}')
  return [*words, summary['device']] if 'device' in summary else words


def _bars(
  runs: Sequence[Run], labels: Sequence[str], levels: Mapping[str, float]
) -> list[tuple[str, str, float, str, str]]:
  """(name, note, share of the best value, value, kind) of each run, below the levels."""
  key = runs[0].headline_metric
  metric = KINDS[runs[0].kind].metrics[key]

  def bar(name: str, note: str, value: float, kind: str) -> tuple[str, str, float, str, str]:
    return name, note, value / metric.perfect, format(value, metric.fact), kind

  rows = [bar(name, '', value, '') for name, value in levels.items()]
  for run, label in zip(runs, labels, strict=True):
    result = run.result(runs[0].headline)
    if key in result:
      note = f'{label}, seed {run.config["seed"]}' if len(runs) > 1 else ''
      rows.append(bar(run.config['model']['name'], note, result[key], 'ours'))
  return rows


def _facts(run: Run) -> dict[str, str]:
  kind, split, facts = KINDS[run.kind], run.headline, {}
  result = run.result(split)
  for key in kind.facts:
    if key in result:
      metric = kind.metrics[key]
      facts[f'{metric.label}, {split}'] = format(result[key], metric.fact)
  for name, seconds in run.summary.get('seconds', {}).items():
    facts[f'seconds, {name}'] = f'{seconds:,.0f}'
  for name, label, form in (
    (f'{kind.unit}_per_second', f'{kind.unit} per second, median', ',.0f'),
    ('fraction_of_peak', 'share of peak FLOP/s, median', '.0%'),
  ):
    values = run.series(f'train/{name}')[1]
    if len(values):
      facts[label] = format(np.median(values), form)
      if name == 'fraction_of_peak' and chips.above_peak(np.median(values)):
        facts[label] += ', so the peak was measured too low'
  return facts
