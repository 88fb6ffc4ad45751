"""The results of `vit_jax compare`: accuracy against parameters, FLOPs and seconds."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from vit_jax.errors import UserError, writing
from vit_jax.report import counting, plots
from vit_jax.run import Run
from vit_jax.tables import as_text, write_csv

INDEX = 'comparison.json'  # as `vit_jax compare` writes it
COSTS = {
  'parameters': 'parameters',
  'mflops': 'million FLOPs per image',
  'seconds_in_all': 'seconds in all',
}
NOTE = (
  'top1 and spread (standard deviation over seeds) in percent, on the test images. mflops: '
  'matrix products and convolutions of one image, 2 FLOP per multiply-accumulate. seconds: of one '
  'training, with compilation; in all: with every choice made on held-out images, and with the '
  "teacher's."
)


class System(NamedTuple):
  """A row of the table; `top1` and `seconds` are means over seeds."""

  system: str
  year: int
  pixels: int  # of the image's shorter side
  top1: float
  spread: float | None
  seeds: int
  parameters: int
  mflops: float
  seconds: float
  seconds_in_all: float
  chosen: str


def write_comparison(
  root: Path, csv: Path | None = None, json_path: Path | None = None, plot: Path | None = None
) -> str:
  """The table of a folder that `vit_jax compare` filled, as text and in the given files.

  Raises:
    UserError: nothing is done yet, or a file cannot be written.
  """
  rows = read_rows(root)
  if not rows:
    raise UserError(f'{root} holds no finished system yet; run the same command again')
  cells = [row._asdict() for row in rows]
  if csv is not None:
    write_csv(csv, cells)
  if json_path is not None:
    content = {'note': NOTE, 'rows': cells}
    with writing(json_path):
      json_path.write_text(json.dumps(content, indent=2) + '\n')
  if plot is not None:
    with writing(plot):
      plots.save_png(draw(rows), plot)
  shown = [row._replace(year=str(row.year)) for row in rows]  # without a comma
  return f'{as_text(System._fields, shown)}\n\n{NOTE}'


def read_rows(root: Path) -> list[System]:
  """The finished systems, by year."""
  index = root / INDEX
  entries = json.loads(index.read_text()) if index.is_file() else []
  rows: dict[str, System] = {}
  for entry in entries:  # a teacher comes before its student
    rows[entry['system']] = _row(root, entry, rows)
  return sorted(rows.values(), key=lambda row: row.year)


def _row(root: Path, entry: Mapping[str, Any], before: Mapping[str, System]) -> System:
  runs, choices = ([Run(root / name) for name in entry[key]] for key in ('runs', 'choices'))
  top1 = [100 * run.result(run.headline)['top1'] for run in runs]
  seconds = float(np.mean([_seconds(run) for run in runs]))
  in_all = seconds + sum(map(_seconds, choices))
  if entry['teacher']:
    in_all += before[entry['teacher']].seconds_in_all
  chosen = ', '.join(f'{key}={value}' for key, value in entry['chosen'].items())
  first = runs[0]
  # The bag of words is no network and counts its own.
  macs = first.summary['macs'] if 'macs' in first.summary else counting.run_macs(first)
  return System(
    entry['system'],
    entry['year'],
    min(first.config['data']['image_size']),
    float(np.mean(top1)),
    float(np.std(top1, ddof=1)) if len(runs) > 1 else None,
    len(runs),
    first.summary['parameters'],
    2 * macs / 1e6,
    seconds,
    in_all,
    chosen or first.summary.get('feature', ''),
  )


def _seconds(run: Run) -> float:
  return run.summary['seconds']['train']


@plots.styled
def draw(rows: list[System]) -> Figure:
  """Accuracy against each cost, on a logarithmic scale; bars are the spread over seeds."""
  figure = plots.new_figure(11, 3.9)
  panels = figure.subplots(1, len(COSTS), sharey=True)
  for axes, (cost, label) in zip(panels, COSTS.items(), strict=True):
    for row, color in zip(rows, plots.colors(len(rows)), strict=False):
      x = getattr(row, cost)
      dot = axes.errorbar(x, row.top1, row.spread, fmt='o', color=color, markersize=6, capsize=3)
      dot.set_label(plots.shown(f'{row.system} ({row.year})'))
    axes.set(xscale='log', xlabel=label)
    axes.xaxis.set_major_formatter(EngFormatter(sep=''))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12, y=0.12)
  panels[0].set_ylabel('top-1 on test images, %')
  handles, labels = panels[0].get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside upper center', ncols=len(rows), fontsize=8)
  return figure
