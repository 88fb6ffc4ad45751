"""The page of `vit_jax transfer`: what several models' features are worth, task by task."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from vit_jax.errors import UserError
from vit_jax.report import plots
from vit_jax.report.page import CSS, DOCUMENT
from vit_jax.report.results import row, table
from vit_jax.transfer.suite import Row

NOTE = (
  'Top-1 on test images, in per cent. Few-shot and fine-tuning: mean and standard deviation, '
  'over three draws of the training examples and over seeds. Others: with the standard error '
  'over test examples.'
)


def write_page(
  rows: Sequence[Row],
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
  title = f'Transfer of {", ".join(models)}'
  parts = [
    f'<h1>{escape(title)}</h1>',
    *(f'<p class="lead">{escape(line)}</p>' for line in lines),
    f'<p class="note">{NOTE}</p>',
    _means(means, models),
    _shots(rows, models),
  ]
  parts += [_metric(metric, rows, models) for metric in dict.fromkeys(row.metric for row in rows)]
  parts.append(_everything(rows))
  body = '\n'.join(part for part in parts if part)
  try:
    path.write_text(DOCUMENT.format(title=escape(title), css=CSS.read_text(), body=body), 'utf-8')
  except OSError as error:
    raise UserError(f'{path} cannot be written ({error.strerror})') from None


def _means(means: Sequence[tuple[str, str, str, int, float]], models: Sequence[str]) -> str:
  """A row for each group of tasks and metric, a column for each model."""
  found = {(group, metric, model): mean for model, group, metric, _, mean in means}
  kinds = dict.fromkeys((group, metric, count) for _, group, metric, count, _ in means)
  rows = [
    row(
      f'{group} ({count} tasks), {metric}',
      [_cell(found.get((group, metric, model))) for model in models],
    )
    for group, metric, count in kinds
  ]
  head = '<h2>Means over tasks</h2>\n' + table('group, metric', [*map(escape, models)], rows)
  return head if rows else ''


def _metric(metric: str, rows: Sequence[Row], models: Sequence[str]) -> str:
  """A table of tasks by models, and the same as a picture."""
  chosen = [row for row in rows if row.metric == metric]
  found = {(row.task, row.model): row for row in chosen}
  tasks = list(dict.fromkeys(row.task for row in chosen))
  lines = [
    row(
      task, [_cell(r.top1, r.spread) if (r := found.get((task, model))) else '' for model in models]
    )
    for task in tasks
  ]
  svg = plots.to_svg(
    _dots(tasks, chosen, models),
    f'{metric} of each task; the same figures stand in the table beside it',
  )
  return (
    f'<h2>{escape(metric)}</h2>\n<div class="beside">'
    f'<figure>{svg}</figure>\n{table("task", [*map(escape, models)], lines)}</div>'
  )


def _dots(tasks: Sequence[str], rows: Sequence[Row], models: Sequence[str]) -> Figure:
  """A line for each task, a dot with its spread for each model."""
  with matplotlib.rc_context(plots.STYLE):
    figure = plots.new_figure(4.4, 1.1 + 0.3 * len(tasks))
    axes = figure.add_subplot()
    for model, colour in zip(models, plots.colours(len(models)), strict=False):
      its = [row for row in rows if row.model == model]
      axes.errorbar(
        [row.top1 for row in its],
        [tasks.index(row.task) for row in its],
        xerr=[row.spread for row in its],
        fmt='o',
        color=colour,
        markersize=4.5,
        elinewidth=1,
        label=plots.shown(model),
      )
    axes.set_yticks(range(len(tasks)), tasks)
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    axes.set_xlabel('top-1, %')
    figure.legend(loc='outside upper left', ncols=min(len(models), 3), fontsize=8)
    return figure


def _shots(rows: Sequence[Row], models: Sequence[str]) -> str:
  """Accuracy against examples of a class, a picture for each task with two numbers of them."""
  figures = []
  for task in dict.fromkeys(r.task for r in rows):
    its = [row for row in rows if row.task == task and row.method == 'few-shot']
    if len({row.metric for row in its}) < 2:
      continue
    with matplotlib.rc_context(plots.STYLE):
      figure = plots.new_figure(5.2, 2.9)
      axes = figure.add_subplot()
      for model, colour in zip(models, plots.colours(len(models)), strict=False):
        points = [
          (int(row.metric.partition('-')[0]), row.top1, row.spread)
          for row in its
          if row.model == model
        ]
        if points:
          shots, top1s, spreads = zip(*points, strict=True)
          axes.errorbar(
            shots,
            top1s,
            spreads,
            fmt='o-',
            color=colour,
            markersize=3.5,
            capsize=2,
            label=plots.shown(model),
          )
      axes.set_xscale('log')
      axes.set_xticks(sorted({int(row.metric.partition('-')[0]) for row in its}))
      axes.xaxis.set_major_formatter(ScalarFormatter())
      axes.xaxis.set_minor_locator(NullLocator())
      axes.set(xlabel='training examples of a class', ylabel='top-1, %')
      axes.legend(fontsize=8)
    svg = plots.to_svg(
      figure,
      f'{task}: accuracy against training examples of a class; the '
      'figures stand in the tables below',
    )
    figures.append(f'<figure><figcaption>{escape(task)}</figcaption>{svg}</figure>')
  if not figures:
    return ''
  return f'<h2>With few examples</h2>\n<div class="pair">{chr(10).join(figures)}</div>'


def _everything(rows: Sequence[Row]) -> str:
  lines = [
    row(
      f'{r.model}, {r.task}, {r.metric}',
      [escape(r.setting), _cell(r.top1, r.spread), f'{r.train_examples:,}', f'{r.test_examples:,}'],
    )
    for r in rows
  ]
  head = ['setting', 'top-1', 'training examples', 'test examples']
  return f'<details><summary>All figures</summary>\n{table("", head, lines)}</details>'


def _cell(top1: float | None, spread: float | None = None) -> str:
  if top1 is None:
    return ''
  return f'{top1:.1f}' + ('' if spread is None else f' ± {spread:.1f}')
