"""The tables of the papers, theirs and ours side by side.

A table is a CSV file in `papers/` and an entry of `TABLES`. Of the columns of such a file, `ours`,
`options`, `classes` and `image_size` say which of our models a row is, `images` how many it was
trained on, `remark` why a figure of ours differs, and `source` where the row was read.
"""

from __future__ import annotations

import csv
import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from vit_jax.errors import UserError, nearest
from vit_jax.report import counting, models
from vit_jax.report.counting import Spec
from vit_jax.report.papers import TABLES, Table
from vit_jax.report.run import Run, read_run

PAPERS = Path(__file__).with_name('papers')
WIDTH = 120  # of the text, in characters
FIGURES = {'parameters_M': 'parameters M', 'gflops': 'GFLOPs', 'exaflops': 'exaFLOPs'}
# What a table calls the data that a run was pretrained on.
PRETRAINED = {'imagenet2012': 'ImageNet', 'imagenet21k': 'ImageNet-21k'}


class Row(NamedTuple):
  """A row of a paper, our figures for it, and what runs of that model reached, in percent."""

  paper: Mapping[str, str]
  ours: Mapping[str, float]
  reached: Mapping[str, Mapping[str, float]]  # run folder -> column -> accuracy


def write_table(name: str, run_dirs: Sequence[Path] = (), csv_path: Path | None = None) -> str:
  """A table as text, also written as CSV if a path is given.

  Raises:
    UserError: there is no such table, a folder is not a run, or the file cannot be written.
  """
  if name not in {**models.TABLES, **TABLES}:
    raise UserError(
      f'--table: there is no table {name!r}; {nearest(name, [*models.TABLES, *TABLES])}'
    )
  if name in models.TABLES:
    if run_dirs:
      raise UserError(
        f'--table: {name!r} is of models, not of run folders; leave {run_dirs[0]} out'
      )
    return models.write_table(name, csv_path)
  table, runs = TABLES[name], [read_run(path) for path in run_dirs]
  rows = [
    compare(table, paper, runs)
    for paper in tqdm(read_paper(name), 'counting', leave=False, disable=None)
  ]
  if csv_path is not None:
    lines = list(_csv_lines(table, rows))
    models.write_csv(
      csv_path, [lines[0], *([line[column] for column in lines[0]] for line in lines)]
    )
  return as_text(table, rows, runs)


def read_paper(name: str) -> list[dict[str, str]]:
  """The rows of a paper's table, as published."""
  with (PAPERS / f'{name}.csv').open(newline='') as file:
    return list(csv.DictReader(file))


def compare(table: Table, paper: Mapping[str, str], runs: Iterable[Run] = ()) -> Row:
  """One row of a paper beside ours; without figures of ours where we lack the model."""
  if not paper['ours']:
    return Row(paper, {}, {})
  spec = Spec(
    paper['ours'], paper.get('options', ''), int(paper['classes']), int(paper['image_size'])
  )
  counted = spec._replace(classes=int(paper.get('parameters_classes') or spec.classes))
  macs, of_padding = counting.forward_macs(spec)
  macs -= 0 if table.padding else of_padding
  ours = {
    'parameters_M': counting.parameters(counted) / 1e6,
    'gflops': table.flop_a_mac * macs / 1e9,
  }
  if paper.get('images'):
    ours['exaflops'] = 2 * table.passes * macs * int(paper['images']) / 1e18
  reached = {str(run.path): _results(table, paper, spec, run) for run in runs}
  return Row(paper, ours, {path: results for path, results in reached.items() if results})


def _results(table: Table, paper: Mapping[str, str], spec: Spec, run: Run) -> dict[str, float]:
  """Column -> accuracy of a run in percent; none unless the run is of this row's model and data."""
  config, data = run.config, run.config['data']
  size = int(paper.get('finetune_size') or spec.image_size)
  if data['image_size'] != [size, size]:
    return {}
  if (
    config['epochs']
    and not config['init_from']
    and paper.get('epochs', '') not in ('', f'{config["epochs"]:g}')
  ):
    return {}
  found = {}
  for column, result in table.results.items():
    pretrained = result.pretrained or paper.get('pretrain_data', '')
    metrics = run.result(result.split or ('test' if 'test' in run.evals else run.evals[0]))
    if (
      result.data == data['name'].partition(':')[0]
      and result.metric in metrics
      and (not pretrained or _pretrained_on(run) == pretrained)
    ):
      found[column] = 100 * metrics[result.metric]
  if not found:
    return {}
  model = config['model']
  its = Spec(model['name'], json.dumps(model['options'], sort_keys=True), 0, spec.image_size)
  of_row = counting.body(spec._replace(classes=0))
  return found if of_row is not None and of_row == counting.body(its) else {}


def _pretrained_on(run: Run) -> str:
  """The data that a run, or the run it started from, was trained on; '' where nobody knows."""
  start: str = run.config['init_from']
  data: str = run.config['data']['name']
  if start:
    if not (Path(start) / 'config.json').is_file():
      return ''
    data = read_run(start).config['data']['name']
  name = data.partition(':')[0]
  return PRETRAINED.get(name, name)


def _csv_lines(table: Table, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
  """Every column of the paper, ours after it; a line for each run that fits a row of the paper."""
  for row in rows:
    for run in row.reached or ('',):
      line: dict[str, Any] = {}
      for column, value in row.paper.items():
        line[column] = value
        if column in table.results:
          reached = row.reached.get(run, {}).get(column)
          line |= {f'{column}_ours': reached, f'{column}_difference': _difference(value, reached)}
      for column in FIGURES:
        value, ours = row.paper.get(column), row.ours.get(column)
        line |= {column: value, f'{column}_ours': ours, f'{column}_off_percent': _off(value, ours)}
      yield line | {'run': run}


def _difference(paper: str | None, ours: float | None) -> float | None:
  """Ours less the paper's; None where one of them is lacking."""
  return None if not paper or ours is None else ours - float(paper)


def _off(paper: str | None, ours: float | None) -> float | None:
  """The same in percent of the paper's."""
  difference = _difference(paper, ours)
  return None if difference is None else 100 * difference / float(paper or 1)


class Line(NamedTuple):
  """A line of the text: a row of the paper, or below it a run, or how far the run is off."""

  row: Row
  run: str = ''
  is_difference: bool = False


def as_text(table: Table, rows: Sequence[Row], runs: Sequence[Run] = ()) -> str:
  """The table in at most 120 columns, in several parts where it is wider, and its footnotes."""
  lines = [line for row in rows for line in _lines(row)]
  words = [
    [name.replace('_', ' '), *(_word(line, name, i == 0) for line in lines)]
    for i, name in enumerate(table.words)
  ]
  figures = [group for column in FIGURES if (group := _figure(column, lines))]
  results = [[column, *(_result(line, column) for line in lines)] for column in table.results]
  groups = [*figures, results]
  if not _fits(words + results):
    groups = [*figures, *([column] for column in results)]
  texts = ['\n'.join(_aligned(words, part)) for part in _parts(words, groups)]
  return '\n\n'.join([_filled(table.title), *texts, *_footnotes(table, rows, runs)])


def _lines(row: Row) -> Iterator[Line]:
  yield Line(row)
  for run in row.reached:
    yield from (Line(row, run), Line(row, run, is_difference=True))


def _word(line: Line, name: str, is_first: bool) -> str:
  if not line.run:
    return line.row.paper[name]
  if not is_first:
    return ''
  return '  difference' if line.is_difference else f'  {Path(line.run).name}'


def _figure(column: str, lines: Sequence[Line]) -> list[list[str]]:
  """The columns of a figure: the paper's, ours, and by how much ours is off; those there are."""
  cells = [
    ('', '', '')
    if line.run
    else _compared(line.row.paper.get(column, ''), line.row.ours.get(column))
    for line in lines
  ]
  head = FIGURES[column]
  paper, ours, off = (
    [name, *column]
    for name, column in zip((head, 'ours', 'off %'), zip(*cells, strict=True), strict=True)
  )
  if not any(cell.strip('-') for cell in paper[1:]):
    return [[f'{head} ours', *ours[1:]]] if any(cell.strip('-') for cell in ours[1:]) else []
  return [paper, ours, off]


def _compared(paper: str, ours: float | None) -> tuple[str, str, str]:
  off = _off(paper, ours)
  digits = max(len(paper.partition('.')[2]), 1 if ours is None or ours >= 10 else 2)
  return (
    paper or '-',
    '-' if ours is None else f'{ours:.{digits}f}',
    '-' if off is None else f'{off:+z.2f}',
  )


def _result(line: Line, column: str) -> str:
  paper = line.row.paper[column]
  if not line.run:
    return paper or '-'
  reached = line.row.reached[line.run].get(column)
  value = _difference(paper, reached) if line.is_difference else reached
  return '' if value is None else f'{value:+z.2f}' if line.is_difference else f'{value:.2f}'


def _width(column: Sequence[str]) -> int:
  return max(map(len, column))


def _fits(columns: Sequence[Sequence[str]]) -> bool:
  return sum(_width(column) + 2 for column in columns) <= WIDTH + 2


def _parts(words: list[list[str]], groups: list[list[list[str]]]) -> list[list[list[str]]]:
  """Groups of columns, put together as long as they fit beside the words."""
  parts: list[list[list[str]]] = [[]]
  for group in groups:
    if parts[-1] and not _fits(words + parts[-1] + group):
      parts.append([])
    parts[-1] += group
  return parts


def _aligned(words: list[list[str]], numbers: list[list[str]]) -> Iterator[str]:
  """Words left and numbers right; without the lines that have no number."""
  for cells in zip(*words, *numbers, strict=True):
    if any(cells[len(words) :]):
      yield '  '.join(
        cell.ljust(_width(column)) if i < len(words) else cell.rjust(_width(column))
        for i, (cell, column) in enumerate(zip(cells, words + numbers, strict=True))
      ).rstrip()


def _footnotes(table: Table, rows: Sequence[Row], runs: Sequence[Run]) -> Iterator[str]:
  remarks: dict[str, list[str]] = {}
  for row in rows:
    if row.paper.get('remark'):
      remarks.setdefault(row.paper['remark'], []).append(
        ' '.join(row.paper[word] for word in table.words)
      )
  texts = [f'{"; ".join(names)}: {remark}' for remark, names in remarks.items()]
  sources = dict.fromkeys(
    part
    for column in ('source', 'parameters_source')
    for row in rows
    for part in row.paper.get(column, '').split('; ')
    if part
  )
  texts += [
    table.note,
    f'Sources: {"; ".join(sources)}. Ours: counted from the shapes of our '
    'models (vit_jax/models/flops.py).',
  ]
  for run in runs:
    fits = any(str(run.path) in row.reached for row in rows)
    model, data = run.config['model'], run.config['data']
    what = f'{model["name"]} at {"x".join(map(str, data["image_size"]))} pixels on {data["name"]}'
    if not _pretrained_on(run):
      what += f', started from {run.config["init_from"]}, whose training data is unknown'
    texts.append(f'{run.path}: {what}{"" if fits else ", which fits no row of this table"}.')
  yield from map(_filled, texts)


def _filled(text: str) -> str:
  return textwrap.fill(
    text, WIDTH, subsequent_indent='  ', break_long_words=False, break_on_hyphens=False
  )
