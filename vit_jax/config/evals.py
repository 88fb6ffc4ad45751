"""The evaluation table of a recipe: what is judged, on which data, how, and how often."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vit_jax.config.durations import Duration
from vit_jax.errors import UserError, nearest

METRICS = ('top1', 'top5', 'loss', 'ece')  # of the kind classify
# Names that summary.json and metrics.jsonl use for something else.
RESERVED = (
  'train',
  'seconds',
  'seed',
  'steps',
  'examples',
  'parameters',
  'device',
  'versions',
  'step',
)


@dataclass(frozen=True)
class Eval:
  """One line of `config.evals`.

  Attributes:
    kind: 'classify' and 'predict' use the model's own head: the first measures, the second keeps
      the predictions of unlabeled or other images, once, at the end. 'few_shot', 'knn' and
      'linear' learn from the features of `train` and are judged on those of `split`.
    data: as in config.data.name, or 'folder:DIR'; '' is the data set that is trained on.
    split: what is judged, in TFDS split syntax.
    train: what few_shot, knn and linear learn from.
    image, label: features, as in config.data. A label that is a sequence of classes (ImageNet
      ReaL) counts an example as right where any of them is predicted.
    every: how often during training; always at the end.
  """

  kind: Literal['classify', 'few_shot', 'knn', 'linear', 'predict'] = 'classify'
  data: str = ''
  split: str = 'test'
  train: str = 'train'
  image: str = ''
  label: str = ''
  every: Duration = Duration()

  @property
  def learns(self) -> bool:
    """Whether it learns from features, so that the classes need not be the model's."""
    return self.kind in ('few_shot', 'knn', 'linear')


def check_evals(evals: Mapping[str, Eval], best: str) -> None:
  """Raises a UserError where a name, a line or `best` (config.checkpoint.best) is wrong."""
  for name, line in evals.items():
    if name in RESERVED or '/' in name:
      raise UserError(
        f'config.evals.{name}: a run folder uses that name for something else; rename it'
      )
    if line.kind == 'predict' and line.every != Duration():
      raise UserError(
        f'config.evals.{name}.every is set, but predictions are made once, at the end'
      )
  if not best:
    return
  name, _, metric = best.partition('/')
  if name not in evals:
    raise UserError(
      f'config.checkpoint.best is {best!r}, but config.evals has no {name!r}; '
      f'{nearest(name, evals) if evals else "add it there"}'
    )
  kind = evals[name].kind
  fits = {
    'classify': metric in METRICS,
    'few_shot': metric.endswith('-shot'),
    'knn': metric.startswith('knn-'),
    'linear': metric == 'linear',
    'predict': False,
  }
  if not fits[kind]:
    right = {
      'classify': ' or '.join(f'{name}/{metric}' for metric in METRICS),
      'few_shot': f'such as {name}/10-shot',
      'knn': f'such as {name}/knn-20',
      'linear': f'{name}/linear',
      'predict': 'of another eval: predictions have no metric',
    }
    raise UserError(f'config.checkpoint.best is {best!r}; it must be {right[kind]}')


def lower_is_better(metric: str) -> bool:
  return metric.rsplit('/', 1)[-1] in ('loss', 'ece')


def worth(metric: str, value: float) -> float:
  """More is better; nothing is worse than a metric that is not a number."""
  if math.isnan(value):
    return -math.inf
  return -value if lower_is_better(metric) else value
