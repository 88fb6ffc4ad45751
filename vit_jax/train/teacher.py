"""The teacher of a distillation: a model that is loaded once and never updated."""

import logging
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh as DeviceMesh

from vit_jax import models, weights
from vit_jax.config import Augment, Distill, Experiment
from vit_jax.errors import UserError
from vit_jax.parallel import rules
from vit_jax.train.task import Classification, Distillation

_log = logging.getLogger(__name__)


def make_task(x: Experiment, num_classes: int) -> Classification:
  """Classification, with a teacher if the loss asks for one.

  Images are normalized for the teacher as in its run, or as its published weights expect.
  """
  task = num_classes, x.loss, x.augment or Augment(), x.images.mean, x.images.std
  distill = x.loss.distill or Distill()
  if distill.kind == 'none':
    return Classification(*task)
  inputs = weights.inputs_of(distill.teacher_weights, distill.teacher.name)
  teacher = models.build(distill.teacher.name, num_classes, distill.teacher.options, inputs)
  return Distillation(*task, teacher, inputs.mean, inputs.std)


def abstract_frozen(
  task: Classification, image_shape: tuple[int, int, int], mesh: DeviceMesh
) -> tuple[Any, ...]:
  """Shapes with shardings of what the task reads but no step changes: a teacher's variables."""
  if not isinstance(task, Distillation):
    return ()
  return (rules.abstract(models.variable_shapes(task.teacher, image_shape), mesh),)


def load_frozen(
  x: Experiment,
  task: Classification,
  abstract: tuple[Any, ...],
  class_names: tuple[str, ...],
  data_dir: Path,
) -> tuple[Any, ...]:
  """The arrays of `abstract`; logs one line that says where from.

  Raises:
    UserError: they are not there, do not fit, or have a head of other classes.
  """
  if not isinstance(task, Distillation):
    return ()
  assert x.loss.distill is not None
  source = x.loss.distill.teacher_weights
  variables, line, _ = weights.start_from(
    source,
    task.teacher,
    abstract[0],
    image_size=x.images.image_size,
    class_names=class_names,
    data_dir=data_dir,
  )
  if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(variables)):
    raise UserError(
      f'config.loss.distill.teacher_weights: {source} has no head for the '
      f'{task.num_classes} classes of this data, which a teacher needs'
    )
  if jax.process_index() == 0:
    _log.info('teacher: %s', line)
  return jax.device_put((variables,), jax.tree.map(lambda leaf: leaf.sharding, abstract))
