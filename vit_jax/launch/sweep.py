"""A sweep: a grid of configs as runs, each in its folder, and one table of them all.

The same call continues where the last one stopped: a run that has its summary.json, or was
submitted, is skipped; one that was interrupted continues.
"""

import argparse
import dataclasses
import itertools
import logging
import os
import queue
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit_jax import config, fields
from vit_jax.config import Experiment
from vit_jax.config.recipes import load_sweep
from vit_jax.errors import PREEMPTED, UserError
from vit_jax.launch import local, targets
from vit_jax.launch.job import Job, digest
from vit_jax.paths import is_address, place
from vit_jax.run import Run
from vit_jax.tables import as_csv, as_text
from vit_jax.writes import write

LOG = logging.getLogger(__name__)
LONGEST_NAME = 120  # letters of a folder


@dataclass(frozen=True)
class Trial:
  """One point of the grid."""

  name: str  # of its folder
  values: dict[str, str]  # key of the recipe -> value, as text
  overrides: tuple[str, ...]
  experiment: Experiment
  workdir: Path

  @property
  def summary(self) -> dict[str, Any] | None:
    """What training wrote at its end, or None.

    Raises:
      UserError: the folder holds a run of another experiment.
    """
    run = Run(self.workdir)
    if run.summary:
      run.check_same(self.experiment)
    return run.summary or None

  @property
  def status(self) -> str:
    if self.summary is not None:
      return 'finished'
    return 'interrupted' if Run(self.workdir).exists else 'waiting'


def trials(spec: str, flags: Sequence[str], workdir: str = '', name: str = '') -> list[Trial]:
  """Each run of the recipe's own sweep, times the grid of the command line.

  Args:
    spec: the recipe.
    flags: --config.KEY=VALUE for all runs, --grid.KEY=VALUE,VALUE for an axis of the grid.
    workdir: the folder of run folders; by default of the sweep's `name`, or else the recipe's.

  Raises:
    UserError: a fault in a config, in the grid, or two runs that are the same.
  """
  fixed = [flag for flag in flags if not flag.startswith('--grid.')]
  axes = [_axis(flag) for flag in flags if flag.startswith('--grid.')]
  own = load_sweep(spec)
  if own == [{}] and not axes:
    raise UserError(
      '--grid is missing: give at least one key and its values, as in '
      f'--grid.optim.lr=1e-3,3e-4, or a function get_sweep() in {spec}'
    )
  updates = config.from_flags(fixed)
  name = name or config.recipe(spec, updates).name
  root = Path(workdir or f'runs/{name}_sweep')
  found: dict[str, Trial] = {}
  for run, choice in itertools.product(own, itertools.product(*axes)):
    texts = {key: fields.as_text(value) for key, value in run.items()} | dict(choice)
    chosen = config.from_flags([config.as_flag(key, text) for key, text in choice])
    folder = _folder(texts)
    try:
      x = config.recipe(spec, updates | run | chosen)
    except UserError as error:
      raise UserError(f'{folder}: {error}') from None
    if folder in found:
      raise UserError(f'the sweep has {folder} twice; leave one out')
    grid = (config.as_flag(key, text) for key, text in texts.items())
    found[folder] = Trial(folder, texts, (*fixed, *grid), x, root / folder)
  return list(found.values())


def _axis(flag: str) -> list[tuple[str, str]]:
  """[('optim.lr', '1e-3'), ('optim.lr', '3e-4')] of '--grid.optim.lr=1e-3,3e-4'."""
  key, equals, text = flag.removeprefix('--grid.').partition('=')
  values = re.findall(r'(?:[^,(\[{]|\([^)]*\)|\[[^\]]*\]|\{[^}]*\})+', text)  # (1, 2) is one value
  if not key or not equals or not values or ','.join(values) != text:
    raise UserError(
      f'{flag!r} is not an axis of a grid; write a key and its values, as in '
      '--grid.optim.lr=1e-3,3e-4'
    )
  return [(key, value) for value in values]


def _folder(values: dict[str, str]) -> str:
  """A folder name for these values: the last parts of the keys where these differ."""
  lasts = [key.rsplit('.', 1)[-1] for key in values]
  parts = [
    f'{key if lasts.count(last) > 1 else last}={value}'
    for (key, value), last in zip(values.items(), lasts, strict=True)
  ]
  name = re.sub(r'[^\w.=+,-]+', '_', ','.join(parts))
  if len(name) > LONGEST_NAME or name != ','.join(parts):
    # Letters were left out: a digest keeps two runs apart.
    name = f'{name[:LONGEST_NAME]}-{digest(",".join(parts))}'
  return name


def jobs(trials: Sequence[Trial], flags: argparse.Namespace) -> dict[str, Job]:
  """The jobs of the trials that are not finished, by name of the trial.

  Jobs that would get the same label have a digest in their names.
  """
  made: dict[str, Job] = {}
  for trial in trials:
    name = f'{flags.name or trial.experiment.name}-{trial.name}'
    workdir = str(trial.workdir)
    if is_address(workdir):
      workdir = str(place(workdir))  # with both of its slashes, of which a Path keeps one
    made[trial.name] = targets.make_job(flags, name, workdir, trial.overrides)
  labels = [job.label for job in made.values()]
  for name, job in made.items():
    if labels.count(job.label) > 1:
      made[name] = dataclasses.replace(job, name=f'{job.name}-{digest(job.name)}')
  return {trial.name: made[trial.name] for trial in trials if trial.status != 'finished'}


def hand_over(jobs: dict[str, Job], target: str, root: Path, submit: bool) -> int:
  """Writes a file for each job by the name of its trial, and submits it if asked to, once.

  The files stay on this machine, in a folder of this sweep, for `root` may be a path of the
  cluster. Returns 0, or 1 if a job could not be submitted.
  """
  folder = targets.RENDERED / f'{root.name}-{digest(f"{target} {root}")}'
  folder.mkdir(parents=True, exist_ok=True)
  worst = 0
  for name, job in jobs.items():
    path = folder / targets.file_name(name, target)
    submitted = folder / f'{name}.submitted'
    if not submit:
      write(path, targets.render(job, target))
      LOG.info(path)
    elif submitted.is_file():  # two jobs in one run folder would damage it
      LOG.info(f'{name} was submitted before; to submit it again, delete {submitted}')
    else:
      code = targets.submit(job, target, path)
      worst = max(worst, code)
      if code == 0:
        submitted.touch()
  return worst


def train(trials: Sequence[Trial], jobs: dict[str, Job], at_a_time: int) -> int:
  """Trains jobs by the name of their trial on this host, and keeps sweep.csv up to date.

  None starts after SIGTERM or Ctrl-C. Returns 0, 75 if some are not finished, else 1 or 2, as a run
  failed.
  """
  root = trials[0].workdir.parent
  LOG.info(f'{len(trials)} runs in {root}, {len(trials) - len(jobs)} of them finished')
  slots: queue.Queue[int] = queue.Queue()
  for slot in range(at_a_time):
    slots.put(slot)
  lock = threading.Lock()
  # Programs that several runs have in common are compiled once.
  compiled = {'JAX_COMPILATION_CACHE_DIR': str(root / '.compiled')}

  def one(number: int, name: str, job: Job) -> int:
    if interrupted.is_set():
      return PREEMPTED
    slot = slots.get()
    try:
      LOG.info(f'== {number} of {len(jobs)}: {name}')
      label = f'{name} ' if at_a_time > 1 else ''
      part, cores = _part(job, slot, at_a_time)
      code = local.run(part, interrupted, label, cores=cores, defaults=compiled)
    finally:
      slots.put(slot)
    with lock:
      write_table(trials)
    return code

  with local.interrupts() as interrupted, ThreadPoolExecutor(at_a_time) as pool:
    codes = list(pool.map(one, itertools.count(1), jobs, jobs.values()))
  LOG.info(write_table(trials))
  for name, code in zip(jobs, codes, strict=True):
    if code not in (0, PREEMPTED):
      LOG.info(f'{name} failed with exit code {code}')
  return local.exit_code(codes)


def _part(job: Job, slot: int, at_a_time: int) -> tuple[Job, list[int]]:
  """The job on its part of this host's GPUs, or else the CPU cores it may use; []: all.

  Two runs whose threads share all cores wait for each other at every step.
  """
  if at_a_time == 1:
    return job, []
  gpus = job.gpus_per_node or local.gpus_here()
  if gpus % at_a_time:
    raise UserError(f'--jobs={at_a_time} cannot divide the {gpus} GPUs of this host')
  if gpus:
    each = gpus // at_a_time
    return dataclasses.replace(job, gpus_per_node=each, first_gpu=slot * each), []
  ours = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []
  return job, ours[slot::at_a_time] if len(ours) >= at_a_time else []


def write_table(runs: Sequence[Trial]) -> str:
  """Writes sweep.csv into the sweep's folder, a row per run; returns the table as text."""
  path = runs[0].workdir.parent / 'sweep.csv'
  rows = [_row(run) for run in runs]
  path.parent.mkdir(parents=True, exist_ok=True)
  write(path, as_csv(rows))
  columns = dict.fromkeys(key for row in rows for key in row)
  shown = [key for key in columns if key.split('/')[-1] not in ('top5', 'ece')]
  lines = [shown, *([row.get(key, '') for key in shown] for row in rows)]
  return f'{as_text((), lines)}\ntable: {path}'


def _row(run: Trial) -> dict[str, str]:
  row, summary = {'run': run.name, 'status': run.status, **run.values}, run.summary
  if summary is None:
    return row
  row |= {
    'steps': str(summary['steps']),
    'parameters': str(summary['parameters']),
    'train_seconds': str(summary['seconds']['train']),
  }
  return row | {
    f'{name}/{metric}': f'{value:.6g}'
    for name in run.experiment.evals
    for metric, value in summary.get(name, {}).items()
  }
