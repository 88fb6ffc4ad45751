"""`vit_jax compare`: several systems on the same data and budget, each choosing on held-out data.

Where a recipe leaves a choice (a learning rate), each possibility is trained on a part of the
training images, for a part of the budget, and judged on the rest (`data.held_out`). The best is
trained on all training images, once per seed, and judged on the test images. Each training is a run
folder, which is not trained again; comparison.json says which is which.

Pairs of sentences have no part that is held out, so their systems have no choices.
"""

import dataclasses
import logging
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vit_jax import config
from vit_jax.config import Duration, Eval, Experiment, ImageData
from vit_jax.config.recipes import System, load_comparison
from vit_jax.data import sources
from vit_jax.data.view import View, inputs_of
from vit_jax.errors import UserError
from vit_jax.parallel.preemption import Preemption
from vit_jax.run import Run, write_json
from vit_jax.train.domain import Opened
from vit_jax.train.loop import train
from vit_jax.transfer import bag, bovw

TEST = 'test'  # the eval of a recipe by which systems are compared
HELD = 'val'  # the eval of a choice
SHARE = 1 / 3  # of a run's length: that of a choice
SEED = 0  # of all choices
INDEX = 'comparison.json'

log = logging.getLogger(__name__)


class Interrupted(Exception):
  """A training was stopped and saved; `code` is the exit code to pass on."""

  def __init__(self, code: int):
    self.code = code


@dataclass(frozen=True)
class Member:
  """A system with the folders of its runs."""

  system: System
  choices: list[tuple[dict[str, Any], Path]]
  runs: dict[int, Path]  # by seed

  @property
  def best(self) -> tuple[dict[str, Any], Path | None]:
    """The choice that does best on held-out images, of equals the first, and its folder."""
    if not self.choices:
      return {}, None
    runs = [Run(folder) for _, folder in self.choices]
    reached = [run.summary[HELD][run.headline_metric] for run in runs]
    return self.choices[reached.index(max(reached))]


def compare(
  file: str, updates: Mapping[str, Any], seeds: Sequence[int], root: Path, data_dir: Path
) -> None:
  """Trains and judges what is not done yet.

  Args:
    file: a recipe with `get_comparison()`; after a colon, an argument for it.
    updates: key of the recipe -> value, for all systems alike.

  Raises:
    UserError: a fault in the recipe, or a folder that holds another run.
    Interrupted: a training was stopped; the same call continues it.
  """

  def experiment(
    system: System, choice: dict[str, Any], seed: int, teacher: Path | str | None
  ) -> Experiment:
    values = {**updates, 'seed': seed, **choice}
    if system.teacher:
      values['loss.distill.teacher_weights'] = str(teacher)
    # The argument of a comparison, such as its data, comes before the system.
    return config.recipe(f'{file}{"," if ":" in file else ":"}{system.name}', values)

  members: dict[str, Member] = {}
  systems = load_comparison(file)
  for system in systems:
    folder = root / plain(system.name)
    # A student makes choices with a teacher that has not seen the held-out images either.
    teaches = any(other.teacher == system.name for other in systems)
    choices = system.choices or ([{}] if teaches else [])
    members[system.name] = Member(
      system,
      [(choice, folder / f'choice-{i}') for i, choice in enumerate(choices)],
      {seed: folder / f'seed-{seed}' for seed in seeds[: system.seeds or None]},
    )
    for choice in choices or [{}]:  # a fault is found before an hour of training
      x = experiment(system, choice, SEED, 'a run')
      if not any(line.kind in ('classify', 'translate') for line in x.evals.values()):
        raise UserError(
          f'config.evals of {system.name!r} judges nothing that systems are compared by; add a '
          "line such as test=dict(split='test')"
        )
      if choices and not isinstance(x.data, ImageData):
        raise UserError(
          f'get_comparison() of {file} gives {system.name!r} choices, but pairs of sentences have '
          'no part to hold out; write what it should be into get_config()'
        )
  for member in members.values():
    try:
      _train(member, members.get(member.system.teacher), experiment, data_dir)
    finally:
      _write_index(root, members)


def _train(
  member: Member, teacher: Member | None, experiment: Callable[..., Experiment], data_dir: Path
) -> None:
  """Chooses, then trains once per seed."""
  system = member.system
  taught = teacher and teacher.best[1]
  for i, (choice, workdir) in enumerate(member.choices, 1):
    x = experiment(system, choice, SEED, taught)
    words = f'{system.name}, choice {i} of {len(member.choices)}: {words_of(choice)}'
    run_once(_as_choice(x), workdir, data_dir, words)
  chosen, _ = member.best
  for seed, workdir in member.runs.items():
    x = experiment(system, chosen, seed, teacher and teacher.runs[seed])
    words = f'{system.name}, seed {seed}: {words_of(chosen)}'
    run_once(x, workdir, data_dir, words, method=system.method)


def _as_choice(x: Experiment) -> Experiment:
  """Shorter, on a part of the training images, and judged on those held out."""
  return dataclasses.replace(
    x,
    data=dataclasses.replace(x.data, train=f'{x.data.train}:kept'),
    evals={HELD: Eval(split=f'{x.data.train}:held')},
    optim=dataclasses.replace(
      x.optim, warmup=_share(x.optim.warmup), cooldown=_share(x.optim.cooldown)
    ),
    checkpoint=dataclasses.replace(x.checkpoint, best=''),
    **dataclasses.asdict(_share(x.length)),
  )


def _share(length: Duration) -> Duration:
  return Duration(
    math.ceil(length.steps * SHARE), length.epochs * SHARE, math.ceil(length.examples * SHARE)
  )


def run_once(
  x: Experiment,
  workdir: Path,
  data_dir: Path,
  words: str,
  opened: Opened | None = None,
  method: str = 'train',
) -> Run:
  """The run of this experiment, trained by `method` of a `System` unless it is done.

  Raises:
    Interrupted: the training was stopped; the same call continues it.
  """
  run = Run(workdir)
  if x.then:
    raise UserError(f'{words}: recipe {x.name} has phases, of which one alone could be compared')
  if run.summary:
    run.check_same(x)
    return run
  log.info('== %s', words)
  if method == bag.NAME:
    _train_bag(x, run, data_dir)
    return run
  with Preemption() as preemption:
    code = train(x, workdir, data_dir, preemption, opened=opened)
  if code:
    raise Interrupted(code)
  return Run(workdir)


def _train_bag(x: Experiment, run: Run, data_dir: Path) -> None:
  """A bag of visual words as a run folder: config.json, and summary.json when it is done.

  All is chosen on training images, groups of which are held out whole.
  """
  run.write_config(x)
  train_source, test_source = (
    sources.open_source(x.images, split, data_dir)
    for split in (x.images.train, x.evals[TEST].split)
  )
  began, view = time.perf_counter(), View.of(inputs_of(x.images))
  images = bag.read_all(train_source, view), bag.read_all(test_source, view)
  found = bovw.judge_bag_of_words(*images, train_source.groups()[:, 0], x.seed)
  seconds = {'train': found['seconds'], 'total': round(time.perf_counter() - began, 2)}
  run.write_summary({TEST: {'top1': found['top1']}, **found, 'seconds': seconds, 'seed': x.seed})
  log.info('%s: top-1 %.2f %%; %s', TEST, 100 * found['top1'], found['feature'])


def _write_index(root: Path, members: Mapping[str, Member]) -> None:
  """Which folders hold what, of the systems that are done."""
  rows = [
    {
      'system': member.system.name,
      'year': member.system.year,
      'teacher': member.system.teacher,
      'chosen': member.best[0],
      'choices': [str(path.relative_to(root)) for _, path in member.choices],
      'runs': [str(path.relative_to(root)) for path in member.runs.values()],
    }
    for member in members.values()
    if all(Run(path).summary for path in member.runs.values())
  ]
  root.mkdir(parents=True, exist_ok=True)
  write_json(root / INDEX, rows)


def words_of(choice: Mapping[str, Any]) -> str:
  """A choice as a person reads it."""
  return ', '.join(f'{key}={value!r}' for key, value in choice.items()) or 'as the recipe says'


def plain(name: str) -> str:
  """A name as that of a folder."""
  return re.sub(r'[^\w.=-]+', '_', name)
