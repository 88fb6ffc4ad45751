"""Where a job can run, and how it is handed over."""

import argparse
import dataclasses
import logging
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from vit_jax.errors import UserError, writing
from vit_jax.launch import jobset, local, skypilot, slurm, tpu_vm
from vit_jax.launch.job import Job
from vit_jax.writes import write

TARGETS: dict[str, ModuleType] = {
  'local': local,
  'slurm': slurm,
  'jobset': jobset,
  'skypilot': skypilot,
  'tpu_vm': tpu_vm,
}
# The command that submits a rendered file, which comes last, and the tool that it needs.
SUBMIT = {
  'slurm': (('sbatch',), 'sbatch'),
  'jobset': (('kubectl', 'apply', '-f'), 'kubectl'),
  'skypilot': (('sky', 'jobs', 'launch', '--yes', '--detach-run'), 'sky'),
  'tpu_vm': (('bash',), 'gcloud'),
}
RENDERED = Path('runs/launch')  # on this machine, even if --workdir is a path of another one


def make_job(flags: argparse.Namespace, name: str, workdir: str, overrides: Sequence[str]) -> Job:
  """The job of the flags of `vit_jax launch`.

  Raises:
    UserError: flags that do not fit each other or the target.
  """
  if flags.target == 'local' and flags.submit:
    raise UserError(
      '--submit hands a job to a cluster or a cloud; name it with --target, or leave '
      '--submit out to run here'
    )
  if flags.target not in ('local', 'slurm') and Path(flags.config).is_absolute():
    raise UserError(
      f'--config={flags.config} is a path of this machine; give it as the other one '
      'has it, such as configs/vit_i1k.py'
    )
  values = {
    field.name: getattr(flags, field.name) for field in dataclasses.fields(Job) if field.metadata
  }
  if flags.target == 'local' and flags.processes > 1 and not flags.gpus_per_node:
    values['gpus_per_node'] = local.gpus_here()
  values['volume'] = tuple(flags.volume)
  job = Job(name, flags.config, workdir, tuple(overrides), **values)
  job.check(flags.target)
  return job


def render(job: Job, target: str) -> str:
  """The text that starts the job there.

  Raises:
    UserError: something is missing that the target needs.
  """
  return TARGETS[target].render(job)


def file_name(name: str, target: str) -> str:
  return name + TARGETS[target].SUFFIX


def submit(job: Job, target: str, path: Path) -> int:
  """Writes the rendered job to `path` and submits it; returns 0, or 1 if that failed.

  Raises:
    UserError: the tool is not on this machine.
  """
  command, tool = SUBMIT[target]
  if shutil.which(tool) is None:
    raise UserError(
      f'--submit needs {tool}, which is not on this machine; leave --submit out, '
      f'save what is printed, and run `{shlex.join(command)} FILE` where it is'
    )
  text = render(job, target)
  with writing(path.parent):
    path.parent.mkdir(parents=True, exist_ok=True)
  write(path, text)
  logging.getLogger(__name__).info(f'{shlex.join(command)} {path}')
  return min(subprocess.run([*command, str(path)]).returncode, 1)
