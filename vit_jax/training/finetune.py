"""Fine-tuning as a method of `vit_jax transfer`: one recipe for each data set and each model.

What the recipe's `get_sweep` lists (learning rates) is trained with the first seed and judged on
the recipe's eval split `val`; the best is trained with the other seeds too, and all are judged on
`test`. Every training is a run folder: what is done is not done again, unless the weights it began
with have changed since.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax import config
from vit_jax.config import Experiment
from vit_jax.data import sources
from vit_jax.errors import UserError
from vit_jax.recipes import load_config, load_sweep
from vit_jax.training.compare import read_summary, run_once, words_of
from vit_jax.transfer.contestants import Contestant, Start, contestants
from vit_jax.transfer.suite import Row, judge_head
from vit_jax.transfer.tasks import Opened, Task

METHOD = 'fine-tune'


class Stopped(Exception):
  """A training was interrupted and saved; `code` is the exit code to pass on."""

  def __init__(self, code: int):
    super().__init__(code)
    self.code = code


def check(
  recipe: str, overrides: Sequence[str], judged: Sequence[Contestant], tasks: Sequence[Task]
) -> None:
  """Says what is wrong with the recipe or a task before an hour of training.

  Raises:
    UserError: a task has labels or images of its own making, a model cannot be trained, an image
      size is not the recipe's, or the recipe does not resolve.
  """
  for task in tasks:
    if task.rule or task.held_out or task.whole or task.gain != 1:
      raise UserError(
        f'--methods {METHOD}: task {task.name!r} has labels, images or splits of its '
        f'own; fine-tune on data sets, as in --data {task.data}'
      )
    for contestant in judged:
      choices = load_sweep(f'{recipe}:{task.data}')
      for choice in choices:
        x = _experiment(recipe, overrides, contestant, task, choice, 0)
        wanted = {'val', 'test'} if len(choices) > 1 else {'test'}
        if not wanted <= set(x.data.evals):
          raise UserError(
            f'--recipe: {recipe} has the eval splits {", ".join(x.data.evals)}; its '
            f'{len(choices)} ways to train want {" and ".join(sorted(wanted))}'
          )
        _check_size(contestant, recipe, x.data.image_size)


def _check_size(contestant: Contestant, recipe: str, image_size: tuple[int, int]) -> None:
  side = _start(contestant).image_size
  if side and image_size != (side, side):
    raise UserError(
      f'--methods {METHOD}: {contestant.name} is wanted at {side} pixels, but '
      f'{recipe} trains at {image_size[0]} x {image_size[1]}; leave the size out, or '
      f"train at it with --config.data.image_size='({side}, {side})' "
      f'--config.data.eval_resize={side}'
    )


def fine_tune(
  contestant: Contestant,
  task: Task,
  opened: Opened,
  recipe: str,
  overrides: Sequence[str],
  seeds: Sequence[int],
  root: Path,
  data_dir: Path,
  batch: int = 64,
) -> Iterator[Row]:
  """The row of a task, and one for each of its other exams.

  Args:
    recipe: a file whose `get_config` takes the name of a data set.
    overrides: '--config.KEY=VALUE'.
    root: the folder of run folders.
    batch: images at a time on a device where other exams are judged.

  Raises:
    Stopped: a training was interrupted; the same call goes on.
  """
  start = _start(contestant)
  # By the weights themselves: their path stays the same where a run behind it has gone on.
  folder = root / f'{_plain(contestant.name)}-{start.digest().hex()[:8]}' / _plain(task.name)
  choices = load_sweep(f'{recipe}:{task.data}')

  def trained(choice: dict[str, Any], seed: int) -> tuple[Path, Experiment]:
    words = words_of(choice)
    workdir = folder / _plain(words) / f'seed-{seed}'
    x = _experiment(recipe, overrides, contestant, task, choice, seed)
    code = run_once(x, workdir, data_dir, f'{contestant.name} on {task.name}, {words}, seed {seed}')
    if code:
      raise Stopped(code)
    return workdir, x

  first = [trained(choice, seeds[0]) for choice in choices]
  best = 0
  if len(first) > 1:
    best = int(np.argmax([_top1(workdir, 'val') for workdir, _ in first]))  # of equals the first
  runs = [first[best], *(trained(choices[best], seed) for seed in seeds[1:])]
  words = ', '.join(f'{key.rpartition(".")[2]} {value:g}' for key, value in choices[best].items())
  train = sources.open_source(runs[0][1].data, runs[0][1].data.train, data_dir)
  test = sources.open_source(runs[0][1].data, runs[0][1].data.evals['test'], data_dir)
  seconds = sum(read_summary(workdir)['seconds']['train'] for workdir, _ in runs)

  def row(name: str, top1s: list[float], count: int) -> Row:
    return Row(
      contestant.name,
      name,
      METHOD,
      METHOD,
      words,
      100 * float(np.mean(top1s)),
      100 * float(np.std(top1s)),
      'seeds',
      len(train),
      count,
      round(seconds, 2),
    )

  yield row(task.name, [_top1(workdir, 'test') for workdir, _ in runs], len(test))
  others = opened._replace(exams=opened.exams[1:])
  tuned = (
    [contestants([str(workdir)], '', data_dir, None, batch)[0] for workdir, _ in runs]
    if others.exams
    else []
  )
  judged = [list(judge_head(run, task, others, data_dir / 'features', batch)) for run in tuned]
  for of_seeds in zip(*judged, strict=True):
    yield row(of_seeds[0].task, [one.top1 / 100 for one in of_seeds], of_seeds[0].test_examples)


def _experiment(
  recipe: str,
  overrides: Sequence[str],
  contestant: Contestant,
  task: Task,
  choice: dict[str, Any],
  seed: int,
) -> Experiment:
  """The recipe, resolved, with the model and its inputs; what the command line says comes last."""
  start = _start(contestant)
  values = {
    **{f'model.{key}': value for key, value in start.model.items()},
    'init_from': start.weights,
    'data.mean': start.mean,
    'data.std': start.std,
    'data.channels': len(start.mean),
    'seed': seed,
    **choice,
  }
  values |= {
    f'data.{key}': value for key, value in (('image', task.image), ('label', task.label)) if value
  }
  flags = [f'--config.{key}={value!r}' for key, value in values.items()]
  return config.resolve(load_config(f'{recipe}:{task.data}', [*flags, *overrides]))


def _start(contestant: Contestant) -> Start:
  if contestant.start is None:
    raise UserError(f'--methods {METHOD}: {contestant.name} has no weights to go on from')
  return contestant.start


def _top1(workdir: Path, split: str) -> float:
  return read_summary(workdir)[split]['top1']


def _plain(name: str) -> str:
  return re.sub(r'[^\w.=-]+', '_', name)
