"""From the keys of a recipe to an `Experiment`: its checks, and what follows from other keys."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from vit_jax import models
from vit_jax.config import phases
from vit_jax.config.durations import Duration
from vit_jax.config.evals import Eval, TranslationEval, check_evals
from vit_jax.config.images import LISTED, Augment, ImageData, check_augment
from vit_jax.config.pairs import PairData
from vit_jax.config.schema import Distill, Experiment
from vit_jax.errors import UserError
from vit_jax.fields import build


def resolve(config: Any) -> Experiment:
  """The experiment of a recipe (a ConfigDict or plain mapping).

  Raises:
    UserError: an unknown key, a wrong type, a value out of range, or keys that contradict each
      other.
  """
  values, then = config.to_dict() if hasattr(config, 'to_dict') else config, None
  if isinstance(values, Mapping):
    then = values.get('then')
    values = {key: value for key, value in values.items() if key != 'then'}
  x = _settle(build(Experiment, values, 'config'))
  if then is None or then == {}:
    return x
  if not isinstance(then, Mapping):
    raise UserError(f'config.then is {then!r}; it must be the keys that differ in the next phase')
  try:
    following = resolve(phases.inherit(values, then, Experiment))
    phases.check(x, following, following.phases)
  except UserError as error:
    raise UserError(str(error).replace('config.', 'config.then.')) from None
  return replace(x, then=following)


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
  dtype = getattr(x.model.options, 'dtype', 'float32')
  if x.optim.reduce_dtype not in ('float32', dtype):
    raise UserError(
      f'config.optim.reduce_dtype is {x.optim.reduce_dtype!r}, but config.model.dtype is '
      f'{dtype!r}; only gradients of products in bfloat16 may be summed in it'
    )
  check_evals(x.evals, x.checkpoint.best)
  return replace(x, eval_batch_size=x.eval_batch_size or x.batch_size)


def _with_dir(data: Any, name: str, advice: str) -> Any:
  """`data` with 'NAME:DIR' taken apart; raises a UserError if the folder is missing."""
  if data.name.startswith(f'{name}:'):
    data = replace(data, name=name, dir=data.name.removeprefix(f'{name}:'))
  if data.name == name and not data.dir:
    raise UserError(f'config.data.dir is missing: {advice}')
  return data


def _settle_pairs(x: Experiment) -> Experiment:
  """What only images have is None in a run on sentences, and refused if it was asked for."""
  for key, value, default in (
    ('augment', x.augment or Augment(), Augment()),
    ('loss.distill', x.loss.distill or Distill(), Distill()),
    ('loss.name', x.loss.name, 'softmax'),
    ('loss.class_weights', x.loss.class_weights, ()),
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
  loss = replace(x.loss, distill=None)
  return replace(x, data=data, augment=None, loss=loss)


def _settle_images(x: Experiment, data: ImageData) -> Experiment:
  for name, place in LISTED.items():
    data = _with_dir(data, name, f'give {place}')
  for name, values in (('mean', data.mean), ('std', data.std)):
    if len(values) != data.channels:
      raise UserError(
        f'config.data.{name} has {len(values)} numbers, but config.data.channels is {data.channels}'
      )
  for name, (low, high) in (('crop_area', data.crop_area), ('crop_aspect', data.crop_aspect)):
    if low > high:
      raise UserError(f'config.data.{name} is ({low:g}, {high:g}); the first must be the smaller')
  check_augment(data, x.augment or Augment(), x.batch_size)
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
  return replace(x, data=data)
