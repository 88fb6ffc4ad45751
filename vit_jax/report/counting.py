"""What the model of a paper or of a run costs as we count it."""

from __future__ import annotations

import functools
import json
from typing import Any, NamedTuple

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.models import flops
from vit_jax.report.run import Run
from vit_jax.trees import flatten

HEADS = ('head', 'head_dist', 'pre_logits')  # what fine-tuning replaces


class Spec(NamedTuple):
  """A model that `models.build` makes."""

  name: str
  options: str  # JSON, or empty
  classes: int
  image_size: int

  def build(self) -> Any:
    return models.build(self.name, self.classes, **json.loads(self.options or '{}'))

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return self.image_size, self.image_size, 3


@functools.cache
def parameters(spec: Spec) -> int:
  return flops.count_parameters(spec.build(), spec.image_shape)


@functools.cache
def forward_macs(spec: Spec) -> tuple[int, int]:
  """Multiply-accumulates of a forward pass of one image: (all, those that multiply padding)."""
  jaxpr = flops.trace(spec.build(), spec.image_shape)
  return flops.jaxpr_macs(jaxpr), flops.padding_macs(jaxpr)


def run_macs(run: Run, train: bool = False) -> int:
  """Multiply-accumulates of a forward pass of one image through a run's model.

  Args:
    train: as in training, where patch dropout makes it cheaper.
  """
  model, data = run.config['model'], run.config['data']
  classes = data['num_classes'] or len(run.predictions[run.evals[0]].class_names)
  return _macs(
    model['name'],
    json.dumps(model['options'], sort_keys=True),
    classes,
    (*data['image_size'], data['channels']),
    train,
  )


@functools.cache  # many runs share a model
def _macs(
  name: str, options: str, classes: int, image_shape: tuple[int, int, int], train: bool
) -> int:
  return flops.forward_macs(
    models.build(name, classes, **json.loads(options)), image_shape, train=train
  )


@functools.cache
def body(spec: Spec) -> frozenset | None:
  """Names and shapes of the parameters below the heads, which tell two models apart.

  None where the model does not take images of that size.
  """
  try:
    variables = models.variable_shapes(spec._replace(classes=0).build(), spec.image_shape)
  except UserError:
    return None
  below = {name: tree for name, tree in variables['params'].items() if name not in HEADS}
  return frozenset((name, leaf.shape) for name, leaf in flatten(below).items())
