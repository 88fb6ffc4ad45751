"""Fine-tuning as a method of `vit_jax transfer`: one recipe for each task and each model.

What the recipe's `get_sweep` lists (learning rates) is trained with the first seed and judged on
the eval `val`; the best is trained with the other seeds too, and all are judged on `test`. Every
training is a run folder: what is done is not done again, unless the weights it began with have
changed since. A task with labels, images or splits of its own trains on those.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax import config
from vit_jax.config import Experiment
from vit_jax.config.recipes import load_sweep
from vit_jax.data.sources import MappedSource, Source
from vit_jax.errors import UserError
from vit_jax.evaluate.backbone import Pulse
from vit_jax.evaluate.sets import EvalSet, Part
from vit_jax.run import Run
from vit_jax.train.trainer import Opened
from vit_jax.transfer.candidates import Candidate, candidates
from vit_jax.transfer.compare import plain, run_once, words_of
from vit_jax.transfer.suite import TransferRow, judge_head
from vit_jax.transfer.tasks import Task, TaskData

METHOD = 'fine_tune'


def check(
  recipe: str, updates: Mapping[str, Any], judged: Sequence[Candidate], tasks: Sequence[Task]
) -> None:
  """Finds what is wrong with the recipe or a model before an hour of training.

  Raises:
    UserError: a model cannot be trained, an image size is not the recipe's, or the recipe does not
      resolve.
  """
  for task in tasks:
    choices = load_sweep(_spec(recipe, task))
    wanted = {'val', 'test'} if len(choices) > 1 else {'test'}
    for candidate in judged:
      for choice in choices:
        x = _experiment(recipe, updates, candidate, task, choice, 0)
        if not wanted <= set(x.evals):
          raise UserError(
            f'--recipe: {recipe} has the evals {", ".join(sorted(x.evals))}; its '
            f'{len(choices)} ways to train need {" and ".join(sorted(wanted))}'
          )
        side = candidate.image_size
        if side and x.data.image_size != (side, side):
          height, width = x.data.image_size
          raise UserError(
            f'--methods {METHOD}: {candidate.name} is wanted at {side} pixels, but {recipe} trains '
            f'at {height} x {width}; leave the size out, or train at it with '
            f"--config.data.image_size='({side}, {side})' --config.data.eval_resize={side}"
          )


def fine_tune(
  candidate: Candidate,
  task: Task,
  data: TaskData,
  recipe: str,
  updates: Mapping[str, Any],
  seeds: Sequence[int],
  root: Path,
  data_dir: Path,
  batch: int,
  pulse: Pulse,
) -> Iterator[TransferRow]:
  """The row of a task, and one for each of its other tests.

  Args:
    recipe: whose `get_config` takes the name of a data set, or `Task.recipe`.
    updates: key of the recipe -> value; they come last.
    root: the folder of run folders.
    batch: images at a time on a device where other tests are judged.

  Raises:
    Interrupted: a training was stopped; the same call goes on.
  """
  # By the weights themselves: their path stays the same where a run behind it has gone on.
  digest = _weights(candidate).digest()
  folder = root / f'{plain(candidate.name)}-{digest[:8]}' / plain(task.name)
  choices = load_sweep(_spec(recipe, task))

  def trained(choice: dict[str, Any], seed: int) -> Run:
    x = _experiment(recipe, updates, candidate, task, choice, seed)
    opened = None if task.as_published else _opened(task, data, 'val' in x.evals)
    words = words_of(choice)
    workdir = folder / plain(words) / f'seed-{seed}'
    about = f'{candidate.name} on {task.name}, {words}, seed {seed}'
    return run_once(x, workdir, data_dir, about, opened)

  first = [trained(choice, seeds[0]) for choice in choices]
  best = 0
  if len(first) > 1:
    best = int(np.argmax([run.summary['val']['top1'] for run in first]))  # of equals the first
  runs = [first[best], *(trained(choices[best], seed) for seed in seeds[1:])]
  setting = ', '.join(f'{key.rpartition(".")[2]} {value:g}' for key, value in choices[best].items())
  seconds = round(sum(run.summary['seconds']['train'] for run in runs), 2)
  examples = runs[0].summary['examples']

  def row(name: str, top1s: list[float], count: int) -> TransferRow:
    mean, spread = 100 * float(np.mean(top1s)), 100 * float(np.std(top1s))
    return TransferRow(
      candidate.name,
      name,
      METHOD,
      METHOD,
      setting,
      mean,
      spread,
      'seeds',
      examples,
      count,
      seconds,
    )

  yield row(
    task.name,
    [run.summary['test']['top1'] for run in runs],
    len(runs[0].predictions['test'].label_N),
  )
  others = data._replace(tests=data.tests[1:])
  if not others.tests:
    return
  tuned = [
    candidates(
      [str(run.path)],
      model='',
      options={},
      checkpoint='last',
      data_dir=data_dir,
      image_size=None,
      batch=batch,
    )[0]
    for run in runs
  ]
  judged = [list(judge_head(one, task, others, pulse)) for one in tuned]
  for of_seeds in zip(*judged, strict=True):
    yield row(of_seeds[0].task, [one.top1 / 100 for one in of_seeds], of_seeds[0].test_examples)


def _opened(task: Task, data: TaskData, choose: bool) -> Opened:
  """The data of a task with examples of its own; where a rate is chosen, a part is held out."""
  train, test = data.train, data.tests[0]
  evals = {'test': EvalSet('classify', [Part('test', _some(test.source, test.keep_N, task.name))])}
  position_N = np.arange(len(train.source)) if train.keep_N is None else train.keep_N
  if choose:
    held, kept = train.hold_out(position_N)
    val = _some(train.source, position_N[held], f'{task.name}, held out')
    evals['val'] = EvalSet('classify', [Part('val', val)])
    return Opened(_some(train.source, position_N[kept], f'{task.name}, kept'), evals)
  return Opened(_some(train.source, train.keep_N, task.name), evals)


def _some(source: Source, indices_N: np.ndarray | None, words: str) -> Source:
  return source if indices_N is None else MappedSource(source, words, indices_N=indices_N)


def _experiment(
  recipe: str,
  updates: Mapping[str, Any],
  candidate: Candidate,
  task: Task,
  choice: dict[str, Any],
  seed: int,
) -> Experiment:
  """The recipe, resolved, with the model and its inputs; what the command line says comes last."""
  weights = _weights(candidate)
  values = {
    **{f'model.{key}': value for key, value in weights.model_keys.items()},
    'init_from': weights.source,
    'data.mean': weights.mean,
    'data.std': weights.std,
    'data.channels': len(weights.mean),
    'data.name': task.data,
    'data.resize': 'whole' if task.whole else 'crop',
    'seed': seed,
    **choice,
  }
  values |= {f'data.{key}': getattr(task, key) for key in ('image', 'label') if getattr(task, key)}
  return config.recipe(_spec(recipe, task), {**values, **updates})


def _spec(recipe: str, task: Task) -> str:
  return f'{recipe}:{task.recipe or task.data}'


def _weights(candidate: Candidate) -> Any:
  if candidate.opened is None:
    raise UserError(f'--methods {METHOD}: {candidate.name} has no weights to go on from')
  return candidate.opened
