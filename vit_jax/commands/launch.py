"""`vit_jax launch`."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vit_jax import config
from vit_jax.commands import flags
from vit_jax.errors import UserError
from vit_jax.launch import local, targets
from vit_jax.launch.job import Job
from vit_jax.parallel import topology
from vit_jax.paths import local as local_path

# Flag of a number -> (least, default, help).
NUMBERS = {
  'nodes': (1, 1, 'machines'),
  'processes': (1, 1, 'on each machine'),
  'gpus_per_node': (1, 0, None),
  'cpus': (1, 0, 'for each process'),
  'restarts': (0, 3, 'after faults; preemption does not count'),
  'grace': (1, 0, 'seconds to save in, after the signal (default: 60 in Slurm, 300 elsewhere)'),
}
TEXTS = {
  'data_dir': 'prepared data sets, where the job runs',
  'gpu': 'kind of GPU, as the target calls it, such as H100',
  'image': 'container image; launch/README.md says how to build one',
  'setup': 'shell command that each machine runs first',
  'interface': 'network interface of the coordinator, such as ib0',
  'time': 'limit, as in 24:00:00',
  'partition': None,
  'account': None,
  'zone': None,
}


def add_flags(parser: argparse.ArgumentParser, workdir: str) -> None:
  """The flags that describe a job; `workdir` is the help of --workdir."""
  add = parser.add_argument
  flags.add_config(parser)
  add('--workdir', default='', help=workdir)
  add(
    '--target', choices=targets.TARGETS, default='local', help='where it runs (default: this host)'
  )
  add('--name', help="of the job, or the prefix of those of a sweep (default: the recipe's)")
  for name, (least, default, words) in NUMBERS.items():
    add(f'--{name}', type=flags.at_least(least), default=default, metavar='N', help=words)
  for name, words in TEXTS.items():
    add(f'--{name}', default='', help=words)
  add('--topology', type=topology.parse, help='TPU slices, such as v5e:16x16 or 2*v5e:16x16')
  add(
    '--volume',
    type=_volume,
    action='append',
    default=[],
    metavar='SOURCE:PATH',
    help='storage to mount (a claim, a bucket, a folder), and where; may be repeated',
  )
  add('--spot', action='store_true', help='machines that may be taken away')
  how = parser.add_mutually_exclusive_group()
  how.add_argument('--print', action='store_true', help='print only (what all but local do)')
  how.add_argument('--submit', action='store_true', help='hand it to sbatch, kubectl, sky, gcloud')


def parse(
  parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
  """The flags, and those that change the recipe. A folder on this host has its `~` expanded."""
  args, rest = parser.parse_known_args(argv)
  if args.target == 'local' and args.workdir:
    args.workdir = str(local_path(args.workdir))
  return args, rest


def make_job(args: argparse.Namespace, name: str, workdir: str, overrides: Sequence[str]) -> Job:
  """The Job of these flags.

  Raises:
    UserError: flags that do not fit each other or the target.
  """
  if args.target == 'local' and args.submit:
    raise UserError(
      '--submit hands a job to a cluster or a cloud; name it with --target, or leave '
      '--submit out to run here'
    )
  if args.target not in ('local', 'slurm') and Path(args.config).is_absolute():
    raise UserError(
      f'--config={args.config} is a path of this machine; give it as the other one '
      'has it, such as configs/vit_i1k.py'
    )
  given = {field.name for field in dataclasses.fields(Job)} & {*vars(args)}
  values: dict[str, Any] = {key: getattr(args, key) for key in given}
  values |= {'name': name, 'workdir': workdir, 'volume': tuple(args.volume)}
  if args.target == 'local' and args.processes > 1 and not args.gpus_per_node:
    values['gpus_per_node'] = local.gpus_here()
  job = Job(**values, overrides=tuple(overrides))
  job.check(args.target)
  return job


def _volume(text: str) -> tuple[str, str]:
  source, colon, path = text.rpartition(':')
  if not colon or not source or not path.startswith('/'):
    raise UserError(
      f'--volume={text} is not SOURCE:PATH with an absolute path, as in --volume=my-claim:/runs'
    )
  return source, path


def main(argv: list[str]) -> int:
  parser = flags.parser('launch')
  add_flags(parser, 'the run folder (default: runs/NAME)')
  args, overrides = parse(parser, argv)

  # Resolved here, so that a fault in it shows before the job has waited in a queue.
  x = config.recipe(args.config, config.from_flags(overrides))
  job = make_job(args, args.name or x.name, args.workdir or f'runs/{x.name}', overrides)
  if args.target == 'local' and not args.print:
    return local.run(job)
  if args.submit:
    path = targets.RENDERED / targets.file_name(job.label, args.target)
    return targets.submit(job, args.target, path)
  print(targets.render(job, args.target), end='')
  return 0
