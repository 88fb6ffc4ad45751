"""The results of `vit_jax compare`: a metric against parameters, FLOPs, seconds and length."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from vit_jax.errors import UserError
from vit_jax.report import counting, lengths, plots
from vit_jax.report.kinds import KINDS, kind_of
from vit_jax.run import Run
from vit_jax.tables import as_text, write_csv
from vit_jax.writes import output, write

INDEX = 'comparison.json'  # as `vit_jax compare` writes it


class System(NamedTuple):
  """A finished system; its metrics and `seconds` are means over seeds.

  Attributes:
    year: of its publication; 0 where the comparison has none.
    size: of an example, in the unit of its kind of data.
    metrics: in percent, that of the headline first.
    spread: of that one.
  """

  system: str
  year: int
  size: int
  metrics: dict[str, float]
  spread: float | None
  seeds: int
  parameters: int
  mflops: float
  seconds: float
  seconds_in_all: float
  chosen: str
  runs: list[Run]

  @property
  def headline(self) -> float:
    return next(iter(self.metrics.values()))

  @property
  def label(self) -> str:
    """Its name in a plot."""
    return f'{self.system} ({self.year})' if self.year else self.system

  def cells(self) -> dict[str, Any]:
    """Its row of the table."""
    (metric, value), *others = self.metrics.items()
    keys = System._fields[System._fields.index('seeds') : -1]
    return {
      'system': self.system,
      **({'year': self.year} if self.year else {}),
      KINDS[self.runs[0].kind].size: self.size,
      metric: value,
      'spread': self.spread,
      **dict(others),
      **{key: getattr(self, key) for key in keys},
    }


def write_comparison(
  root: Path, csv: Path | None = None, json_path: Path | None = None, plot: Path | None = None
) -> str:
  """The table of a folder that `vit_jax compare` filled, as text and in the given files.

  Args:
    plot: accuracy against each cost, or the scores of translations by length.

  Raises:
    UserError: nothing is done yet, systems are on other kinds of data, or a file cannot be written.
  """
  rows = read_rows(root)
  if not rows:
    raise UserError(f'{root} holds no finished system yet; run the same command again')
  note = KINDS[kind_of([run for row in rows for run in row.runs])].note
  cells = [row.cells() for row in rows]
  if csv is not None:
    write_csv(csv, cells)
  if json_path is not None:
    content = {'note': note, 'rows': cells}
    write(json_path, json.dumps(content, indent=2) + '\n')
  if plot is not None:
    figure = draw(rows)
    with output(plot) as file:
      plots.save_png(figure, file)
  # A year is shown without a comma.
  shown = [[str(value) if key == 'year' else value for key, value in row.items()] for row in cells]
  return f'{as_text(list(cells[0]), shown)}\n\n{note}'


def read_rows(root: Path) -> list[System]:
  """The finished systems, by year; those of a year in the order of the comparison."""
  index = root / INDEX
  entries = json.loads(index.read_text()) if index.is_file() else []
  rows: dict[str, System] = {}
  for entry in entries:  # a teacher comes before its student
    rows[entry['system']] = _row(root, entry, rows)
  return sorted(rows.values(), key=lambda row: row.year)


def _row(root: Path, entry: Mapping[str, Any], before: Mapping[str, System]) -> System:
  runs, choices = ([Run(root / name) for name in entry[key]] for key in ('runs', 'choices'))
  first = runs[0]
  metrics = _percent(runs)
  headline = metrics[first.headline_metric]
  seconds = float(np.mean([_seconds(run) for run in runs]))
  in_all = seconds + sum(map(_seconds, choices))
  if entry['teacher']:
    in_all += before[entry['teacher']].seconds_in_all
  chosen = ', '.join(f'{key}={value}' for key, value in entry['chosen'].items())
  # The bag of words is no network and counts its own.
  macs = first.summary['macs'] if 'macs' in first.summary else counting.run_macs(first)
  return System(
    entry['system'],
    entry['year'],
    counting.example_size(first),
    {key: float(np.mean(values)) for key, values in metrics.items()},
    float(np.std(headline, ddof=1)) if len(runs) > 1 else None,
    len(runs),
    first.summary['parameters'],
    2 * macs / 1e6,
    seconds,
    in_all,
    chosen or first.summary.get('feature', ''),
    runs,
  )


def _percent(runs: Sequence[Run]) -> dict[str, list[float]]:
  """The metrics by which systems are compared, of each run."""
  kind = KINDS[runs[0].kind]
  metrics = {key: kind.metrics[key] for key in kind.compared}
  results = [run.result(run.headline) for run in runs]
  return {
    key: [100 * result[key] / metric.perfect for result in results]
    for key, metric in metrics.items()
  }


def _seconds(run: Run) -> float:
  return run.summary['seconds']['train']


def draw(rows: Sequence[System]) -> Figure:
  """Translations: by length of the source. Others: against each cost."""
  by_length = {
    row.label: [found for run in row.runs if (found := lengths.scores(run, run.headline))]
    for row in rows
  }
  return lengths.length_figure(by_length) if all(by_length.values()) else draw_costs(rows)


@plots.styled
def draw_costs(rows: Sequence[System]) -> Figure:
  """The headline metric against costs, logarithmic; bars are the spread over seeds."""
  run = rows[0].runs[0]
  kind = KINDS[run.kind]
  costs = {
    'parameters': 'parameters',
    'mflops': f'million FLOPs per {kind.example}',
    'seconds_in_all': 'seconds in all',
  }
  figure = plots.new_figure(11, 3.9)
  panels = figure.subplots(1, len(costs), sharey=True)
  for axes, (cost, label) in zip(panels, costs.items(), strict=True):
    for row, color in zip(rows, plots.colors(len(rows)), strict=False):
      x = getattr(row, cost)
      dot = axes.errorbar(
        x, row.headline, row.spread, fmt='o', color=color, markersize=6, capsize=3
      )
      dot.set_label(plots.shown(row.label))
    axes.set(xscale='log', xlabel=label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=''))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12, y=0.12)
  panels[0].set_ylabel(f'{kind.metrics[run.headline_metric].label} on test {kind.example}s, %')
  handles, labels = panels[0].get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside upper center', ncols=len(rows), fontsize=8)
  return figure
