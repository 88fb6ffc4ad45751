"""`vit_jax launch`: flags to a Job, and the Job to where it should run."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from vit_jax import config
from vit_jax.errors import UserError
from vit_jax.flags import at_least
from vit_jax.launch import jobset, local, skypilot, slurm, tpu_vm
from vit_jax.launch.job import Job
from vit_jax.launch.slices import parse_slice
from vit_jax.recipes import load_config

TARGETS: dict[str, ModuleType] = {
  'local': local,
  'slurm': slurm,
  'jobset': jobset,
  'skypilot': skypilot,
  'tpu_vm': tpu_vm,
}
# How a rendered file is handed over; the file comes last.
SUBMIT = {
  'slurm': ('sbatch',),
  'jobset': ('kubectl', 'apply', '-f'),
  'skypilot': ('sky', 'jobs', 'launch', '--yes', '--detach-run'),
  'tpu_vm': ('bash',),
}
TOOLS = {'slurm': 'sbatch', 'jobset': 'kubectl', 'skypilot': 'sky', 'tpu_vm': 'gcloud'}
RENDERED = Path('runs/launch')  # on this machine, whatever place a --workdir is a path of
# Field of a Job -> the flag that sets it, where they differ.
FLAGS = {'gpus': 'gpus_per_node', 'tpu': 'topology', 'volumes': 'volume'}


def add_flags(parser: argparse.ArgumentParser) -> None:
  """The flags that describe a job, beside --workdir."""
  add = parser.add_argument
  add(
    '--config',
    required=True,
    metavar='FILE[:ARG]',
    help='a recipe; --config.KEY=VALUE changes a key of it',
  )
  add('--data_dir', default='', help='prepared data sets, where the job runs')
  add('--target', choices=TARGETS, default='local', help='where it runs (default: this host)')
  add('--name', help="of the job, or what those of a sweep begin with (default: the recipe's)")
  add('--nodes', type=at_least(1), default=1, help='machines')
  add('--processes', type=at_least(1), default=1, help='on each machine')
  add('--gpus_per_node', type=at_least(1), default=0)
  add('--gpu', default='', help='kind of GPU, in the words of the target, such as H100')
  add('--topology', help='TPU slice, such as v5e:16x16')
  add('--slices', type=at_least(1), default=1, help='TPU slices')
  add('--cpus', type=at_least(1), default=0, help='for each process')
  add('--image', default='', help='container image; launch/README.md says how to build one')
  add('--setup', default='', metavar='COMMAND', help='shell command that each machine runs first')
  add(
    '--volume',
    action='append',
    default=[],
    metavar='SOURCE:PATH',
    help='storage to mount (a claim, a bucket, a folder), and where; may be repeated',
  )
  add('--interface', default='', help='network interface of the coordinator, such as ib0')
  add('--time', default='', help='limit, as in 24:00:00')
  add('--partition', default='')
  add('--account', default='')
  add('--zone', default='')
  add('--spot', action='store_true', help='machines that may be taken away')
  add(
    '--restarts', type=at_least(0), default=3, help='after faults; being preempted does not count'
  )
  add(
    '--grace',
    type=at_least(1),
    default=0,
    metavar='SECONDS',
    help='to save in, from the signal to the end (default: 60 in Slurm, 300 elsewhere)',
  )
  how = parser.add_mutually_exclusive_group()
  how.add_argument('--print', action='store_true', help='print only (what all but local do)')
  how.add_argument('--submit', action='store_true', help='hand it to sbatch, kubectl, sky, gcloud')


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
  gpus = args.gpus_per_node
  if args.target == 'local' and args.processes > 1 and not gpus:
    gpus = local.gpus_here()
  job = Job(
    name=name,
    config=args.config,
    workdir=workdir,
    data_dir=args.data_dir,
    overrides=tuple(overrides),
    nodes=args.nodes,
    processes=args.processes,
    gpus=gpus,
    gpu=args.gpu,
    tpu=parse_slice(args.topology) if args.topology else None,
    slices=args.slices,
    cpus=args.cpus,
    image=args.image,
    setup=args.setup,
    volumes=tuple(_volume(text) for text in args.volume),
    interface=args.interface,
    time=args.time,
    partition=args.partition,
    account=args.account,
    zone=args.zone,
    spot=args.spot,
    restarts=args.restarts,
    grace=args.grace,
  )
  _check_uses(job, args.target)
  return job


def _check_uses(job: Job, target: str) -> None:
  """Refuses a flag that would change nothing."""
  always = {'name', 'config', 'workdir', 'data_dir', 'overrides'}
  for field in dataclasses.fields(Job):
    used = field.name in always | TARGETS[target].USES
    if not used and getattr(job, field.name) != field.default:
      others = [name for name, module in TARGETS.items() if field.name in module.USES]
      raise UserError(
        f'--{FLAGS.get(field.name, field.name)} means nothing to --target={target}; '
        f'it is for: {", ".join(others)}'
      )
  if job.tpu and job.gpu:
    raise UserError('--gpu and --topology are both given; a job runs on GPUs or TPUs')
  if job.gpu and not job.gpus:
    raise UserError(
      f'--gpu={job.gpu} is a kind of GPU; add how many each machine has, as in --gpus_per_node=8'
    )
  if job.tpu and job.nodes > 1:
    raise UserError(
      f'--nodes={job.nodes} counts machines without TPUs; a TPU slice has the hosts '
      'of its --topology, and several slices are --slices=N of --target=jobset'
    )


def render(job: Job, target: str) -> str:
  """The text that starts the job there."""
  return TARGETS[target].render(job)


def submit(job: Job, target: str, path: Path) -> int:
  """Writes the rendered job to `path` and hands it over; returns 0, or 1 if that failed.

  Raises:
    UserError: the tool is not on this machine.
  """
  command, tool = SUBMIT[target], TOOLS[target]
  if shutil.which(tool) is None:
    raise UserError(
      f'--submit needs {tool}, which is not on this machine; leave --submit out, '
      f'save what is printed, and run `{shlex.join(command)} FILE` where it is'
    )
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(render(job, target))
  print(f'{shlex.join(command)} {path}', flush=True)
  return min(subprocess.run([*command, str(path)]).returncode, 1)


def launch(args: argparse.Namespace, overrides: Sequence[str]) -> int:
  """Runs the job here, prints it, or submits it; returns the exit code."""
  # Resolved here, so that a fault in it shows before the job has waited in a queue.
  x = config.resolve(load_config(args.config, overrides))
  job = make_job(args, args.name or x.name, args.workdir or f'runs/{x.name}', overrides)
  if args.target == 'local' and not args.print:
    return local.run(job)
  if args.submit:
    path = RENDERED / (job.label + TARGETS[args.target].SUFFIX)
    return submit(job, args.target, path)
  print(render(job, args.target), end='')
  return 0


def _volume(text: str) -> tuple[str, str]:
  source, colon, path = text.rpartition(':')
  if not colon or not source or not path.startswith('/'):
    raise UserError(
      f'--volume={text} is not SOURCE:PATH with an absolute path, as in --volume=my-claim:/runs'
    )
  return source, path
