"""The tables of the papers, theirs and ours side by side.

A table is a CSV file in `papers/` and a section of tables.toml. Of the columns of such a file,
`ours`, `options`, `classes` and `image_size` say which of our models a row is, `images` how many it
was trained on, `remark` why a figure of ours differs, and `source` where the row is from.
"""

import itertools
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from vit_jax import tables
from vit_jax.errors import UserError, nearest
from vit_jax.paths import is_address, local
from vit_jax.report import costs, counting, zoo
from vit_jax.report.counting import Spec
from vit_jax.report.papers import RESULTS, TABLES, Table, read_paper
from vit_jax.run.folder import Run

WIDTH = 120  # of the text, in characters
FIGURES = {'parameters_M': 'parameters M', 'gflops': 'GFLOPs', 'exaflops': 'exaFLOPs'}
Column = tuple[str, ...]  # its name, and a cell of each line
# What a table calls the data that a run was pretrained on.
PRETRAINED = {'imagenet2012': 'ImageNet', 'imagenet21k': 'ImageNet-21k'}


class PaperRow(NamedTuple):
  """A row of a paper, our figures for it, and what runs of that model reached, in percent."""

  paper: Mapping[str, str]
  ours: Mapping[str, float]
  reached: Mapping[str, Mapping[str, float]]  # run folder -> column -> accuracy


def table(name: str, run_dirs: Sequence[Path] = ()) -> tuple[str, list[dict[str, Any]]]:
  """(a table as text, its rows for a CSV file).

  Raises:
    UserError: there is no such table, or a folder is not a run.
  """
  of_models = {costs.NAME: costs.table, zoo.NAME: zoo.table}
  if name in of_models:
    if run_dirs:
      raise UserError(
        f'--table: {name!r} is of models, not of run folders; leave {run_dirs[0]} out'
      )
    return of_models[name]()
  if name not in TABLES:
    raise UserError(f'--table: there is no table {name!r}; {nearest(name, [*of_models, *TABLES])}')
  kind, runs = TABLES[name], [Run(path) for path in run_dirs]
  papers = tqdm(read_paper(name), 'counting', leave=False, disable=None)
  rows = [compare(kind, paper, runs) for paper in papers]
  return as_text(kind, rows, runs), list(_csv_rows(kind, rows))


def compare(table: Table, paper: Mapping[str, str], runs: Iterable[Run] = ()) -> PaperRow:
  """One row of a paper beside ours, without our figures if we do not have the model."""
  if not paper['ours']:
    return PaperRow(paper, {}, {})
  classes, size = int(paper['classes']), int(paper['image_size'])
  spec = Spec(paper['ours'], paper.get('options', ''), classes, size)
  counted = spec._replace(classes=int(paper.get('parameters_classes') or classes))
  macs, of_padding = counting.forward_macs(spec)
  macs -= 0 if table.padding else of_padding
  ours = {
    'parameters_M': counting.parameters(counted) / 1e6,
    'gflops': table.flop_per_mac * macs / 1e9,
  }
  if paper.get('images'):
    ours['exaflops'] = 2 * table.passes * macs * int(paper['images']) / 1e18
  reached = {str(run.path): _results(table, paper, spec, run) for run in runs}
  return PaperRow(paper, ours, {path: results for path, results in reached.items() if results})


def _results(table: Table, paper: Mapping[str, str], spec: Spec, run: Run) -> dict[str, float]:
  """Column -> accuracy of a run in percent; none unless the run is of this row's model and data."""
  config, data = run.config, run.config['data']
  size = int(paper.get('finetune_size') or paper['image_size'])
  epochs = '' if config['init_from'] or not config['epochs'] else f'{config["epochs"]:g}'
  if data.get('image_size') != [size, size] or (
    epochs and paper.get('epochs') not in ('', None, epochs)
  ):
    return {}
  found = {}
  for column, result in RESULTS.items():
    pretrained = result.pretrained or paper.get('pretrain_data', '')
    metrics = run.result(result.split or ('test' if 'test' in run.evals else run.headline))
    if (
      column in table.results
      and result.data == data['name'].partition(':')[0]
      and result.metric in metrics
      and (not pretrained or _pretrained_on(run) == pretrained)
    ):
      found[column] = 100 * metrics[result.metric]
  if not found:
    return {}
  of_row = counting.body(spec)
  its = counting.body(counting.spec_of(run)._replace(image_size=spec.image_size))
  return found if of_row is not None and of_row == its else {}


def _pretrained_on(run: Run) -> str:
  """The data that a run, or the run it started from, was trained on; '' if it is not known."""
  start = run.config['init_from']
  if start:
    if is_address(start) or not (local(start) / 'config.json').is_file():
      return ''
    run = Run(start)
  name: str = run.config['data']['name'].partition(':')[0]
  return PRETRAINED.get(name, name)


def _csv_rows(table: Table, rows: Sequence[PaperRow]) -> Iterator[dict[str, Any]]:
  """Every column of the paper followed by ours; a row for each run that fits a row of the paper."""
  for row in rows:
    for run, reached in (row.reached or {'': {}}).items():
      line: dict[str, Any] = {}
      for column, value in row.paper.items():
        line[column] = value
        if column in table.results:
          ours = reached.get(column)
          line |= {f'{column}_ours': ours, f'{column}_difference': _difference(value, ours)}
      for column in FIGURES:
        value, ours = row.paper.get(column), row.ours.get(column)
        line |= {column: value, f'{column}_ours': ours, f'{column}_off_percent': _off(value, ours)}
      yield line | {'run': run}


def _difference(paper: str | None, ours: float | None) -> float | None:
  """Ours minus the paper's; None where one of them is missing."""
  return None if not paper or ours is None else ours - float(paper)


def _off(paper: str | None, ours: float | None) -> float | None:
  """The same in percent of the paper's."""
  difference = _difference(paper, ours)
  return None if difference is None else 100 * difference / float(paper or 1)


def as_text(table: Table, rows: Sequence[PaperRow], runs: Sequence[Run] = ()) -> str:
  """The table in at most 120 columns, in several parts where it is wider, and its footnotes."""
  head = [name.replace('_', ' ') for name in table.words]
  head += [name for figure in FIGURES.values() for name in (figure, 'ours', 'off %')]
  lines = [line for row in rows for line in _lines(table, row)]
  columns = list(zip([*head, *table.results], *lines, strict=True))
  words, results = columns[: len(table.words)], columns[len(head) :]
  groups = [
    group for i in range(len(words), len(head), 3) if (group := _figure(*columns[i : i + 3]))
  ]
  groups += [results] if _fits(words + results) else [[column] for column in results]
  texts = [_aligned(words, part) for part in _parts(words, groups)]
  return '\n\n'.join([_filled(table.title), *texts, *_footnotes(table, rows, runs)])


def _lines(table: Table, row: PaperRow) -> Iterator[list[str]]:
  """The cells of a row of the paper, then those of each run and of its difference."""
  figures = [_compared(row.paper.get(column, ''), row.ours.get(column)) for column in FIGURES]
  words = [row.paper[word] for word in table.words]
  yield [*words, *itertools.chain(*figures), *(row.paper[name] or '-' for name in table.results)]
  blank = [''] * (len(words) - 1 + 3 * len(FIGURES))
  for run, reached in row.reached.items():
    values = [reached.get(name) for name in table.results]
    off = [_difference(row.paper[name], reached.get(name)) for name in table.results]
    yield [f'  {Path(run).name}', *blank, *('' if v is None else f'{v:.2f}' for v in values)]
    yield ['  difference', *blank, *('' if d is None else f'{d:+z.2f}' for d in off)]


def _figure(paper: Column, ours: Column, off: Column) -> list[Column]:
  """The columns of a figure that have any; the paper may not have it."""
  if any(cell.strip('-') for cell in paper[1:]):
    return [paper, ours, off]
  return [(f'{paper[0]} ours', *ours[1:])] if any(cell.strip('-') for cell in ours[1:]) else []


def _compared(paper: str, ours: float | None) -> tuple[str, str, str]:
  off = _off(paper, ours)
  digits = max(len(paper.partition('.')[2]), 1 if ours is None or ours >= 10 else 2)
  return (
    paper or '-',
    '-' if ours is None else f'{ours:.{digits}f}',
    '-' if off is None else f'{off:+z.2f}',
  )


def _fits(columns: Sequence[Column]) -> bool:
  return sum(max(map(len, column)) + 2 for column in columns) <= WIDTH + 2


def _parts(words: list[Column], groups: list[list[Column]]) -> list[list[Column]]:
  """Groups of columns, combined as long as they fit beside the words."""
  parts: list[list[Column]] = [[]]
  for group in groups:
    if parts[-1] and not _fits(words + parts[-1] + group):
      parts.append([])
    parts[-1] += group
  return parts


def _aligned(words: list[Column], numbers: list[Column]) -> str:
  """Words left and numbers right, without lines that have no number."""
  lines = [cells for cells in zip(*words, *numbers, strict=True) if any(cells[len(words) :])]
  return tables.as_text((), lines, '<' * len(words) + '>' * len(numbers))


def _footnotes(table: Table, rows: Sequence[PaperRow], runs: Sequence[Run]) -> Iterator[str]:
  remarks: dict[str, list[str]] = {}
  for row in rows:
    if remark := row.paper.get('remark'):
      name = ' '.join(row.paper[word] for word in table.words)
      remarks.setdefault(remark, []).append(name)
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
    f'Sources: {"; ".join(sources)}. Ours: counted from the shapes of our models '
    '(vit_jax/models/flops.py).',
  ]
  for run in runs:
    fits = any(str(run.path) in row.reached for row in rows)
    model, data = run.config['model'], run.config['data']
    what = f'{model["name"]} at {"x".join(map(str, data["image_size"]))} pixels on {data["name"]}'
    if not _pretrained_on(run):
      what += f', started from {run.config["init_from"]}, whose training data is unknown'
    texts.append(f'{run.place}: {what}{"" if fits else ", which fits no row of this table"}.')
  yield from map(_filled, texts)


def _filled(text: str) -> str:
  return textwrap.fill(
    text, WIDTH, subsequent_indent='  ', break_long_words=False, break_on_hyphens=False
  )
