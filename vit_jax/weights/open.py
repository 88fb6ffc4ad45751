"""The one way to open weights: `open`; and what is made of it, `start_from`, `load`, `convert`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vit_jax import fields, layouts, models
from vit_jax.data import imagenet
from vit_jax.data.view import View
from vit_jax.errors import UserError, first_few
from vit_jax.layouts import files, published
from vit_jax.models import Inputs
from vit_jax.models.inputs import changed
from vit_jax.paths import default_data_dir
from vit_jax.trees import flatten
from vit_jax.weights import sources, stored
from vit_jax.weights.likely import likely


@dataclass(frozen=True)
class Opened:
  """A model with weights.

  Attributes:
    source: what was opened, with its checkpoint, as `open` takes it.
    name: of the model.
    model: a Linen module whose `inputs` are the images that the weights expect.
    variables: host arrays.
    line: what was loaded, and what was assumed.
    loss: that the weights were trained with, which says how logits become probabilities.
  """

  source: str
  name: str
  model: Any
  variables: dict[str, Any]
  line: str
  loss: str = 'softmax'

  @property
  def model_keys(self) -> dict[str, Any]:
    """The keys of `config.model`."""
    return {'name': self.name, **fields.plain(self.model.options)}

  @property
  def mean(self) -> tuple[float, ...]:
    return self.model.inputs.mean

  @property
  def std(self) -> tuple[float, ...]:
    return self.model.inputs.std

  @property
  def view(self) -> View:
    return View.of(self.model.inputs)

  @property
  def class_names(self) -> tuple[str, ...]:
    """() if they are not known."""
    return self.model.inputs.class_names

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of patches, or of the feature map."""
    return self.model.grid(self.model.inputs.size)

  def digest(self) -> str:
    return digest(self.variables)


def open(
  source: str | Path,
  *,
  model: str = '',
  options: Mapping[str, Any] = {},
  num_classes: int | None = None,
  image_size: tuple[int, int] | None = None,
  checkpoint: str = 'last',
  data_dir: Path | None = None,
  new_head: bool = False,
  inputs: Mapping[str, Any] = {},
) -> Opened:
  """A model with the weights of a source, which `sources.read` describes.

  Args:
    model: its name, if the source does not say: ours, or that of a published checkpoint
      (`layouts.published`), which also says how it sees images.
    options: of the model, overriding the source's; values may be text.
    num_classes: 0 drops the head; otherwise it must be that of the weights.
    image_size: (H, W) of images; by default what the weights expect.
    checkpoint: of a run folder: 'last', 'best' or a step.
    data_dir: its folder weights/ keeps files from elsewhere; by default `default_data_dir()`.
    new_head: allow another number of classes, with a fresh head.
    inputs: how images are seen, overriding the source's: `mean`, `std`, `crop`, `interpolation`.

  Raises:
    UserError: there are no such weights, or they do not fit the model.
  """
  kept = sources.read(str(source), checkpoint, _cache(data_dir))
  if known := _asked(model):
    model, options, kept = known.model, {**known.options, **options}, replace(kept, known=known)
  if kept.layout is None and model not in ('', kept.name):
    raise UserError(f'--model is {model}, but {source} holds {kept.name}; leave --model out')
  held = kept.num_classes
  if num_classes not in (None, 0, held) and not new_head:
    head = f'a head of {held} classes' if held else 'no head'
    raise UserError(
      f'--num_classes is {num_classes}, but {source} has {head}; leave it out, or use 0 for '
      'features alone'
    )
  name = model or kept.name
  if not name:
    fitting = [f'--model={fit}' for fit in likely(kept)]
    advice = f'; its shapes are those of {" or ".join(fitting)}' if fitting else ''
    raise UserError(f'--model is missing: {kept.where} does not say which model it holds{advice}')
  built = stored.build(kept, name, num_classes, options, image_size)
  seen, remarks = _assumed(kept, name, built, options)
  seen = changed(seen, inputs)
  built = built.clone(inputs=seen)
  remarks.append(f'sees images as {seen.source}: {seen.words}')
  image_shape = *seen.size, len(seen.mean)
  fresh = models.variable_shapes(built, image_shape)
  if built.num_classes not in (0, held):
    init = jax.jit(lambda image_1HWC: built.init(jax.random.key(0), image_1HWC, train=False))
    fresh = jax.device_get(init(np.zeros((1, *image_shape), np.float32)))
  variables, line = stored.fit(kept, fresh, built)
  missing = [
    name for name, leaf in flatten(variables).items() if isinstance(leaf, jax.ShapeDtypeStruct)
  ]
  if missing:
    raise UserError(f'{kept.where} does not fit the model: it has no {first_few(missing)}')
  complete = checkpoint == 'last' or str(source).endswith(f'@{checkpoint}')
  source = str(source) if complete else f'{source}@{checkpoint}'
  return Opened(source, name, built, variables, '; '.join([line, *remarks]), kept.loss)


def _asked(model: str) -> published.Published | None:
  """The published checkpoint that `--model` names; None if it is a name of ours."""
  return None if model.partition('/')[0] in models.MODELS else published.find(model)


def _assumed(
  kept: stored.Stored, name: str, built: Any, options: Mapping[str, Any]
) -> tuple[Inputs, list[str]]:
  """(the images that the weights expect, what was assumed because their source does not say)."""
  inputs, assumed, remarks = built.inputs, [], []
  usual = models.options_of(name)
  for key in ('pool', 'posemb'):
    found = getattr(built.options, key, '')
    if found != getattr(usual, key, '') and key not in {*kept.options, *options}:
      assumed.append(f'{key} {found!r}')
  if built.num_classes and not inputs.class_names:
    if kept.layout is not None and built.num_classes == len(imagenet.names()):
      inputs = replace(inputs, class_names=imagenet.names())
      assumed.append('classes of ImageNet')
    else:
      remarks = ['the names of its classes are not known']
  return inputs, [f'assumed: {", ".join(assumed)}'] * bool(assumed) + remarks


def load(source: str | Path, **keys: Any) -> tuple[Any, dict[str, Any]]:
  """(model, variables) of what `open` opens with the same arguments."""
  opened = open(source, **keys)
  return opened.model, opened.variables


def start_from(
  source: str,
  model: Any,
  variables: Mapping[str, Any],
  *,
  image_size: tuple[int, int],
  class_names: Sequence[str] = (),
  data_dir: Path | None = None,
) -> tuple[dict[str, Any], str, str]:
  """(variables of `model` from a source, one line that says what was done, a digest of them).

  A head for other classes, compared by name, is kept from `variables`: freshly initialized leaves,
  or their shapes.

  Raises:
    UserError: there is no such source, or it does not fit the model.
  """
  kept = sources.read(source, 'last', _cache(data_dir))
  model = model.clone(inputs=replace(model.inputs, size=image_size))
  out, line = stored.fit(kept, variables, model, class_names)
  ours, theirs = layouts.traits(model.options), kept.traits
  others = [f'model.{key}={theirs[key]}' for key in ours if theirs.get(key, ours[key]) != ours[key]]
  if others:
    line += f'; trained with {", ".join(others)}'
  saw, here = kept.inputs or (kept.known and kept.known.inputs), model.inputs
  if saw and replace(saw, size=image_size, class_names=here.class_names) != here:
    line += f'; they saw images as {saw.source}: {saw.words}; this run evaluates at {here.words}'
  return out, line, digest(kept.leaves)


def convert(
  source: str | Path,
  target: str | Path,
  *,
  layout: str | None = None,
  num_classes: int | None = None,
  **keys: Any,
) -> str:
  """Writes the weights of a source to a file by `open` and `layouts.write`; returns a sentence.

  With another number of classes the head is fresh.
  """
  files.format_of(Path(target))  # before much is read
  if num_classes is not None and num_classes < 0:
    raise UserError(f'--num_classes is {num_classes}; it must be at least 0')
  opened = open(source, num_classes=num_classes, new_head=True, **keys)
  notes = {'model': opened.name}
  return f'{opened.line}; {layouts.write(target, opened.model, opened.variables, layout, notes)}'


def digest(variables: Any) -> str:
  """A digest of leaves, by name and to the bit."""
  found = hashlib.sha256()
  for name, leaf in flatten(variables).items():
    found.update(name.encode() + np.ascontiguousarray(leaf).tobytes())
  return found.hexdigest()


def _cache(data_dir: Path | None) -> Path:
  return (data_dir or default_data_dir()) / 'weights'
