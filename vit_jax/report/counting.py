"""Parameters and multiply-accumulates of the models of papers and of runs."""

import functools
import json
from typing import Any, NamedTuple

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.models import flops
from vit_jax.models.texts import Texts
from vit_jax.run.folder import Run
from vit_jax.trees import flatten

HEADS = ('head', 'head_dist', 'pre_logits')  # what fine-tuning replaces


class Spec(NamedTuple):
  """A model that `models.build` makes, and its input."""

  name: str
  options: str  # JSON, or empty
  classes: int
  image_size: int | tuple[int, int]
  channels: int = 3

  def build(self) -> Any:
    return models.build(self.name, self.classes, **json.loads(self.options or '{}'))

  @property
  def image_shape(self) -> tuple[int, int, int]:
    size = self.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return height, width, self.channels


@functools.cache
def parameters(spec: Spec) -> int:
  return flops.count_parameters(spec.build(), spec.image_shape)


@functools.cache  # papers list a model again for other weights, and many runs share one
def traced(spec: Spec, train: bool = False) -> Any:
  """The jaxpr of a forward pass of one image."""
  return flops.trace(spec.build(), spec.image_shape, train)


def forward_macs(spec: Spec) -> tuple[int, int]:
  """Multiply-accumulates of one forward pass per image: (all, those that multiply padding)."""
  return flops.jaxpr_macs(traced(spec)), flops.padding_macs(traced(spec))


def options_of(run: Run) -> dict[str, Any]:
  return {key: value for key, value in run.config['model'].items() if key != 'name'}


def spec_of(run: Run) -> Spec:
  data, options = run.config['data'], json.dumps(options_of(run), sort_keys=True)
  classes = data['num_classes'] or len(run.class_names)
  size = tuple(data['image_size'])
  return Spec(run.config['model']['name'], options, classes, size, data['channels'])


def run_macs(run: Run, train: bool = False) -> int:
  """Multiply-accumulates of one forward pass per example; patch dropout makes training cheaper.

  An example is an image, or the `mean_pair` of a translation run.
  """
  if run.kind == 'images':
    return flops.jaxpr_macs(traced(spec_of(run), train))
  x, vocabularies = run.experiment.model, _vocabularies(run)
  texts = Texts(len(vocabularies.source))
  model = models.build(x.name, len(vocabularies.target), x.options, texts)
  return flops.forward_macs(model, mean_pair(run), train)


def example_size(run: Run) -> int:
  """Pixels of the shorter side of an image, or tokens of both sides of the `mean_pair`."""
  return min(run.config['data']['image_size']) if run.kind == 'images' else sum(mean_pair(run))


def mean_pair(run: Run) -> tuple[int, int]:
  """Mean tokens (of the source, of the reference) of the sentences of the headline, with ends.

  Raises:
    UserError: the run has not translated them.
  """
  vocabularies, found = _vocabularies(run), run.translations.get(run.headline)
  if found is None:
    raise UserError(f'{run.place} has no translations of {run.headline!r}; train it to its end')
  sides = zip(vocabularies, (found.sources, found.references), strict=True)
  source, target = (
    round(sum(map(len, vocabulary.encode(texts))) / len(texts)) + 1 for vocabulary, texts in sides
  )
  return source, target


def _vocabularies(run: Run) -> Any:
  if (found := run.vocabularies) is None:
    raise UserError(f'{run.place} has no vocabularies.json that can be read')
  return found


@functools.cache
def body(spec: Spec) -> frozenset | None:
  """Names and shapes of the parameters below the heads, which identify a model.

  None if the model does not take images of that size.
  """
  try:
    variables = models.variable_shapes(spec._replace(classes=0).build(), spec.image_shape)
  except UserError:
    return None
  below = {name: tree for name, tree in variables['params'].items() if name not in HEADS}
  return frozenset((name, leaf.shape) for name, leaf in flatten(below).items())
