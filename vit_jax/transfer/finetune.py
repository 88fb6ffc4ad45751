"""Fine-tuning as a method of `vit_jax transfer`: one recipe for each task and each model.

What the recipe's `get_sweep` lists (learning rates) is trained with the first seed and judged on
the eval `val`; the best is trained with the other seeds too, and all are judged on `test`. Every
training is a run folder, and is not repeated unless the weights it began with have changed since. A
task with labels, images or splits of its own trains on those.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax import config, weights
from vit_jax.config import Experiment
from vit_jax.config.recipes import load_sweep
from vit_jax.data.sources import MappedSource, Source
from vit_jax.errors import UserError
from vit_jax.evaluate.backbone import Pulse
from vit_jax.evaluate.judge import Result
from vit_jax.evaluate.sets import EvalSet, Part
from vit_jax.run import Run
from vit_jax.train.domain import Opened
from vit_jax.transfer.candidates import Candidate, network
from vit_jax.transfer.compare import plain, run_once, words_of
from vit_jax.transfer.suite import TransferRow, judge_head, rows_of
from vit_jax.transfer.tasks import Task, TaskData

METHOD = 'fine_tune'
# How a task sees images whole: see `candidates.network`.
WHOLE = dict(crop=1.0, interpolation='bilinear', aspect='change', antialias=False)


@dataclass(frozen=True)
class FineTuning:
  """How every model is fine-tuned on every task."""

  recipe: str  # whose `get_config` takes the name of a data set, or `Task.recipe`
  updates: Mapping[str, Any]  # key of the recipe -> value; they come last
  seeds: Sequence[int]
  root: Path  # the folder of run folders
  data_dir: Path
  batch: int  # images at a time on a device where other tests are judged

  def check(self, judged: Sequence[Candidate], tasks: Sequence[Task]) -> None:
    """Finds what is wrong with the recipe or a model before an hour of training.

    Raises:
      UserError: a model cannot be trained, an image size is not the recipe's, or the recipe does
        not resolve.
    """
    for task in tasks:
      choices = load_sweep(self._spec(task))
      wanted = {'val', 'test'} if len(choices) > 1 else {'test'}
      for candidate, choice in itertools.product(judged, choices):
        x = self._experiment(candidate, task, choice, 0)
        if not wanted <= set(x.evals):
          raise UserError(
            f'--recipe: {self.recipe} has the evals {", ".join(sorted(x.evals))}; its '
            f'{len(choices)} ways to train need {" and ".join(sorted(wanted))}'
          )
        side = candidate.image_size
        if side and x.images.image_size != (side, side):
          height, width = x.images.image_size
          raise UserError(
            f'--methods {METHOD}: {candidate.name} is wanted at {side} pixels, but {self.recipe} '
            f'trains at {height} x {width}; leave the size out, or train at it with '
            f"--config.data.image_size='({side}, {side})'"
          )

  def rows(
    self, candidate: Candidate, task: Task, data: TaskData, pulse: Pulse
  ) -> Iterator[TransferRow]:
    """The row of a task, and one for each of its other tests.

    Raises:
      Interrupted: a training was stopped; the same call continues it.
    """
    # By the weights themselves: their path stays the same where a run behind it has gone on.
    digest = _weights(candidate).digest()
    folder = self.root / f'{plain(candidate.name)}-{digest[:8]}' / plain(task.name)
    choices = load_sweep(self._spec(task))

    def trained(choice: dict[str, Any], seed: int) -> Run:
      x = self._experiment(candidate, task, choice, seed)
      opened = None if task.as_published else _opened(task, data, 'val' in x.evals)
      words = words_of(choice)
      workdir = folder / plain(words) / f'seed-{seed}'
      about = f'{candidate.name} on {task.name}, {words}, seed {seed}'
      return run_once(x, workdir, self.data_dir, about, opened)

    first = [trained(choice, self.seeds[0]) for choice in choices]
    best = 0
    if len(first) > 1:
      best = int(np.argmax([run.summary['val']['top1'] for run in first]))  # of equals the first
    runs = [first[best], *(trained(choices[best], seed) for seed in self.seeds[1:])]
    top1s = [[run.summary['test']['top1'] for run in runs]]
    counts = [len(runs[0].predictions['test'].label_N)]
    others, heads = data.tests[1:], []
    for run in runs if others else []:
      opened = weights.open(run.path, data_dir=self.data_dir)
      heads.append(network(candidate.name, opened, task.whole, self.batch))
    for test in others:
      judged = [judge_head(head, test, pulse) for head in heads]
      top1s.append([top1 for top1, _ in judged])
      counts.append(judged[0][1])
    setting = ', '.join(f'{key.rpartition(".")[2]} {v:g}' for key, v in choices[best].items())
    found = Result(METHOD, setting, top1s, 'seeds', runs[0].summary['examples'], counts)
    seconds = sum(run.summary['seconds']['train'] for run in runs)
    yield from rows_of(candidate.name, METHOD, data.tests, found, seconds)

  def _experiment(
    self, candidate: Candidate, task: Task, choice: dict[str, Any], seed: int
  ) -> Experiment:
    """The recipe with the model, its inputs and the task; `updates` come last."""
    opened = _weights(candidate)
    values = {
      **{f'model.{key}': value for key, value in opened.model_keys.items()},
      'init_from': opened.source,
      'data.mean': opened.mean,
      'data.std': opened.std,
      'data.channels': len(opened.mean),
      'data.name': task.data,
      **({f'data.eval_{key}': value for key, value in WHOLE.items()} if task.whole else {}),
      'seed': seed,
      **choice,
    }
    features = {'data.image': task.image, 'data.label': task.label}
    values |= {key: value for key, value in features.items() if value}
    return config.recipe(self._spec(task), {**values, **self.updates})

  def _spec(self, task: Task) -> str:
    return f'{self.recipe}:{task.recipe or task.data}'


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


def _weights(candidate: Candidate) -> weights.Opened:
  if candidate.opened is None:
    raise UserError(f'--methods {METHOD}: {candidate.name} has no weights to fine-tune')
  return candidate.opened
