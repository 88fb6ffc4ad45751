"""The page of `vit_jax transfer`: how well several models' features transfer, task by task."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from vit_jax.errors import writing
from vit_jax.report import plots
from vit_jax.report.render import Picture, Table, picture, render
from vit_jax.transfer.suite import TransferRow


def write_page(
  rows: Sequence[TransferRow],
  means: Sequence[tuple[str, str, str, int, float]],
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
  with writing(path):
    path.write_text(text, 'utf-8')


def _means(means: Sequence[tuple[str, str, str, int, float]], models: Sequence[str]) -> Table:
  """A row for each group of tasks and metric, a column for each model."""
  found = {(group, metric, model): mean for model, group, metric, _, mean in means}
  kinds = dict.fromkeys((group, metric, count) for _, group, metric, count, _ in means)
  return Table(
    ['group, metric', *models],
    [
      [
        f'{group} ({count} tasks), {metric}',
        *(_cell(found.get((group, metric, model))) for model in models),
      ]
      for group, metric, count in kinds
    ],
  )


def _metric(
  metric: str, rows: Sequence[TransferRow], models: Sequence[str]
) -> tuple[str, Picture, Table]:
  """A table of tasks by models, and the same as a picture."""
  chosen = [row for row in rows if row.metric == metric]
  found = {(row.task, row.model): _cell(row.top1, row.spread) for row in chosen}
  tasks = list(dict.fromkeys(row.task for row in chosen))
  cells = [[task, *(found.get((task, model), '') for model in models)] for task in tasks]
  words = f'{metric} of each task; the table beside it has the same figures'
  return metric, picture(_dots(tasks, chosen, models), words), Table(['task', *models], cells)


@plots.styled
def _dots(tasks: Sequence[str], rows: Sequence[TransferRow], models: Sequence[str]) -> Figure:
  """A line for each task, a dot with its spread for each model."""
  figure, axes = plots.new_axes(4.4, 1.1 + 0.3 * len(tasks))
  for model, color in zip(models, plots.colors(len(models)), strict=False):
    its = [row for row in rows if row.model == model]
    axes.errorbar(
      [row.top1 for row in its],
      [tasks.index(row.task) for row in its],
      xerr=[row.spread for row in its],
      fmt='o',
      color=color,
      markersize=4.5,
      elinewidth=1,
      label=plots.shown(model),
    )
  axes.set_yticks(range(len(tasks)), tasks)
  axes.set_ylim(len(tasks) - 0.5, -0.5)
  axes.set_xlabel('top-1, %')
  figure.legend(loc='outside upper left', ncols=min(len(models), 3), fontsize=8)
  return figure


def _shots(rows: Sequence[TransferRow], models: Sequence[str]) -> list[Picture]:
  """Accuracy against examples per class, a picture for each task with two numbers of them."""
  pictures = []
  for task in dict.fromkeys(row.task for row in rows):
    points = [
      (row.model, int(row.metric.partition('-')[0]), row.top1, row.spread)
      for row in rows
      if row.task == task and row.method == 'few_shot'
    ]
    if len({shots for _, shots, _, _ in points}) > 1:
      words = f'{task}: accuracy against training examples per class; the tables have the figures'
      pictures.append(picture(_shots_figure(points, models), words, task))
  return pictures


@plots.styled
def _shots_figure(points: Sequence[tuple[str, int, float, float]], models: Sequence[str]) -> Figure:
  figure, axes = plots.new_axes(5.2, 2.9)
  for model, color in zip(models, plots.colors(len(models)), strict=False):
    its = [point[1:] for point in points if point[0] == model]
    if its:
      shots, top1s, spreads = zip(*its, strict=True)
      bars = axes.errorbar(shots, top1s, spreads, fmt='o-', color=color, markersize=3.5, capsize=2)
      bars.set_label(plots.shown(model))
  axes.set_xscale('log')
  axes.set_xticks(sorted({shots for _, shots, _, _ in points}))
  axes.xaxis.set_major_formatter(ScalarFormatter())
  axes.xaxis.set_minor_locator(NullLocator())
  axes.set(xlabel='training examples per class', ylabel='top-1, %')
  axes.legend(fontsize=8)
  return figure


def _everything(rows: Sequence[TransferRow]) -> Table:
  cells = [
    [
      f'{row.model}, {row.task}, {row.metric}',
      row.setting,
      _cell(row.top1, row.spread),
      f'{row.train_examples:,}',
      f'{row.test_examples:,}',
    ]
    for row in rows
  ]
  return Table(['', 'setting', 'top-1', 'training examples', 'test examples'], cells)


def _cell(top1: float | None, spread: float | None = None) -> str:
  if top1 is None:
    return ''
  return f'{top1:.1f}' + ('' if spread is None else f' ± {spread:.1f}')
