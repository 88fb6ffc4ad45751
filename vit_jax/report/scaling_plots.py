"""The picture of a scaling study, in the manner of Scaling Vision Transformers, Figure 2."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator, NullLocator, PercentFormatter

from vit_jax.report.plots import INK, new_figure, styled
from vit_jax.report.scaling import EXA, Point, Study

MARKERS = 'osD^vP*X'  # one per data size, from the smallest
FURTHER = 3  # times the largest compute, to which the law is drawn
ERRORS = (
  0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08,
  0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0,
)  # fmt: skip


@styled
def figure(study: Study) -> Figure:
  """Error against compute, with frontier and law; beside it error against data size."""
  drawn = new_figure(10.4, 4.6)
  left, right = drawn.subplots(1, 2, width_ratios=(1.7, 1))
  colors = _colors(study.points)
  markers = dict(
    zip(sorted({p.examples for p in study.points}), itertools.cycle(MARKERS), strict=False)
  )
  _draw_compute(left, study, colors, markers)
  _draw_data(right, study.points, colors, markers)
  for axes in (left, right):
    _percent(axes, [point.error for point in study.points])
  drawn.legend(*_legend(colors, markers), loc='outside lower center', fontsize=8, ncols=5)
  return drawn


def _colors(points: Sequence[Point]) -> dict[int, str]:
  """By parameters: dark is small."""
  sizes = sorted({point.parameters for point in points})
  shades = matplotlib.colormaps['plasma'](np.linspace(0, 0.85, len(sizes)))
  return {size: to_hex(shade) for size, shade in zip(sizes, shades, strict=True)}


def _draw_compute(
  axes: Axes, study: Study, colors: Mapping[int, str], markers: Mapping[int, str]
) -> None:
  for point in study.points:
    color = colors[point.parameters]
    x, marker = EXA * point.exaflops, markers[point.examples]
    axes.plot(x, point.error, marker, markersize=4.5, color=color, alpha=0.85)
  frontier = [EXA * point.exaflops for point in study.best], [point.error for point in study.best]
  axes.step(*frontier, where='post', color=INK, linewidth=0.9, alpha=0.6, label='frontier')
  ends = [point.exaflops for point in study.points]
  compute_T = np.geomspace(min(ends), FURTHER * max(ends), 200)
  law = study.fit.law
  words = f'a (C + d)^-{law.b:.2f} + {100 * law.c:.1f} %, with 90 % of the resamples'
  dashed: dict[str, Any] = dict(color=INK, linestyle=(0, (4, 2)), linewidth=1.3)
  axes.plot(EXA * compute_T, law(compute_T), **dashed, label=words)
  low_T, high_T = study.fit.interval(lambda law: law(compute_T))
  axes.fill_between(EXA * compute_T, low_T, high_T, color=INK, alpha=0.12, linewidth=0)
  predicted, low, high = study.predicted
  axes.errorbar(
    EXA * study.held_out.exaflops,
    predicted,
    [[predicted - low], [high - predicted]],
    fmt='_',
    color='#d6409f',
    capsize=3,
    markersize=7,
    linewidth=1.3,
    label='the largest compute, predicted from the rest',
  )
  axes.set(xscale='log', xlabel='training compute', ylabel=f'error: 1 - {study.points[0].metric}')
  axes.xaxis.set_major_formatter(EngFormatter('FLOP'))
  axes.legend(fontsize=8, loc='lower left')


def _draw_data(
  axes: Axes, points: Sequence[Point], colors: Mapping[int, str], markers: Mapping[int, str]
) -> None:
  """The best run of each model for each data size."""
  for size, color in colors.items():
    best = {}
    for point in points:
      if point.parameters == size:
        best[point.examples] = min(point.error, best.get(point.examples, 1.0))
    examples = sorted(best)
    axes.plot(examples, [best[amount] for amount in examples], color=color)
    for amount in examples:
      axes.plot(amount, best[amount], markers[amount], color=color, markersize=4.5)
  axes.set(xscale='log', xlabel='training examples, each model at its best')
  axes.xaxis.set_major_locator(FixedLocator(list(markers)))
  axes.xaxis.set_minor_locator(NullLocator())
  axes.xaxis.set_major_formatter(EngFormatter(sep=''))


def _percent(axes: Axes, errors: Sequence[float]) -> None:
  """A logarithmic axis of errors, with ticks at round numbers."""
  low, high = min(errors) * 0.85, min(max(errors) * 1.1, 1.0)
  axes.set(yscale='log', ylim=(low, high))
  axes.yaxis.set_major_locator(FixedLocator([tick for tick in ERRORS if low <= tick <= high]))
  axes.yaxis.set_minor_locator(NullLocator())
  axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))


def _legend(colors: Mapping[int, str], markers: Mapping[int, str]) -> tuple[list, list[str]]:
  """(handles, labels): a color per model, a mark per data size."""
  kilo = EngFormatter(places=0, sep='')
  handles = [Line2D([], [], color=color, linewidth=3) for color in colors.values()]
  labels = [f'{kilo(size)} parameters' for size in colors]
  for amount, marker in markers.items():
    handles.append(Line2D([], [], color=INK, marker=marker, linestyle='none', markersize=4.5))
    labels.append(f'{kilo(amount)} examples')
  return handles, labels
