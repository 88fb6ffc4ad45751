"""The experiment schema: every key with its default and range.

`resolve` turns the ConfigDict of a recipe into a frozen `Experiment`, which is all that the rest of
the code sees. An unknown key, a wrong type or a value out of range is a `UserError` that names the
key and what would be right.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args, get_type_hints

from vit_jax import models
from vit_jax.config.durations import Duration
from vit_jax.config.evals import Eval, TranslationEval, check_evals
from vit_jax.config.images import Augment, ImageData
from vit_jax.config.pairs import PairData
from vit_jax.errors import UserError
from vit_jax.fields import bounded, build, changes, check, plain


@dataclass(frozen=True)
class Model:
  """A model by name, and its options as `models.options_of` gives them.

  Its keys are `name` and the options themselves. A stored recipe has all of them, because a later
  version may have other defaults. Without a name there is no model, as in a bag of words or a loss
  that does not distill.
  """

  name: str = ''
  options: Any = None  # of the class `models.MODELS` has for the name

  @classmethod
  def from_keys(cls, values: Mapping[str, Any], where: str = 'model') -> Self:
    """The model with these keys; others have the defaults of the name."""
    options = dict(values)
    name = check(options.pop('name', ''), str, f'{where}.name', {})
    if not name and not options:
      return cls()
    if not name:
      raise UserError(f"{where}.name is missing: name a model, such as 'Ti/16'")
    return cls(name, models.options_of(name, options, where))

  @classmethod
  def types(cls) -> dict[str, Any]:
    """The type of each key of any model; no two models differ in it."""
    return {'name': str, **models.option_types()}

  def to_keys(self) -> dict[str, Any]:
    """All keys, as `from_keys` takes them."""
    return {'name': self.name, **(plain(self.options) if self.name else {})}

  def changes(self) -> dict[str, Any]:
    """Only the keys that are not defaults of the name."""
    if not self.name:
      return {'name': ''}
    return {'name': self.name, **changes(self.options, models.options_of(self.name))}


@dataclass(frozen=True)
class Distill:
  """What a teacher adds to the loss (DeiT, arXiv:2012.12877 section 4)."""

  kind: Literal['none', 'hard', 'soft'] = 'none'
  alpha: float = bounded(0.5, 0, 1)  # the teacher's share of the loss
  tau: float = bounded(1.0, 0.01)  # temperature, of the soft kind
  teacher: Model = Model()  # of the same data
  teacher_weights: str = ''  # a run folder or a weight file


@dataclass(frozen=True)
class Loss:
  name: Literal['softmax', 'sigmoid'] = 'softmax'
  label_smoothing: float = bounded(0.0, 0, 0.999)
  distill: Distill | None = Distill()  # of images only


@dataclass(frozen=True)
class Optim:
  name: Literal['adamw', 'sgd'] = 'adamw'
  lr: float = bounded(1e-3, 0)
  schedule: Literal['cosine', 'linear', 'rsqrt', 'noam', 'constant'] = 'cosine'
  warmup: Duration = Duration()
  cooldown: Duration = Duration()  # linear to zero at the end; for rsqrt and constant
  timescale: int = bounded(10_000, 1)  # of rsqrt, in steps
  end_lr: float = bounded(0.0, 0)
  b1: float = bounded(0.9, 0, 0.99999)
  b2: float = bounded(0.999, 0, 0.9999999)
  eps: float = bounded(1e-8, 0, 1)
  momentum: float = bounded(0.9, 0, 0.99999)
  weight_decay: float = bounded(0.0, 0)  # AdamW style, times lr; on matrices only
  clip_norm: float = bounded(0.0, 0)  # 0: off
  accumulate: int = bounded(1, 1)  # micro-batches per step
  ema: float = bounded(0.0, 0, 0.999999)  # decay of averaged parameters, used to evaluate; 0: off


@dataclass(frozen=True)
class Mesh:
  """Devices along each axis; -1 takes what is left (docs/sharding.md)."""

  replica: int = bounded(-1, -1)  # copies of the parameters; the batch is split over it
  fsdp: int = bounded(1, -1)  # parameters and optimizer are split over it, and the batch
  tensor: int = bounded(1, -1)  # heads and hidden units are
  sequence: int = bounded(1, -1)  # tokens are, for large images
  slices: int = bounded(0, 0)  # groups of devices on a slow network; 0: as TPUs say, else 1


@dataclass(frozen=True)
class Limits:
  """In seconds; beyond one, stacks are written and the run ends with exit code 1. 0: no limit."""

  start: float = bounded(1800.0, 0)  # until all processes are there; then until the first step
  data: float = bounded(600.0, 0)  # waiting for a batch
  step: float = bounded(600.0, 0)  # a step, or a batch of an evaluation
  save: float = bounded(1800.0, 0)  # waiting for a checkpoint to be committed
  barrier: float = bounded(600.0, 0)  # waiting for the other processes
  heartbeat: int = bounded(10, 1)  # a process silent for so long is dead, and the others end


@dataclass(frozen=True)
class Checkpoint:
  every: Duration = Duration()
  minutes: float = bounded(10.0, 0)  # 0: never by time
  keep_last: int = bounded(2, 1)  # with one, nothing is left where it is damaged
  keep_best: int = bounded(1, 0)
  best: str = ''  # metric of an eval, such as 'val/top1', that picks the best; '': none is kept


@dataclass(frozen=True)
class Log:
  every: Duration = Duration(steps=50)
  tensorboard: bool = False
  wandb: bool = False


@dataclass(frozen=True)
class Experiment:
  """One run, resolved: everything that decides its result."""

  name: str = 'experiment'
  seed: int = bounded(0, 0, 2**31 - 1)
  steps: int = bounded(0, 0)
  epochs: float = bounded(0.0, 0)
  examples: int = bounded(0, 0)
  batch_size: int = bounded(128, 1)  # global; images, or tokens of a side of the pairs
  eval_batch_size: int = bounded(0, 0)  # 0: batch_size
  init_from: str = ''  # a run folder, file or address, or augreg:NAME, to start from
  model: Model = Model.from_keys({'name': 'Ti/16'})
  data: ImageData | PairData = ImageData()
  augment: Augment | None = Augment()  # of images only
  loss: Loss = Loss()
  optim: Optim = Optim()
  evals: Mapping[str, Eval | TranslationEval] = field(default_factory=dict)
  checkpoint: Checkpoint = Checkpoint()
  log: Log = Log()
  limits: Limits = Limits()
  mesh: Mesh = Mesh()

  def __post_init__(self):
    Duration(self.steps, self.epochs, self.examples)  # refuses two of them

  @property
  def length(self) -> Duration:
    return Duration(self.steps, self.epochs, self.examples)

  @property
  def images(self) -> ImageData:
    """The data of a run on images; raises a UserError for one on sentences."""
    if isinstance(self.data, ImageData):
      return self.data
    raise UserError(f'run {self.name!r} translates sentences; this is for runs on images')

  @property
  def pairs(self) -> PairData:
    """The data of a run on pairs of sentences; raises a UserError for one on images."""
    if isinstance(self.data, PairData):
      return self.data
    raise UserError(f'run {self.name!r} learns from images; this is for runs on sentences')

  def to_json(self) -> str:
    """A recipe with every key, which `resolve` reads; equal experiments give equal text."""
    return json.dumps(plain(self), indent=2, sort_keys=True) + '\n'

  def changes(self) -> dict[str, Any]:
    """A recipe with only the keys that are not defaults; `resolve` gives the same experiment."""
    return changes(self, Experiment())


def resolve(config: Any) -> Experiment:
  """The experiment of a recipe (a ConfigDict or plain mapping).

  Raises:
    UserError: an unknown key, a wrong type, a value out of range, or keys that contradict each
      other.
  """
  plain = config.to_dict() if hasattr(config, 'to_dict') else config
  return _settle(build(Experiment, plain, 'config'))


def _settle(x: Experiment) -> Experiment:
  """Fills in what follows from other keys, and refuses keys that contradict each other."""
  if x.length == Duration():
    raise UserError(
      'the length of the run is missing: set one of config.steps, config.epochs or config.examples'
    )
  if models.reads_text(x.model.name) != isinstance(x.data, PairData):
    reads = {True: 'sentences', False: 'images'}[models.reads_text(x.model.name)]
    raise UserError(
      f'config.model.name is {x.model.name!r}, which reads {reads}, but config.data.kind is '
      f'{x.data.kind!r}; change one of them'
    )
  x = _settle_pairs(x) if isinstance(x.data, PairData) else _settle_images(x, x.data)
  if isinstance(x.data, ImageData) and x.batch_size % x.optim.accumulate:
    raise UserError(
      f'config.batch_size {x.batch_size} is not divisible by '
      f'config.optim.accumulate {x.optim.accumulate}'
    )
  if x.optim.schedule == 'noam' and x.optim.warmup == Duration():
    raise UserError("config.optim.warmup is missing: the schedule 'noam' rises until its end")
  check_evals(x.evals, x.checkpoint.best)
  return dataclasses.replace(x, eval_batch_size=x.eval_batch_size or x.batch_size)


def _with_dir(data: Any, name: str, advice: str) -> Any:
  """`data` with 'NAME:DIR' taken apart; raises a UserError if the folder is missing."""
  if data.name.startswith(f'{name}:'):
    data = dataclasses.replace(data, name=name, dir=data.name.removeprefix(f'{name}:'))
  if data.name == name and not data.dir:
    raise UserError(f'config.data.dir is missing: {advice}')
  return data


def _settle_pairs(x: Experiment) -> Experiment:
  """What only images have is None in a run on sentences, and refused if it was asked for."""
  for key, value, default in (
    ('augment', x.augment or Augment(), Augment()),
    ('loss.distill', x.loss.distill or Distill(), Distill()),
    ('loss.name', x.loss.name, 'softmax'),
  ):
    if value != default:
      raise UserError(f'config.{key} is for images; leave it out of a run on sentences')
  for name, line in x.evals.items():
    if not isinstance(line, TranslationEval):
      raise UserError(
        f'config.evals.{name}.kind is {line.kind!r}, which is for images; sentences have '
        "kind='translate'"
      )
  data = _with_dir(
    x.pairs,
    'pairs',
    'give the folder of train.src and train.tgt, as in --config.data.name=pairs:DIR',
  )
  loss = dataclasses.replace(x.loss, distill=None)
  return dataclasses.replace(x, data=data, augment=None, loss=loss)


def _settle_images(x: Experiment, data: ImageData) -> Experiment:
  data = _with_dir(
    data,
    'folder',
    'give the folder of images, one sub-folder per class, as in --config.data.dir=DIR',
  )
  for name, values in (('mean', data.mean), ('std', data.std)):
    if len(values) != data.channels:
      raise UserError(
        f'config.data.{name} has {len(values)} numbers, but config.data.channels is {data.channels}'
      )
  for name, (low, high) in (('crop_area', data.crop_area), ('crop_aspect', data.crop_aspect)):
    if low > high:
      raise UserError(f'config.data.{name} is ({low:g}, {high:g}); the first must be the smaller')
  distill = x.loss.distill or Distill()
  if distill.kind != 'none' and not distill.teacher.name:
    raise UserError(
      "config.loss.distill.teacher.name is missing: name the teacher's model, such as 'ResNet-50'"
    )
  if distill.kind != 'none' and not distill.teacher_weights:
    raise UserError(
      'config.loss.distill.teacher_weights is missing: give a run folder or a weight file of the '
      f'teacher, a {distill.teacher.name}'
    )
  for name, line in x.evals.items():
    if not isinstance(line, Eval):
      raise UserError(
        f"config.evals.{name}.kind is 'translate', which is for sentences; images have "
        f'{", ".join(get_args(get_type_hints(Eval)["kind"]))}'
      )
  return dataclasses.replace(x, data=data)
