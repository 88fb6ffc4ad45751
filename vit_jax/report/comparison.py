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
  """A row of the table; of several seeds `top1` and `seconds` are the mean."""

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
  if csv is not None:
    write_csv(csv, [row._asdict() for row in rows])
  if json_path is not None:
    content = {'note': NOTE, 'rows': [row._asdict() for row in rows]}
    with writing(json_path):
      json_path.write_text(json.dumps(content, indent=2) + '\n')
  if plot is not None:
    with writing(plot):
      plots.save_png(draw(rows), plot)
  shown = [row._replace(year=str(row.year)) for row in rows]  # without a comma
  return f'{as_text(System._fields, shown)}\n\n{NOTE}'


def read_rows(root: Path) -> list[System]:
  """The systems that are done, by year."""
  index = root / INDEX
  entries = json.loads(index.read_text()) if index.is_file() else []
  rows: dict[str, System] = {}
  for entry in entries:  # a teacher comes before its student
    rows[entry['system']] = _row(root, entry, rows)
  return sorted(rows.values(), key=lambda row: row.year)


def _row(root: Path, entry: Mapping[str, Any], before: Mapping[str, System]) -> System:
  runs = [Run(root / name) for name in entry['runs']]
  choices = [Run(root / name) for name in entry['choices']]
  top1 = [100 * run.result(run.headline)['top1'] for run in runs]
  seconds = float(np.mean([run.summary['seconds']['train'] for run in runs]))
  in_all = seconds + sum(run.summary['seconds']['train'] for run in choices)
  if entry['teacher']:
    in_all += before[entry['teacher']].seconds_in_all
  chosen = ', '.join(f'{key}={value}' for key, value in entry['chosen'].items())
  first = runs[0]
  # What is not a network has counted its own.
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


@plots.styled
def draw(rows: list[System]) -> Figure:
  """Accuracy against each cost, on a scale of powers of ten; bars are the spread over seeds."""
  figure = plots.new_figure(11, 3.9)
  for axes, (cost, label) in zip(
    figure.subplots(1, len(COSTS), sharey=True), COSTS.items(), strict=True
  ):
    for row, color in zip(rows, plots.colors(len(rows)), strict=False):
      x = getattr(row, cost)
      axes.errorbar(
        x,
        row.top1,
        row.spread,
        fmt='o',
        color=color,
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
