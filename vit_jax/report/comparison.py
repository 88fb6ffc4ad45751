"""What `vit_jax compare` found: accuracy against parameters, FLOPs and seconds; table and plot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from vit_jax.errors import UserError
from vit_jax.report import counting, plots
from vit_jax.report.models import as_text, write_csv
from vit_jax.report.run import read_run

INDEX = 'comparison.json'  # as `vit_jax compare` writes it
COSTS = {
  'parameters': 'parameters',
  'mflops': 'million FLOPs an image',
  'seconds_in_all': 'seconds in all',
}
NOTE = (
  'top1 and spread (standard deviation over seeds) in per cent, on the test images. mflops: '
  'matrix products and convolutions of one image, 2 FLOP a multiply-accumulate. seconds: of '
  'training once, compilation included; in all: with every choice on held-out images, and '
  'with what the teacher took.'
)


class Row(NamedTuple):
  """One system; what is a mean over seeds where there are several: top1 and seconds."""

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
  """The table of a folder that `vit_jax compare` filled, as text, and in the files asked for.

  Raises:
    UserError: nothing is done yet, or a file cannot be written.
  """
  rows = read_rows(root)
  if not rows:
    raise UserError(f'{root} holds no finished system yet; run the same command again')
  try:
    if csv is not None:
      write_csv(csv, [Row._fields, *rows])
    if json_path is not None:
      said = {'note': NOTE, 'rows': [row._asdict() for row in rows]}
      json_path.write_text(json.dumps(said, indent=2) + '\n')
    if plot is not None:
      plots.save_png(draw(rows), plot)
  except OSError as error:
    raise UserError(f'{error.filename} cannot be written ({error.strerror})') from None
  shown = [row._replace(year=str(row.year)) for row in rows]  # without a comma
  return f'{as_text(Row._fields, shown)}\n\n{NOTE}'


def read_rows(root: Path) -> list[Row]:
  """A row for each system that is done, in the order of its year."""
  index = root / INDEX
  entries = json.loads(index.read_text()) if index.is_file() else []
  rows: dict[str, Row] = {}
  for entry in entries:  # a teacher comes before its student
    rows[entry['system']] = _row(root, entry, rows)
  return sorted(rows.values(), key=lambda row: row.year)


def _row(root: Path, entry: Mapping[str, Any], before: Mapping[str, Row]) -> Row:
  runs = [read_run(root / name) for name in entry['runs']]
  choices = [read_run(root / name) for name in entry['choices']]
  top1 = [100 * run.result(run.evals[0])['top1'] for run in runs]
  seconds = float(np.mean([run.summary['seconds']['train'] for run in runs]))
  in_all = seconds + sum(run.summary['seconds']['train'] for run in choices)
  if entry['teacher']:
    in_all += before[entry['teacher']].seconds_in_all
  chosen = ', '.join(f'{key}={value}' for key, value in entry['chosen'].items())
  first = runs[0]
  # What is no network counts for itself.
  macs = first.summary['macs'] if 'macs' in first.summary else counting.run_macs(first)
  return Row(
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


def draw(rows: list[Row]) -> Figure:
  """Accuracy against each cost, on a scale of powers of ten; bars are the spread over seeds."""
  with matplotlib.rc_context(plots.STYLE):
    figure = plots.new_figure(11, 3.9)
    for axes, (cost, label) in zip(
      figure.subplots(1, len(COSTS), sharey=True), COSTS.items(), strict=True
    ):
      for row, colour in zip(rows, plots.colours(len(rows)), strict=False):
        x = getattr(row, cost)
        axes.errorbar(
          x,
          row.top1,
          row.spread,
          fmt='o',
          color=colour,
          markersize=6,
          capsize=3,
          label=plots.shown(f'{row.system} ({row.year})'),
        )
      axes.set_xscale('log')
      axes.xaxis.set_major_formatter(EngFormatter(sep=''))
      axes.xaxis.set_minor_formatter(NullFormatter())
      axes.margins(x=0.12, y=0.12)
      axes.set_xlabel(label)
    figure.axes[0].set_ylabel('top-1 on test images, %')
    figure.legend(
      *figure.axes[0].get_legend_handles_labels(),
      loc='outside upper center',
      ncols=len(rows),
      fontsize=8,
    )
    return figure
