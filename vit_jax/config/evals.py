"""The evaluation table of a recipe: what is judged, on which data, how, and how often."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vit_jax.config.durations import Duration
from vit_jax.errors import UserError, nearest
from vit_jax.fields import bounded, tag

# By kind: a pattern of the metrics that may pick the best checkpoint, and what would be right.
BEST = {
  'classify': (
    'top1|top5|loss|ece|class_top1|map|f1|micro_f1',
    '{0}/top1 or {0}/top5 or {0}/loss or {0}/ece or {0}/class_top1; of sets of classes {0}/map, '
    '{0}/f1 or {0}/micro_f1',
  ),
  'few_shot': ('.*-shot', 'such as {0}/10-shot'),
  'knn': ('knn-.*', 'such as {0}/knn-20'),
  'linear': ('linear', '{0}/linear'),
  'predict': ('(?!)', 'of another eval: predictions have no metric'),
  'translate': ('bleu|chrf|exact|loss', '{0}/bleu or {0}/chrf or {0}/exact or {0}/loss'),
}
# By kind of data, the metric that headlines reports.
HEADLINES = {'images': 'top1', 'pairs': 'bleu'}
NAME = re.compile(r'\w[\w\-+= ]{0,79}')  # in UTF-8 it fits a file name
SPLITS = ('test', 'val', 'validation')  # names that say which data a file is of
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
    image, label: features, as in config.data. If a label is a sequence of classes (ImageNet ReaL),
      any of them counts as right.
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


@dataclass(frozen=True)
class TranslationEval:
  """One line of `config.evals` of a translation run: translates a split and scores it.

  Attributes:
    kind: the one there is.
    data: as in config.data.name; '' is the data set that is trained on.
    split: what is translated.
    beam: hypotheses of the search; 1 is greedy.
    length_penalty: alpha of arXiv:1609.08144 equation 14.
    every: how often during training; always at the end.
  """

  kind: Literal['translate'] = tag('translate')
  data: str = ''
  split: str = 'test'
  beam: int = bounded(1, 1)
  length_penalty: float = bounded(0.6, 0)
  every: Duration = Duration()


def check_evals(evals: Mapping[str, Eval | TranslationEval], best: str) -> None:
  """Raises a UserError if a name, a line or `best` (config.checkpoint.best) is wrong."""
  for name, line in evals.items():
    if not NAME.fullmatch(name):
      raise UserError(
        f'config.evals.{name}: files are named after an eval; its name must be up to 80 letters, '
        "digits, '_', '-', '+', '=' or spaces, and begin with a letter or a digit"
      )
    if name in RESERVED:
      raise UserError(
        f'config.evals.{name}: a run folder uses that name for something else; rename it'
      )
    if line.kind == 'predict' and name in SPLITS and not line.split.startswith(name):
      raise UserError(
        f'config.evals.{name} predicts the split {line.split!r}, but its predictions would be '
        f'taken for those of {name!r}; rename it'
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
  pattern, right = BEST[evals[name].kind]
  if not re.fullmatch(pattern, metric):
    raise UserError(f'config.checkpoint.best is {best!r}; it must be {right.format(name)}')


def lower_is_better(metric: str) -> bool:
  return metric.rsplit('/', 1)[-1] in ('loss', 'ece')


def worth(metric: str, value: float) -> float:
  """How good a metric is, more being better; NaN is the worst."""
  if math.isnan(value):
    return -math.inf
  return -value if lower_is_better(metric) else value
