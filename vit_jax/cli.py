"""The command line: one command a job.

Exit codes: 0 done, 75 preempted and saved (run the same command again), 1 a fault in the run,
2 a fault in the user's input, told in one sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from vit_jax import config, flags
from vit_jax.cli_judge import convert, evaluate, predict, transfer
from vit_jax.errors import UserError, nearest, verdict
from vit_jax.recipes import load_config


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command and returns its exit code."""
  argv = list(sys.argv[1:] if argv is None else argv)
  try:
    return _run(argv)
  except Exception as error:
    code, sentence = verdict(error)
    if sentence is None:
      raise
    print(f'vit_jax: {sentence}', file=sys.stderr)
    return code


def _run(argv: list[str]) -> int:
  if not argv or argv[0] in ('-h', '--help'):
    print(_help())
    return 0 if argv else 2
  if argv[0] == '--version':
    from vit_jax import __version__

    print(__version__)
    return 0
  name, *rest = argv
  if name not in COMMANDS:
    raise UserError(f'{name!r} is not a command; {nearest(name, COMMANDS)}')
  return COMMANDS[name](rest)


def _help() -> str:
  lines = [
    f'  {name:10}{(command.__doc__ or "").splitlines()[0]}' for name, command in COMMANDS.items()
  ]
  return (
    'usage: vit_jax COMMAND [--flag=value ...]\n\n'
    + '\n'.join(lines)
    + '\n\nvit_jax COMMAND --help lists the flags of a command.'
  )


def prepare(argv: list[str]) -> int:
  """Prepare a data set: vit_jax prepare earth_climate."""
  parser = flags.parser('prepare', prepare)
  parser.add_argument('name', help='earth_climate, fashion_mnist, or a TFDS name')
  flags.add_data_dir(parser)
  args = parser.parse_args(argv)
  from vit_jax.data import datasets

  datasets.prepare(args.name, flags.data_dir(args))
  return 0


def train(argv: list[str]) -> int:
  """Train, evaluate and leave a run folder; run it again to go on after an interruption."""
  parser = flags.parser('train', train)
  parser.add_argument(
    '--config',
    required=True,
    metavar='FILE[:ARG]',
    help='a recipe; --config.KEY=VALUE changes a key of it',
  )
  parser.add_argument('--workdir', type=Path, help='the run folder (default: runs/NAME)')
  flags.add_data_dir(parser)
  args, overrides = parser.parse_known_args(argv)
  from vit_jax.parallel.preemption import Preemption

  with Preemption() as preemption:  # before the imports, which take seconds
    x = config.resolve(load_config(args.config, overrides))
    workdir = args.workdir or Path('runs') / x.name
    import jax

    from vit_jax.parallel.device import keep_cpu_memory
    from vit_jax.training import loop

    keep_cpu_memory()
    code = loop.train(x, workdir, flags.data_dir(args), preemption)
    if code == 0 and jax.process_index() == 0:
      from vit_jax.report.page import write_page

      # One process of several cannot read a checkpoint alone.
      print(f'report: {write_page([workdir], weights=jax.process_count() == 1)}')
  return code


def bench(argv: list[str]) -> int:
  """Time the train step on synthetic data, alone or against timm."""
  parser = flags.parser('bench', bench)
  parser.add_argument('--model', default='B/16')
  parser.add_argument(
    '--batch', type=flags.at_least(1), default=128, help='images a step, over all devices'
  )
  parser.add_argument('--image_size', type=flags.at_least(1), default=224)
  parser.add_argument('--dtype', default='float32', choices=('float32', 'bfloat16', 'both'))
  parser.add_argument('--against', choices=('timm',), help='also time the PyTorch rival')
  parser.add_argument(
    '--seconds', type=flags.positive, default=20.0, help='of timing, for each contender'
  )
  parser.add_argument('--json', type=flags.output(), help='also write the figures here')
  args = parser.parse_args(argv)
  from vit_jax.bench.run import run
  from vit_jax.parallel.device import keep_cpu_memory

  keep_cpu_memory()
  dtypes = ('float32', 'bfloat16') if args.dtype == 'both' else (args.dtype,)
  run(
    args.model,
    args.batch,
    image_size=args.image_size,
    dtypes=dtypes,
    against=args.against,
    seconds=args.seconds,
    json_path=args.json,
  )
  return 0


def report(argv: list[str]) -> int:
  """Write report.html for a run folder, print a table of models or of a paper, or fit a law."""
  parser = flags.parser('report', report)
  parser.add_argument('runs', type=Path, nargs='*', help='run folders')
  parser.add_argument(
    '--table',
    metavar='NAME',
    help='models: parameters and GMACs of every model; timm: beside its table; '
    "or a paper's beside ours, such as vit_table6 (docs/tables.md)",
  )
  parser.add_argument('--goodput', action='store_true', help='where the hours of a run went')
  parser.add_argument(
    '--scaling',
    action='store_true',
    help='the law of error and compute, from many runs or a --csv of them',
  )
  parser.add_argument('--csv', type=flags.output(), help='also write the table here')
  parser.add_argument(
    '--metric',
    default='',
    metavar='EVAL/NAME',
    help='with --scaling: judge by this accuracy, such as digits/10-shot',
  )
  parser.add_argument('--png', type=flags.output('.png'), help='with --scaling: also draw it here')
  parser.add_argument(
    '--page',
    type=flags.output('.html'),
    metavar='FILE.html',
    help='write the page here, and nothing into the run folders',
  )
  args = parser.parse_args(argv)
  if args.page is not None and (args.table is not None or args.goodput or args.scaling):
    raise UserError(
      '--page writes a page of runs, but a table is asked for; leave out --page, '
      'or --table, --goodput and --scaling'
    )
  for name in ('png', 'metric'):
    if getattr(args, name) and not args.scaling:
      raise UserError(f'--{name} belongs to a scaling law; add --scaling')
  if args.table is not None:
    from vit_jax.report.tables import write_table

    print(write_table(args.table, args.runs, args.csv))
    return 0
  if not args.runs:
    raise UserError('report: name at least one run folder, or a table as in --table=models')
  if args.goodput:
    from vit_jax.report.goodput import write_goodput

    print(write_goodput(args.runs, args.csv))
    return 0
  if args.scaling:
    from vit_jax.report.scaling import write_scaling

    draw = None
    if args.png:
      from vit_jax.report.scaling_plots import to_png

      draw = to_png(args.png)
    print(write_scaling(args.runs, args.csv, draw, args.metric))
    return 0
  if args.csv:
    raise UserError(
      '--csv writes a table, but none is asked for; add --table=models, --goodput or --scaling'
    )
  from vit_jax.report.page import write_page

  print(write_page(args.runs, args.page))
  return 0


def launch(argv: list[str]) -> int:
  """Start a run in several processes here, or print what starts it on a cluster or a cloud."""
  from vit_jax.launch import command

  parser = flags.parser('launch', launch)
  command.add_flags(parser)
  parser.add_argument('--workdir', default='', help='the run folder (default: runs/NAME)')
  args, overrides = parser.parse_known_args(argv)
  return command.launch(args, overrides)


def sweep(argv: list[str]) -> int:
  """Train a grid of configs: vit_jax sweep --config=FILE --grid.optim.lr=1e-3,3e-4."""
  from vit_jax.launch import command
  from vit_jax.launch.sweep import run_sweep

  parser = flags.parser('sweep', sweep)
  command.add_flags(parser)
  parser.add_argument(
    '--workdir', default='', help='the folder of run folders (default: runs/NAME_sweep)'
  )
  parser.add_argument('--jobs', type=flags.at_least(1), default=1, help='at a time, on this host')
  args, rest = parser.parse_known_args(argv)
  return run_sweep(args, rest)


def compare(argv: list[str]) -> int:
  """Train and judge several systems on the same data and budget; run it again to go on."""
  parser = flags.parser('compare', compare)
  parser.add_argument(
    '--config',
    required=True,
    metavar='FILE',
    help='a recipe of several systems, such as configs/before_after.py; '
    '--config.KEY=VALUE changes a key of all',
  )
  parser.add_argument('--workdir', type=Path, help='the folder of run folders (default: runs/FILE)')
  parser.add_argument(
    '--seeds',
    type=flags.at_least(0),
    nargs='+',
    default=[0],
    help='one training each, after the choices are made',
  )
  for name, suffix, what in (('csv', '', 'table'), ('json', '', 'table'), ('plot', '.png', 'plot')):
    parser.add_argument(f'--{name}', type=flags.output(suffix), help=f'also write the {what} here')
  flags.add_data_dir(parser)
  args, overrides = parser.parse_known_args(argv)
  from vit_jax.parallel.device import keep_cpu_memory
  from vit_jax.report.comparison import write_comparison

  keep_cpu_memory()
  from vit_jax.training.compare import compare as work

  root = args.workdir or Path('runs') / Path(args.config).stem
  code = work(args.config, overrides, args.seeds, root, flags.data_dir(args))
  if code == 0:
    print(write_comparison(root, args.csv, args.json, args.plot))
  return code


def plan(argv: list[str]) -> int:
  """Say what a run would take on chips that are not here: memory, collectives, a bound on speed."""
  from vit_jax.plan import command

  parser = flags.parser('plan', plan)
  command.add_flags(parser)
  flags.add_data_dir(parser)
  args, overrides = parser.parse_known_args(argv)
  return command.run(args, overrides, flags.data_dir(args) / 'plans')


COMMANDS: dict[str, Callable[[list[str]], int]] = {
  'prepare': prepare,
  'train': train,
  'evaluate': evaluate,
  'predict': predict,
  'convert': convert,
  'transfer': transfer,
  'bench': bench,
  'report': report,
  'launch': launch,
  'sweep': sweep,
  'compare': compare,
  'plan': plan,
}


if __name__ == '__main__':
  sys.exit(main())
