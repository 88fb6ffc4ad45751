"""`vit_jax report`. Each kind imports what it needs, which takes up to two seconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax.commands import flags
from vit_jax.errors import UserError
from vit_jax.paths import place
from vit_jax.remote.runs import run_folder
from vit_jax.report import costs
from vit_jax.tables import write_csv
from vit_jax.writes import output


def main(argv: list[str]) -> int:
  parser = flags.parser('report')
  add, kind = parser.add_argument, parser.add_mutually_exclusive_group()
  add('runs', type=place, nargs='*', help='run folders, also addresses')
  words = (
    'models: parameters and GMACs of every model; timm: beside its table; '
    "or a paper's beside ours, such as vit_table6 (docs/tables.md)"
  )
  kind.add_argument('--table', metavar='NAME', help=words)
  kind.add_argument('--goodput', action='store_true', help='where the hours of a run went')
  words = 'the law of error and compute, from many runs or a --csv of them'
  kind.add_argument('--scaling', action='store_true', help=words)
  words = 'write the page here, and nothing into the run folders'
  kind.add_argument('--page', type=flags.output('.html'), metavar='FILE.html', help=words)
  add('--csv', type=flags.output(), help='also write the table here')
  words = 'with --scaling: judge by this accuracy, such as digits/10-shot'
  add('--metric', default='', metavar='EVAL/NAME', help=words)
  add('--png', type=flags.output('.png'), help='with --scaling: also draw it here')
  args = parser.parse_args(argv)
  for name in ('png', 'metric'):
    if getattr(args, name) and not args.scaling:
      raise UserError(f'--{name} belongs to a scaling law; add --scaling')
  if args.table is None and not args.runs:
    raise UserError('report: name at least one run folder, or a table as in --table=models')

  runs = [run_folder(each) for each in args.runs]
  study = None
  if args.table is not None:
    text, rows = _table(args.table, runs)
  elif args.goodput:
    from vit_jax.report import goodput

    text, rows = goodput.goodput(runs)
  elif args.scaling:
    from vit_jax.report import scaling

    study = scaling.study(scaling.read_points(runs, args.metric))
    text, rows = scaling.as_words(study), [point._asdict() for point in study.points]
  elif args.csv:
    raise UserError('--csv writes a table; add --table=NAME, --goodput or --scaling')
  else:
    from vit_jax.parallel.programs import keep_programs
    from vit_jax.report.page import write_page

    keep_programs()
    print(write_page(runs, args.page))
    return 0
  if args.csv:
    write_csv(args.csv, rows)
  if study and args.png:
    from vit_jax.report import scaling_plots
    from vit_jax.report.plots import save_png

    with output(args.png) as file:
      save_png(scaling_plots.figure(study), file)
  print(text)
  return 0


def _table(name: str, runs: Sequence[Path]) -> tuple[str, list[dict[str, Any]]]:
  if name == costs.NAME and not runs:
    return costs.table()
  from vit_jax.report import paper_tables

  return paper_tables.table(name, runs)
