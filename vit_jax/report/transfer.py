"""The page of `vit_jax transfer`: how well several models' features transfer, task by task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from vit_jax.report import plots
from vit_jax.report.render import Picture, Table, picture, render
from vit_jax.transfer.suite import GroupMean, TransferRow
from vit_jax.writes import write


def write_page(
  rows: Sequence[TransferRow],
  means: Sequence[GroupMean],
  lines: Sequence[str],
  path: Path,
) -> None:
  """Writes the page: a table of each metric, a picture of it, accuracy against shots, all rows.

  Args:
    rows, means: as `suite.judge` and `suite.group_means` give them.
    lines: what was loaded, one for each model.

  Raises:
    UserError: the page cannot be written.
  """
  models = list(dict.fromkeys(row.model for row in rows))
  text = render(
    'transfer.html',
    title=f'Transfer of {", ".join(models)}',
    lines=lines,
    means=_means(means, models),
    shots=_shots(rows, models),
    metrics=[_metric(metric, rows, models) for metric in dict.fromkeys(row.metric for row in rows)],
    everything=_everything(rows),
  )
  write(path, text)


def _means(means: Sequence[GroupMean], models: Sequence[str]) -> Table:
  """A row for each group of tasks and metric, a column for each model."""
  found: dict[str, dict[str, str]] = {}
  for model, group, metric, count, mean in means:
    found.setdefault(f'{group} ({count} tasks), {metric}', {})[model] = f'{mean:.1f}'
  return _by_model('group, metric', found, models)


def _metric(
  metric: str, rows: Sequence[TransferRow], models: Sequence[str]
) -> tuple[str, Picture, Table]:
  """A table of tasks by models, and the same as a picture."""
  chosen = [row for row in rows if row.metric == metric]
  found: dict[str, dict[str, str]] = {}
  for row in chosen:
    found.setdefault(row.task, {})[row.model] = _top1(row)
  words = f'{metric} of each task; the table beside it has the same figures'
  drawn = picture(_dots(list(found), chosen, models), words)
  return metric, drawn, _by_model('task', found, models)


def _by_model(first: str, found: Mapping[str, Mapping[str, str]], models: Sequence[str]) -> Table:
  """A row for each name, a column for each model, empty where a model has no cell."""
  cells = [[name, *(its.get(model, '') for model in models)] for name, its in found.items()]
  return Table([first, *models], cells)


@plots.styled
def _dots(tasks: Sequence[str], rows: Sequence[TransferRow], models: Sequence[str]) -> Figure:
  """A line for each task, a dot with its spread for each model."""
  figure, axes = plots.new_axes(4.4, 1.1 + 0.3 * len(tasks))
  for model, color in zip(models, plots.colors(len(models)), strict=False):
    its = [row for row in rows if row.model == model]
    top1s, spreads = [row.top1 for row in its], [row.spread for row in its]
    places = [tasks.index(row.task) for row in its]
    style: dict[str, Any] = dict(fmt='o', color=color, markersize=4.5, elinewidth=1)
    axes.errorbar(top1s, places, xerr=spreads, label=plots.shown(model), **style)
  axes.set_yticks(range(len(tasks)), tasks)
  axes.set(xlabel='top-1, %', ylim=(len(tasks) - 0.5, -0.5))
  figure.legend(loc='outside upper left', ncols=min(len(models), 3), fontsize=8)
  return figure


def _shots(rows: Sequence[TransferRow], models: Sequence[str]) -> list[Picture]:
  """Accuracy against examples per class, a picture for each task with two numbers of them."""
  pictures = []
  for task in dict.fromkeys(row.task for row in rows):
    few = [row for row in rows if row.task == task and row.method == 'few_shot']
    if len({row.metric for row in few}) > 1:
      words = f'{task}: accuracy against training examples per class; the tables have the figures'
      pictures.append(picture(_shots_figure(few, models), words, task))
  return pictures


@plots.styled
def _shots_figure(rows: Sequence[TransferRow], models: Sequence[str]) -> Figure:
  figure, axes = plots.new_axes(5.2, 2.9)
  for model, color in zip(models, plots.colors(len(models)), strict=False):
    its = [(_shot(row), row.top1, row.spread) for row in rows if row.model == model]
    if its:
      shots, top1s, spreads = zip(*its, strict=True)
      bars = axes.errorbar(shots, top1s, spreads, fmt='o-', color=color, markersize=3.5, capsize=2)
      bars.set_label(plots.shown(model))
  axes.set(xscale='log', xlabel='training examples per class', ylabel='top-1, %')
  axes.set_xticks(sorted({_shot(row) for row in rows}))
  axes.xaxis.set_major_formatter(ScalarFormatter())
  axes.xaxis.set_minor_locator(NullLocator())
  axes.legend(fontsize=8)
  return figure


def _everything(rows: Sequence[TransferRow]) -> Table:
  cells = [
    [
      f'{row.model}, {row.task}, {row.metric}',
      row.setting,
      _top1(row),
      f'{row.train_examples:,}',
      f'{row.test_examples:,}',
    ]
    for row in rows
  ]
  return Table(['', 'setting', 'top-1', 'training examples', 'test examples'], cells)


def _top1(row: TransferRow) -> str:
  return f'{row.top1:.1f} ± {row.spread:.1f}'


def _shot(row: TransferRow) -> int:
  """5 of the metric '5-shot'."""
  return int(row.metric.partition('-')[0])
