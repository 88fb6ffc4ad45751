"""`vit_jax train`."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vit_jax.commands import flags
from vit_jax.errors import UserError
from vit_jax.parallel.preemption import Preemption
from vit_jax.paths import Place, local, place

if TYPE_CHECKING:
  from vit_jax.config import Experiment


def main(argv: list[str]) -> int:
  parser = flags.parser('train')
  flags.add_config(parser)
  words = 'the run folder, also an address such as gs://bucket/run (default: runs/NAME)'
  parser.add_argument('--workdir', type=place, help=words)
  words = 'print what the recipe resolves to and means, and start nothing'
  parser.add_argument('--dry_run', action='store_true', help=words)
  words = 'print the keys in which another recipe or a run folder differs, and start nothing'
  parser.add_argument('--diff', metavar='RECIPE|RUN', help=words)
  flags.add_sizes(parser)
  flags.add_accept_data(parser)
  flags.add_data_dir(parser)
  flags.add_keys(parser, argv)
  args, updates = flags.parse(parser, argv)
  if args.dry_run or args.diff:
    print(_preview(args, updates))
    return 0
  if args.num_examples or args.num_classes:
    raise UserError('--num_examples and --num_classes are for --dry_run; training counts them')
  with Preemption() as preemption:  # before the imports, which take seconds
    from vit_jax import config

    x = config.recipe(args.config, updates)
    return run(x, args.workdir or local(f'runs/{x.name}'), args, preemption)


def run(x: 'Experiment', workdir: Place, args: argparse.Namespace, preemption: Preemption) -> int:
  """Trains, writes the page of each phase, and returns the exit code."""
  import jax

  from vit_jax.parallel.device import keep_cpu_memory
  from vit_jax.parallel.programs import keep_programs
  from vit_jax.remote.runs import training_folder
  from vit_jax.report.page import write_page
  from vit_jax.train.loop import train
  from vit_jax.train.phases import folders

  keep_programs()
  keep_cpu_memory()
  code = train(x, workdir, flags.data_dir(args), preemption, accept_data=args.accept_data)
  if code == 0 and jax.process_index() == 0:
    # One process of several cannot read a checkpoint alone.
    for folder in folders(x, workdir):
      copy = training_folder(folder, 0)
      print(f'report: {write_page([copy], weights=jax.process_count() == 1)}')
  return code


def _preview(args: argparse.Namespace, updates: Mapping[str, Any]) -> str:
  import jax

  # Nothing runs here: no accelerator is started, which may be in use by another run.
  jax.config.update('jax_platforms', 'cpu')
  from vit_jax import config
  from vit_jax.plan.preview import diff, preview

  x = config.recipe(args.config, updates)
  parts = []
  if args.dry_run:
    parts.append(preview(x, flags.data_dir(args), args.num_examples, args.num_classes))
  if args.diff:
    parts.append(diff(x, args.diff))
  return '\n\n'.join(parts)
