"""Translations scored by the length of the source (arXiv:1409.0473 Figure 2)."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from vit_jax.evaluate.translation import LengthScores, score_by_length, words_of
from vit_jax.report import plots
from vit_jax.report.kinds import KINDS
from vit_jax.report.render import Table
from vit_jax.run import Run

METRICS = ('bleu', 'exact')
LOOKS = ('o-', 's--', '^:', 'D-.')  # of lines that may cover each other
Group = tuple[int, int]  # words of the shortest and longest source; 0: no upper end


def scores(run: Run, name: str) -> list[LengthScores]:
  """Those of an eval; none if the run has not translated it.

  Raises:
    UserError: sacrebleu is not installed.
  """
  found = run.translations.get(name)
  if found is None:
    return []
  return score_by_length(found.sources, found.translations, found.references)


class Curve(NamedTuple):
  """A metric by length: mean and standard deviation over runs."""

  groups: list[Group]
  mean: list[float]
  spread: list[float] | None  # None for one run


def curve(runs: Sequence[Sequence[LengthScores]], metric: str) -> Curve:
  """The runs of one system, each with its scores by length."""
  values: dict[Group, list[float]] = {}
  for first, last, found in (row for rows in runs for row in rows):
    values.setdefault((first, last), []).append(getattr(found, metric))
  groups = sorted(values)
  means = [float(np.mean(values[group])) for group in groups]
  if len(runs) < 2 or any(len(each) < 2 for each in values.values()):
    return Curve(groups, means, None)
  return Curve(groups, means, [float(np.std(values[group], ddof=1)) for group in groups])


@plots.styled
def length_figure(
  systems: Mapping[str, Sequence[Sequence[LengthScores]]], metrics: Sequence[str] = METRICS
) -> Figure:
  """A panel for each metric, a line for each system; bars are the spread over its runs."""
  figure = plots.new_figure(5.2 * len(metrics), 3.3)
  panels = figure.subplots(1, len(metrics), squeeze=False)[0]
  for axes, metric in zip(panels, metrics, strict=True):
    _draw(axes, systems, metric)
  if len(systems) > 1:
    handles, labels = panels[0].get_legend_handles_labels()
    columns = 1 if max(map(len, labels)) > plots.LONG_LABEL * len(metrics) else 3
    figure.legend(handles, labels, loc='outside upper left', ncols=columns, fontsize=8)
    figure.set_figheight(3.3 + 0.18 * -(-len(systems) // columns))
  return figure


def _draw(axes: Axes, systems: Mapping[str, Sequence[Sequence[LengthScores]]], metric: str) -> None:
  curves = {name: curve(runs, metric) for name, runs in systems.items()}
  groups = sorted({group for drawn in curves.values() for group in drawn.groups})
  colors, looks = plots.colors(len(curves)), itertools.cycle(LOOKS)
  for (name, drawn), color, fmt in zip(curves.items(), colors, looks, strict=False):
    x = [groups.index(group) for group in drawn.groups]
    style: dict[str, Any] = dict(fmt=fmt, color=color, markersize=4, capsize=2)
    axes.errorbar(x, drawn.mean, drawn.spread, label=plots.shown(name), **style)
  shown = KINDS['pairs'].metrics[metric]
  axes.set_xticks(range(len(groups)), [words_of(*group) for group in groups])
  highest = max(
    m + s
    for drawn in curves.values()
    for m, s in zip(drawn.mean, drawn.spread or [0.0] * len(drawn.mean), strict=True)
  )
  # Bars may reach beyond what is possible.
  top = 1.05 * min(highest or shown.perfect, shown.perfect)
  axes.set(xlabel='words of the source', ylabel=shown.label, ylim=(0, top))
  if shown.perfect == 1:
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def table(systems: Mapping[str, Sequence[LengthScores]]) -> Table:
  """A column for each length: how many sentences, and the scores of each system."""
  by_group = {
    name: {(row.first, row.last): row.scores for row in rows} for name, rows in systems.items()
  }
  groups = sorted({group for its in by_group.values() for group in its})
  counts = [
    ' or '.join(dict.fromkeys(f'{its[group].count:,}' for its in by_group.values() if group in its))
    for group in groups
  ]
  rows = [['sentences', *counts]]
  for metric in METRICS:
    shown = KINDS['pairs'].metrics[metric]
    for name, its in by_group.items():
      label = f'{name}, {shown.label}' if len(systems) > 1 else shown.label
      values = [getattr(its.get(group), metric, None) for group in groups]
      cells = ['' if value is None else format(value, shown.fact) for value in values]
      rows.append([label, *cells])
  return Table(['words of the source', *(words_of(*group) for group in groups)], rows)
