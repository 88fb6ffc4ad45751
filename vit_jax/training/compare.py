"""`vit_jax compare`: several systems on the same data and budget, each choosing on held-out images.

Where a recipe leaves a choice (a learning rate), each possibility is trained on a part of the
training images, for a part of the budget, and judged on images held out from the others
(`data.held_out`); the best is trained on all of them, once a seed, and judged on the test images.
Every one is a run folder: what is done is not done again. comparison.json says which is which.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit_jax import config, run_folder
from vit_jax.config import Duration, Experiment
from vit_jax.data import held_out, sources
from vit_jax.errors import PREEMPTED, UserError
from vit_jax.parallel.preemption import Preemption
from vit_jax.recipes import System, load_comparison, load_config
from vit_jax.training import finish, loop
from vit_jax.training.writers import write_atomically
from vit_jax.transfer import bovw

BAG = 'bag_of_words'  # a config.model.name that is no network
SHARE = 1 / 3  # of a run's length: that of a choice
SEED = 0  # of all choices
INDEX = 'comparison.json'


@dataclass(frozen=True)
class Member:
  """A system with the folders of its runs."""

  system: System
  choices: list[tuple[dict[str, Any], Path]]
  runs: dict[int, Path]  # by seed

  @property
  def best(self) -> tuple[dict[str, Any], Path] | None:
    """The choice that held-out images prefer, of equals the first; None: there was none."""
    if not self.choices:
      return None
    return max(self.choices, key=lambda choice: read_summary(choice[1])['val']['top1'])


def compare(
  file: str, overrides: Sequence[str], seeds: Sequence[int], root: Path, data_dir: Path
) -> int:
  """Trains and judges what is not done yet; returns the exit code, 0 or 75.

  Args:
    file: a recipe with `get_comparison()`.
    overrides: '--config.KEY=VALUE', for all systems alike.

  Raises:
    UserError: a fault in the recipe, or a folder that holds another run.
  """
  members: dict[str, Member] = {}
  systems = load_comparison(Path(file))
  for system in systems:
    folder = root / re.sub(r'[^\w.-]+', '_', system.name)
    # A student makes choices with a teacher that has not seen the held-out images either.
    teaches = any(other.teacher == system.name for other in systems)
    choices = system.choices or ([{}] if teaches else [])
    members[system.name] = Member(
      system,
      [(choice, folder / f'choice-{i}') for i, choice in enumerate(choices)],
      {seed: folder / f'seed-{seed}' for seed in seeds},
    )
  for member in members.values():  # a fault is told before an hour of training
    for choice, _ in member.choices:
      _experiment(file, overrides, member.system, choice, SEED, 'a run')
  for member in members.values():
    code = _train(file, overrides, member, members.get(member.system.teacher), data_dir)
    _write_index(root, members)
    if code:
      return code
  return 0


def _experiment(
  file: str,
  overrides: Sequence[str],
  system: System,
  choice: dict[str, Any],
  seed: int,
  teacher: Path | str | None,
) -> Experiment:
  """The resolved recipe of a system with this choice."""
  flags = [*overrides, f'--config.seed={seed}']
  if system.teacher:
    flags.append(f'--config.loss.distill.teacher_weights={teacher}')
  flags += [f'--config.{key}={value!r}' for key, value in choice.items()]
  return config.resolve(load_config(f'{file}:{system.name}', flags))


def _train(
  file: str, overrides: Sequence[str], member: Member, teacher: Member | None, data_dir: Path
) -> int:
  """Chooses, then trains once a seed; the exit code of the run that was stopped, else 0."""
  system = member.system
  taught = teacher.best[1] if teacher and teacher.best else None
  for i, (choice, workdir) in enumerate(member.choices, 1):
    x = _experiment(file, overrides, system, choice, SEED, taught)
    words = f'{system.name}, choice {i} of {len(member.choices)}: {words_of(choice)}'
    if code := run_once(_as_choice(x), workdir, data_dir, words):
      return code
  chosen = member.best[0] if member.best else {}
  for seed, workdir in member.runs.items():
    x = _experiment(file, overrides, system, chosen, seed, teacher and teacher.runs[seed])
    if code := run_once(x, workdir, data_dir, f'{system.name}, seed {seed}: {words_of(chosen)}'):
      return code
  return 0


def _as_choice(x: Experiment) -> Experiment:
  """Shorter, on a part of the training images, and judged on those held out."""
  data = dataclasses.replace(
    x.data, train=f'{x.data.train}:kept', predict={}, evals={'val': f'{x.data.train}:held'}
  )
  optim = dataclasses.replace(
    x.optim, warmup=_share(x.optim.warmup), cooldown=_share(x.optim.cooldown)
  )
  return dataclasses.replace(
    x,
    data=data,
    optim=optim,
    baseline='none',
    **dataclasses.asdict(_share(x.length)),
    checkpoint=dataclasses.replace(x.checkpoint, best='val/top1'),
  )


def _share(length: Duration) -> Duration:
  return Duration(
    math.ceil(length.steps * SHARE), length.epochs * SHARE, math.ceil(length.examples * SHARE)
  )


def run_once(x: Experiment, workdir: Path, data_dir: Path, words: str) -> int:
  """Trains this experiment unless it is done; returns the exit code."""
  if (workdir / 'summary.json').is_file():
    run_folder.check_same(workdir, x)
    return 0
  print(f'== {words}', flush=True)
  if x.model.name == BAG:
    run_bag(x, workdir, data_dir)
    return 0
  with Preemption() as preemption:
    code = loop.train(x, workdir, data_dir, preemption)
  if code not in (0, PREEMPTED):
    raise UserError(f'{words}: the run in {workdir} ended with exit code {code}')
  return code


def run_bag(x: Experiment, workdir: Path, data_dir: Path) -> None:
  """A bag of visual words as a run folder: config.json, and summary.json when it is done.

  All is chosen on training images, groups of which are held out whole.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  write_atomically(workdir / 'config.json', x.to_json())
  name, split = next(iter(x.data.evals.items()))
  train, test = (sources.open_source(x.data, part, data_dir) for part in (x.data.train, split))
  began = time.perf_counter()
  found = bovw.judge_bag_of_words(
    *finish.read_all(train, x.data),
    *finish.read_all(test, x.data),
    held_out.groups(train)[:, 0],
    x.seed,
  )['bag_of_words']
  seconds = {'train': found['seconds'], 'total': round(time.perf_counter() - began, 2)}
  summary = {name: {'top1': found['top1']}, **found, 'seconds': seconds, 'seed': x.seed}
  write_atomically(workdir / 'summary.json', json.dumps(summary, indent=2) + '\n')
  print(f'{name}: top-1 {found["top1"]:.2%}; {found["feature"]}; {found["classifier"]}', flush=True)


def _write_index(root: Path, members: dict[str, Member]) -> None:
  """Which folders hold what, of the systems that are done."""
  rows = []
  for member in members.values():
    if not all((path / 'summary.json').is_file() for path in member.runs.values()):
      continue
    rows.append(
      {
        'system': member.system.name,
        'year': member.system.year,
        'teacher': member.system.teacher,
        'chosen': member.best[0] if member.best else {},
        'choices': [str(path.relative_to(root)) for _, path in member.choices],
        'runs': [str(path.relative_to(root)) for path in member.runs.values()],
      }
    )
  write_atomically(root / INDEX, json.dumps(rows, indent=2) + '\n')


def read_summary(workdir: Path) -> dict[str, Any]:
  """What a run that is done has reached."""
  return json.loads((workdir / 'summary.json').read_text())


def words_of(choice: dict[str, Any]) -> str:
  """A choice, as it is told."""
  return ', '.join(f'{key}={value!r}' for key, value in choice.items()) or 'as the recipe says'
