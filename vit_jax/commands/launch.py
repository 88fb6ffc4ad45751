"""`vit_jax launch`."""

import argparse
import dataclasses

from vit_jax import config
from vit_jax.commands import flags
from vit_jax.errors import UserError
from vit_jax.launch import local, targets
from vit_jax.launch.job import Job
from vit_jax.parallel import topology
from vit_jax.paths import is_address, place


def parse(
  parser: argparse.ArgumentParser, argv: list[str], workdir: str
) -> tuple[argparse.Namespace, list[str]]:
  """The flags that describe a job, and those that change the recipe.

  A run folder on this host has its `~` expanded. `workdir` is the help of --workdir.
  """
  add = parser.add_argument
  flags.add_config(parser)
  add('--workdir', default='', help=workdir)
  words = 'where it runs (default: this host)'
  add('--target', choices=targets.TARGETS, default='local', help=words)
  add('--name', help="of the job, or the prefix of those of a sweep (default: the recipe's)")
  special = {
    'topology': {'type': topology.parse, 'metavar': 'CHIP:SHAPE'},
    'volume': {'type': _volume, 'metavar': 'SOURCE:PATH', 'action': 'append', 'default': []},
    'spot': {'action': 'store_true'},
  }
  for field in dataclasses.fields(Job):
    if field.metadata:
      keys = {'default': field.default, **special.get(field.name, {})}
      if type(field.default) is int:
        keys |= {'type': flags.at_least(field.metadata['least']), 'metavar': 'N'}
      words = f'{field.metadata["help"]} [{", ".join(field.metadata["targets"])}]'
      add(f'--{field.name}', help=words.strip(), **keys)
  how = parser.add_mutually_exclusive_group()
  how.add_argument('--print', action='store_true', help='print only (what all but local do)')
  how.add_argument('--submit', action='store_true', help='hand it to sbatch, kubectl, sky, gcloud')
  args, rest = parser.parse_known_args(argv)
  if args.workdir and (args.target == 'local' or is_address(args.workdir)):
    args.workdir = str(place(args.workdir))
  if is_address(args.data_dir):
    args.data_dir = str(place(args.data_dir))
  return args, rest


def _volume(text: str) -> tuple[str, str]:
  source, colon, path = text.rpartition(':')
  if not colon or not source or not path.startswith('/'):
    raise UserError(
      f'--volume={text} is not SOURCE:PATH with an absolute path, as in --volume=my-claim:/runs'
    )
  return source, path


def main(argv: list[str]) -> int:
  parser = flags.parser('launch')
  args, overrides = parse(parser, argv, 'the run folder (default: runs/NAME)')
  # Resolved here: a fault in the recipe shows before the job has waited in a queue.
  x = config.recipe(args.config, config.from_flags(overrides))
  job = targets.make_job(args, args.name or x.name, args.workdir or f'runs/{x.name}', overrides)
  if args.target == 'local' and not args.print:
    return local.run(job)
  if args.submit:
    path = targets.RENDERED / targets.file_name(job.label, args.target)
    return targets.submit(job, args.target, path)
  print(targets.render(job, args.target), end='')
  return 0
