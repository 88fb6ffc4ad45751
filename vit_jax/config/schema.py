"""The experiment schema: every key with its default and range.

`resolve` turns the ConfigDict of a recipe into a frozen `Experiment`, which is all that the rest of
the code sees. An unknown key, a wrong type or a value out of range is a `UserError` that names the
key and what would be right.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

from vit_jax import models
from vit_jax.config import phases
from vit_jax.config.durations import EXAMPLES, LENGTHS, Duration
from vit_jax.config.evals import Eval, TranslationEval
from vit_jax.config.images import Augment, ImageData
from vit_jax.config.optimization import Optim, Spikes
from vit_jax.config.pairs import PairData
from vit_jax.errors import UserError
from vit_jax.fields import bounded, changes, check, plain
from vit_jax.redaction import redacted


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

  def changes(self, default: Self | None = None) -> dict[str, Any]:
    """Only the keys that differ from `default`; of another name, from the defaults of the name."""
    if not self.name:
      return {'name': ''}
    usual = models.options_of(self.name)
    if default and default.name == self.name:
      usual = default.options
    return {'name': self.name, **changes(self.options, usual)}


@dataclass(frozen=True)
class Distill:
  """What a teacher adds to the loss (DeiT, arXiv:2012.12877 section 4)."""

  # soft: equation 2 of the paper, per example; soft_mean: facebookresearch/deit's code, which also
  # divides it by the number of classes
  kind: Literal['none', 'hard', 'soft', 'soft_mean'] = 'none'
  alpha: float = bounded(0.5, 0, 1)  # the teacher's share of the loss
  tau: float = bounded(1.0, 0.01)  # temperature, of the soft kinds
  teacher: Model = Model()  # of the same data
  teacher_weights: str = ''  # a run folder or a file


@dataclass(frozen=True)
class Loss:
  """`losses.py` has the formulas and their sources."""

  name: Literal['softmax', 'sigmoid', 'bce'] = 'softmax'
  label_smoothing: float = bounded(0.0, 0, 0.999)  # share of the target that all classes get
  class_weights: tuple[float, ...] = bounded((), 0)  # of each class; none: all alike
  distill: Distill | None = Distill()  # of images only

  def __post_init__(self):
    if self.name == 'bce' and self.label_smoothing:
      raise UserError(
        "label_smoothing must be 0 with the loss 'bce', to which every class of a positive mass "
        "is a target; 'sigmoid' takes smoothed labels"
      )


@dataclass(frozen=True)
class Mesh:
  """Devices along each axis; -1 takes what is left (docs/sharding.md)."""

  replica: int = bounded(-1, -1)  # copies of the parameters; the batch is split over it
  fsdp: int = bounded(1, -1)  # parameters and optimizer are split over it, and the batch
  tensor: int = bounded(1, -1)  # heads and hidden units are
  sequence: int = bounded(1, -1)  # tokens are, for large images
  slices: int = bounded(0, 0)  # groups of devices on a slow network; 0: as TPUs say, else 1
  # When kernels that fsdp splits are gathered: each 'pass', or once a 'step', which keeps them
  # whole in optim.reduce_dtype until it ends.
  gather: Literal['pass', 'step'] = 'pass'


@dataclass(frozen=True)
class Limits:
  """In seconds; beyond one, stacks are written and the run ends with exit code 1. 0: no limit."""

  start: float = bounded(1800.0, 0)  # until all processes are there; then until the first step
  data: float = bounded(600.0, 0)  # waiting for a batch
  step: float = bounded(600.0, 0)  # a step, or a batch of an evaluation
  save: float = bounded(1800.0, 0)  # waiting for a checkpoint to be committed
  barrier: float = bounded(600.0, 0)  # waiting for the other processes
  heartbeat: int = bounded(20, 1, 3600)  # a process silent for so long is named, and the others end


@dataclass(frozen=True)
class Checkpoint:
  every: Duration = Duration()  # also at the end
  minutes: float = bounded(10.0, 0)  # also so often; 0: never by time
  upload_every: int = bounded(1, 1)  # saves, of a run at an address; others stay on its hosts
  keep_last: int = bounded(2, 1)  # checkpoints; with one, nothing is left where it is damaged
  keep_best: int = bounded(1, 0)  # checkpoints, by `best`
  best: str = ''  # metric that picks the best, such as 'val/top1'; '': none is kept


@dataclass(frozen=True)
class Log:
  every: Duration = Duration(steps=50)  # training metrics
  tensorboard: bool = False  # also write RUN/tensorboard
  wandb: bool = False  # also send to Weights & Biases


@dataclass(frozen=True)
class Experiment:
  """One run, resolved: everything that decides its result."""

  EXCLUSIVE: ClassVar[tuple[str, ...]] = LENGTHS

  name: str = 'experiment'  # of the run folder: runs/NAME
  seed: int = bounded(0, 0, 2**31 - 1)  # of all random numbers
  steps: int = bounded(0, 0)  # length of the run, in optimizer steps
  epochs: float = bounded(0.0, 0)  # or in epochs
  examples: int = bounded(0, 0, EXAMPLES)  # or in examples
  batch_size: int = bounded(128, 1, 2**22)  # global; images, or tokens of a side of the pairs
  eval_batch_size: int = bounded(0, 0, 2**22)  # 0: batch_size
  # Weights to start from: a run folder, file, address or augreg:NAME; of a later phase 'last' or
  # 'best'.
  init_from: str = ''
  model: Model = Model.from_keys({'name': 'Ti/16'})
  data: ImageData | PairData = ImageData()
  augment: Augment | None = Augment()  # of images only
  loss: Loss = Loss()
  optim: Optim = Optim()
  spikes: Spikes = Spikes()
  evals: Mapping[str, Eval | TranslationEval] = field(default_factory=dict)
  checkpoint: Checkpoint = Checkpoint()
  log: Log = Log()
  limits: Limits = Limits()
  mesh: Mesh = Mesh()
  # The next phase: the keys that differ. It begins with the weights of this one.
  then: 'Experiment | None' = None

  def __post_init__(self):
    Duration(self.steps, self.epochs, self.examples)  # refuses two of them

  @property
  def length(self) -> Duration:
    return Duration(self.steps, self.epochs, self.examples)

  @property
  def phases(self) -> 'list[Experiment]':
    """This one and those after it."""
    return [self, *(self.then.phases if self.then else [])]

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
    """A recipe with every key, which `resolve` reads; equal experiments give equal text.

    Secrets of addresses are left out.
    """
    return json.dumps(redacted(plain(self)), indent=2, sort_keys=True) + '\n'

  def changes(self, default: 'Experiment | None' = None) -> dict[str, Any]:
    """A recipe with only the keys that are not defaults; `resolve` gives the same experiment.

    Args:
      default: another experiment in place of the defaults, such as the phase before.
    """
    default = default or Experiment()
    found = changes(replace(self, then=None), replace(default, then=None))
    if self.then:
      own = {key: getattr(self.then, key) for key in phases.OWN}
      inherited = replace(self, **phases.OWN)
      found['then'] = {
        **self.then.changes(inherited),
        **{key: value for key, value in own.items() if value},
      }
    return found
