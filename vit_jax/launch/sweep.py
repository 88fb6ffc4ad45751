"""`vit_jax sweep`: a grid of configs as runs, each in its folder, and one table of them all.

The same command goes on where it was: a run that has its summary.json, or was submitted, is left
alone, and `train` continues one that was cut short.
"""

from __future__ import annotations

import argparse
import ast
import csv
import dataclasses
import io
import itertools
import json
import os
import queue
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit_jax import config, run_folder
from vit_jax.config import Experiment
from vit_jax.errors import PREEMPTED, USERS_FAULT, UserError
from vit_jax.launch import command, local
from vit_jax.launch.job import Job, digest
from vit_jax.recipes import load_config, load_sweep
from vit_jax.training.writers import write_atomically

LONGEST_NAME = 120  # letters of a folder


@dataclass(frozen=True)
class Run:
  """One point of the grid."""

  name: str  # of its folder
  values: dict[str, str]  # key of the recipe -> value, as text
  overrides: tuple[str, ...]
  experiment: Experiment
  workdir: Path

  @property
  def summary(self) -> dict[str, Any] | None:
    """What training wrote when it was done, or None.

    Raises:
      UserError: the folder holds a run of another experiment.
    """
    path = self.workdir / 'summary.json'
    if not path.is_file():
      return None
    run_folder.check_same(self.workdir, self.experiment)
    return json.loads(path.read_text())

  @property
  def status(self) -> str:
    if self.summary is not None:
      return 'finished'
    return 'interrupted' if (self.workdir / 'config.json').is_file() else 'waiting'


def run_sweep(args: argparse.Namespace, flags: Sequence[str]) -> int:
  """Trains what is not finished, or renders it for another place; returns the exit code.

  0: all finished (or rendered), 75: interrupted, 1 or 2: a run failed so, and the others went on.
  """
  runs = plan(args, flags)
  root = runs[0].workdir.parent
  jobs = [
    (run, job) for run, job in zip(runs, _jobs(runs, args), strict=True) if run.status != 'finished'
  ]
  if args.print:
    print('\n---\n'.join(f'# {run.name}\n{command.render(job, args.target)}' for run, job in jobs))
    return 0
  if args.target != 'local':
    return _hand_over(jobs, args, root)
  print(f'{len(runs)} runs in {root}, {len(runs) - len(jobs)} of them finished', flush=True)
  codes = _train(jobs, root, args.jobs, lambda: write_table(root, runs))
  print(write_table(root, runs))
  failed = {name: code for name, code in codes.items() if code not in (0, PREEMPTED)}
  for name, code in failed.items():
    print(f'{name} failed with exit code {code}')
  if failed:
    return USERS_FAULT if USERS_FAULT in failed.values() else 1
  return PREEMPTED if len(codes) < len(jobs) or PREEMPTED in codes.values() else 0


def plan(args: argparse.Namespace, flags: Sequence[str]) -> list[Run]:
  """The runs: each of the recipe's own sweep, times the grid of the command line.

  Raises:
    UserError: a fault in a config, in the grid, or two runs that are the same.
  """
  fixed = [flag for flag in flags if not flag.startswith('--grid.')]
  axes = [_axis(flag) for flag in flags if flag.startswith('--grid.')]
  own = [{key: _text(value) for key, value in run.items()} for run in load_sweep(args.config)]
  points = [
    {**run, **dict(zip((key for key, _ in axes), choice, strict=True))}
    for run in own
    for choice in itertools.product(*(values for _, values in axes))
  ]
  if points == [{}]:
    raise UserError(
      '--grid is missing: give at least one key and its values, as in '
      f'--grid.optim.lr=1e-3,3e-4, or a function get_sweep() in {args.config}'
    )
  name = args.name or config.resolve(load_config(args.config, fixed)).name
  root = Path(args.workdir or f'runs/{name}_sweep')
  runs: dict[str, Run] = {}
  for values in points:
    overrides = (*fixed, *(f'--config.{key}={value}' for key, value in values.items()))
    try:
      x = config.resolve(load_config(args.config, overrides))
    except UserError as error:
      raise UserError(f'{_name(values)}: {error}') from None
    run = Run(_name(values), values, overrides, x, root / _name(values))
    if run.name in runs:
      raise UserError(f'the sweep has {run.name} twice; leave one out')
    runs[run.name] = run
  return list(runs.values())


def _axis(flag: str) -> tuple[str, list[str]]:
  """('optim.lr', ['1e-3', '3e-4']) of '--grid.optim.lr=1e-3,3e-4'."""
  key, equals, text = flag.removeprefix('--grid.').partition('=')
  values = re.findall(r'(?:[^,(\[{]|\([^)]*\)|\[[^\]]*\]|\{[^}]*\})+', text)  # (1, 2) is one value
  if not key or not equals or not values or ','.join(values) != text:
    raise UserError(
      f'{flag!r} is no axis of a grid; write a key and its values, as in --grid.optim.lr=1e-3,3e-4'
    )
  return key, values


def _text(value: Any) -> str:
  """A value as the command line would give it."""
  if not isinstance(value, str):
    return repr(value)
  try:
    ast.literal_eval(value)
  except (ValueError, SyntaxError):
    return value
  return repr(value)  # text that looks like a number stays text


def _name(values: dict[str, str]) -> str:
  """A folder for these values: the keys' last parts where they differ."""
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


def _jobs(runs: Sequence[Run], args: argparse.Namespace) -> list[Job]:
  """One for each run, told apart also in the letters that a place allows."""
  jobs = [
    command.make_job(
      args, f'{args.name or run.experiment.name}-{run.name}', str(run.workdir), run.overrides
    )
    for run in runs
  ]
  labels = [job.label for job in jobs]
  return [
    job
    if labels.count(job.label) == 1
    else dataclasses.replace(job, name=f'{job.name}-{digest(job.name)}')
    for job in jobs
  ]


def _hand_over(jobs: Sequence[tuple[Run, Job]], args: argparse.Namespace, root: Path) -> int:
  """Writes a file for each run, and submits it if asked to, once.

  The files lie here, for `root` may be a path of the cluster, in a folder of this sweep there.
  """
  folder = command.RENDERED / f'{root.name}-{digest(f"{args.target} {root}")}'
  folder.mkdir(parents=True, exist_ok=True)
  worst = 0
  for run, job in jobs:
    path = folder / (run.name + command.TARGETS[args.target].SUFFIX)
    submitted = folder / (run.name + '.submitted')
    if not args.submit:
      path.write_text(command.render(job, args.target))
      print(path)
    elif submitted.is_file():  # two jobs in one run folder would spoil it
      print(f'{run.name} was submitted before; to submit it again, delete {submitted}')
    else:
      code = command.submit(job, args.target, path)
      worst = max(worst, code)
      if code == 0:
        submitted.touch()
  return worst


def _train(
  jobs: Sequence[tuple[Run, Job]], root: Path, at_a_time: int, finished: Callable[[], object]
) -> dict[str, int]:
  """Exit code of each run that was started; none starts after SIGTERM or Ctrl-C."""
  codes: dict[str, int] = {}
  slots: queue.Queue[int] = queue.Queue()
  for slot in range(at_a_time):
    slots.put(slot)
  lock = threading.Lock()
  # Programs that several runs have in common are compiled once.
  compiled = {'JAX_COMPILATION_CACHE_DIR': str(root / '.compiled')}

  def train(number: int, run: Run, job: Job) -> None:
    if interrupted.is_set():
      return
    slot = slots.get()
    try:
      print(f'== {number} of {len(jobs)}: {run.name}', flush=True)
      label = f'{run.name} ' if at_a_time > 1 else ''
      code = local.run(
        _share(job, slot, at_a_time),
        interrupted,
        label,
        cores=_cores(slot, at_a_time),
        defaults=compiled,
      )
    finally:
      slots.put(slot)
    with lock:
      codes[run.name] = code
      finished()

  with local.interrupts() as interrupted, ThreadPoolExecutor(at_a_time) as pool:
    for future in [pool.submit(train, i + 1, run, job) for i, (run, job) in enumerate(jobs)]:
      future.result()
  return codes


def _share(job: Job, slot: int, at_a_time: int) -> Job:
  """The job on its part of this host's GPUs."""
  gpus = job.gpus or (local.gpus_here() if at_a_time > 1 else 0)
  if not gpus:
    return job
  if gpus % at_a_time:
    raise UserError(f'--jobs={at_a_time} cannot divide the {gpus} GPUs of this host')
  each = gpus // at_a_time
  return dataclasses.replace(job, gpus=each, first_gpu=slot * each)


def _cores(slot: int, at_a_time: int) -> list[int]:
  """This host's CPU cores for one of several runs at a time; none in particular where they are too
  few, or it has a GPU to itself.

  Two runs whose threads share all cores wait for each other at every step.
  """
  ours = sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else []
  if at_a_time == 1 or len(ours) < at_a_time or local.gpus_here():
    return []
  return ours[slot::at_a_time]


def write_table(root: Path, runs: Sequence[Run]) -> str:
  """Writes sweep.csv, a row a run; returns the table as text."""
  rows = [_row(run) for run in runs]
  columns = list(dict.fromkeys(key for row in rows for key in row))
  stream = io.StringIO()
  writer = csv.DictWriter(stream, columns, restval='', lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  root.mkdir(parents=True, exist_ok=True)
  write_atomically(root / 'sweep.csv', stream.getvalue())
  shown = [column for column in columns if column.split('/')[-1] not in ('top5', 'ece')]
  lines = [shown] + [[row.get(column, '') for column in shown] for row in rows]
  widths = [max(len(line[i]) for line in lines) for i in range(len(shown))]
  table = [
    '  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    for line in lines
  ]
  return '\n'.join([*table, f'table: {root / "sweep.csv"}'])


def _row(run: Run) -> dict[str, str]:
  row = {'run': run.name, 'status': run.status, **run.values}
  summary = run.summary
  if summary is None:
    return row
  row |= {
    'steps': str(summary['steps']),
    'parameters': str(summary['parameters']),
    'train_seconds': str(summary['seconds']['train']),
  }
  return row | {
    f'{split}/{metric}': f'{value:.6g}'
    for split in run.experiment.data.evals
    for metric, value in summary[split].items()
  }
