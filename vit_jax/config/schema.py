"""The experiment schema: every key with its default and range.

`settle.resolve` turns the ConfigDict of a recipe into a frozen `Experiment`, which is all that the
rest of the code sees. An unknown key, a wrong type or a value out of range is a `UserError` that
names the key and what would be right.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from vit_jax import models
from vit_jax.config.durations import Duration
from vit_jax.config.evals import Eval, TranslationEval
from vit_jax.config.pairs import PairData
from vit_jax.errors import UserError
from vit_jax.fields import bounded, changes, check, plain


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
class ImageData:
  """Where images come from and how they become batches."""

  kind: Literal['images'] = 'images'
  name: str = 'earth_climate'  # ours, a TFDS name ('cifar10', 'imagenet2012:5.1.0'), or 'folder'
  dir: str = ''  # with name='folder': one sub-folder per class, or train/ and val/ or test/
  train: str = 'train'  # TFDS split syntax: 'train[:90%]'; or a part: 'train:kept', 'train:held'
  num_classes: int = bounded(0, 0)  # 0: as many as the data set has
  image: str = ''  # TFDS feature; '': the only Image, or the one of several called 'image'
  label: str = ''  # likewise, of type ClassLabel
  soft_label: str = ''  # feature with each class's share, to train on instead of the label
  test_fraction: float = bounded(0.2, 0.01, 0.99)  # of a folder that has no test split of its own
  image_size: tuple[int, int] = bounded((224, 224), 1)  # height, width
  channels: Literal[1, 3] = 3
  mean: tuple[float, ...] = (0.5, 0.5, 0.5)  # of pixels in [0, 1]; taken off on the device
  std: tuple[float, ...] = bounded((0.5, 0.5, 0.5), 1e-6)
  crop: Literal['none', 'random_resized', 'pad'] = 'random_resized'
  crop_area: tuple[float, float] = bounded((0.05, 1.0), 1e-3, 1.0)
  crop_aspect: tuple[float, float] = bounded((0.75, 4 / 3), 0.1, 10.0)
  crop_pad: int = bounded(4, 0)  # with crop='pad': pixels of reflection on each side
  flip: bool = True  # left-right
  resize: Literal['crop', 'whole'] = 'crop'  # without a random crop; 'whole' changes the aspect
  eval_resize: int = bounded(0, 0)  # shorter side before the central crop; 0: image_size / 0.875
  on_bad_record: Literal['raise', 'skip'] = 'raise'
  cache: Literal['auto', 'never', 'always'] = 'auto'  # keep images in memory
  threads: int = bounded(0, 0)  # 0: one per core
  prefetch: int = bounded(2, 1)  # batches ahead on the device


@dataclass(frozen=True)
class Augment:
  """Runs on the device. All off by default."""

  dihedral: bool = False  # the eight turns and reflections of a square
  brightness: float = bounded(0.0, 0, 1)
  contrast: float = bounded(0.0, 0, 1)
  saturation: float = bounded(0.0, 0, 1)
  erase: float = bounded(0.0, 0, 1)  # probability of a random gray rectangle
  mixup: float = bounded(0.0, 0)  # Beta(alpha, alpha); 0: off (Zhang et al. 2018)
  cutmix: float = bounded(0.0, 0)  # likewise (Yun et al. 2019); with both on, a fair coin a batch


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
