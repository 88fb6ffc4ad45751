"""Keys of the optimizer, and of what happens to updates that are not finite or spike."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vit_jax.config.durations import Duration
from vit_jax.errors import UserError
from vit_jax.fields import bounded


@dataclass(frozen=True)
class Group:
  """What some parameters have of their own; the factors of all groups that match multiply.

  Paths are those of the parameter tree, as in 'encoder/blocks/mlp/up/kernel'. The layers of a stack
  are one parameter, so a group has all of them or none.
  """

  match: str = ''  # a regular expression, searched for in the path
  lr: float = bounded(1.0, 0)  # times the learning rate, and so times decoupled decay
  weight_decay: float = bounded(1.0, 0)  # times the weight decay
  freeze: bool = False  # leaves them as they are, without optimizer state

  def __post_init__(self):
    if not self.match:
      raise UserError(
        "match is missing: give a regular expression of parameter paths, such as '^head/'"
      )
    try:
      re.compile(self.match)
    except re.error as error:
      raise UserError(f'match is {self.match!r}, not a regular expression: {error}') from None


@dataclass(frozen=True)
class Optim:
  """`train/optim.py` and `train/schedules.py` have the formulas and their sources."""

  name: Literal['adamw', 'sgd', 'lamb', 'adafactor', 'lion', 'muon'] = 'adamw'
  lr: float = bounded(1e-3, 0)  # the highest of the schedule
  schedule: Literal['cosine', 'timm_cosine', 'linear', 'rsqrt', 'noam', 'constant'] = 'cosine'
  warmup: Duration = Duration()  # linear, from warmup_lr
  warmup_lr: float = bounded(0.0, 0)  # where it begins
  cooldown: Duration = Duration()  # linear to zero at the end; for rsqrt and constant
  timescale: int = bounded(10_000, 1)  # of rsqrt, in steps
  end_lr: float = bounded(0.0, 0)  # of cosine, timm_cosine and linear
  b1: float = bounded(0.9, 0, 0.99999)  # of the first moment; adafactor: of its momentum
  b2: float = bounded(0.999, 0, 0.9999999)  # of the second moment; adafactor: the cap
  eps: float = bounded(1e-8, 0, 1)  # of adamw, lamb and muon
  momentum: float = bounded(0.9, 0, 0.99999)  # of sgd and muon
  nesterov: bool = False  # likewise
  mu_dtype: Literal['float32', 'bfloat16'] = 'float32'  # stores the first moment or momentum
  weight_decay: float = bounded(0.0, 0)  # on matrices only
  decay: Literal['decoupled', 'coupled'] = 'decoupled'  # AdamW's, times lr; or L2, of sgd only
  clip_norm: float = bounded(0.0, 0)  # global; 0: off
  clip_agc: float = bounded(0.0, 0)  # adaptive, per unit (arXiv:2102.06171); 0: off
  layer_decay: float = bounded(1.0, 0, 1)  # lr of a layer over that of the next one
  groups: Mapping[str, Group] = field(default_factory=dict)
  # Sums gradients of kernels over devices; bfloat16 needs model.dtype='bfloat16'.
  reduce_dtype: Literal['float32', 'bfloat16'] = 'float32'
  accumulate: int = bounded(1, 1)  # micro-batches per step
  ema: float = bounded(0.0, 0, 0.999999)  # decay of averaged parameters, used to evaluate; 0: off
  ema_warmup: bool = False  # raise it from 0.1, as min(ema, (1 + t) / (10 + t))

  def __post_init__(self):
    if self.decay == 'coupled' and self.name != 'sgd':
      raise UserError(f"decay is 'coupled', which is for sgd; {self.name} has 'decoupled'")
    if self.nesterov and self.name not in ('sgd', 'muon'):
      raise UserError(f'nesterov is for sgd and muon, not for {self.name}')


@dataclass(frozen=True)
class Spikes:
  """When an update is skipped, and what follows (docs/design.md, "Spikes").

  An update whose loss or gradient is not finite is always skipped. The means are over accepted
  updates, and only judge once `window` of them are seen.
  """

  loss_factor: float = bounded(0.0, 0)  # skip a loss of more than this times its mean; 0: never
  norm_factor: float = bounded(0.0, 0)  # skip a gradient norm of more than this times its mean
  window: int = bounded(100, 1)  # updates of the running means
  patience: int = bounded(10, 2)  # skipped in a row; then roll back to the last good checkpoint
  rollbacks: int = bounded(3, 0)  # when another one would be needed, the run ends with exit code 1
