"""Metrics over the steps of runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vit_jax.report import plots
from vit_jax.report.kinds import KINDS, Kind
from vit_jax.report.plots import Line
from vit_jax.report.render import Picture, picture
from vit_jax.run import Run


def training(
  runs: Sequence[Run],
  labels: Sequence[str],
  levels: Mapping[str, float],
  trained: Callable[[Run], str],
) -> list[Picture]:
  """The panels of the kind of data.

  Args:
    levels: values of the headline metric, by name.
    trained: gives the label of a metric of training that an evaluation has too.
  """
  kind, pictures = KINDS[runs[0].kind], []
  for name, (metric, options) in kind.panels.items():
    lines = _lines(runs, labels, metric, kind, trained)
    # An evaluation at the end alone is no curve.
    if any(len(line.step_T) > 1 or not line.points for line in lines):
      drawn = levels if metric == runs[0].headline_metric else {}
      pictures.append(picture_of(name, lines, levels=drawn, **options))
  return pictures


def picture_of(name: str, lines: Sequence[Line], **options: Any) -> Picture:
  """The curves, with their last values in words."""
  words = '; '.join(f'{line.label}: {line.value_T[-1]:.4g}' for line in lines)
  return picture(plots.curves(lines, **options), f'{name} over steps. Last values: {words}', name)


def _lines(
  runs: Sequence[Run],
  labels: Sequence[str],
  metric: str,
  kind: Kind,
  trained: Callable[[Run], str],
) -> list[Line]:
  """One run: training and every eval split. Several: a color each, training faint."""
  lines, colors = [], plots.colors(max(len(runs), 1 + len(runs[0].evals)))
  alone = len(runs) == 1
  for r, (run, label) in enumerate(zip(runs, labels, strict=True)):
    for i, split in enumerate(['train', *(run.evals if alone else [run.headline])]):
      other = split == 'train' and metric in kind.metrics
      name = f'{label}, {split}'
      if alone:
        name = trained(run) if other else split
      color, faint = colors[i if alone else r], other and not alone
      series = run.series(f'{split}/{metric}')
      if len(series[0]):
        lines.append(Line(name, *series, color, points=split != 'train', faint=faint))
  return lines
