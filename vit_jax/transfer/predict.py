"""Images through a model with the preprocessing its weights were made for: `vit_jax predict`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vit_jax import models, run_folder
from vit_jax.data import decode
from vit_jax.errors import UserError
from vit_jax.training.checkpoint import latest_weights
from vit_jax.transfer.features import Answers, answers_fn, attention_fn
from vit_jax.transfer.images import Images, View, imagenet_names, published_view
from vit_jax.weights import files, load
from vit_jax.weights.adapt import Source, adapt

DRAWN = 12  # images whose attention is drawn


@dataclass(frozen=True)
class Predictor:
  """A model that is ready for images.

  Images of files are of `image_shape` and normalised with `mean` and `std`; `class_names` is
  empty where they are not known; `line` says what was loaded.
  """

  model: Any
  variables: Any
  image_shape: tuple[int, int, int]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  view: View
  class_names: tuple[str, ...]
  line: str

  def predict(self, images: Images, batch: int) -> Answers:
    """Answers for all images, in order, `batch` at a time on each device."""
    answers = answers_fn(self.model, self.variables, self.mean, self.std, min(batch, len(images)))
    step = batch * jax.local_device_count()
    parts = [
      answers(images.read(start, start + step, self.image_shape, self.view))
      for start in range(0, len(images), step)
    ]
    return Answers(*(np.concatenate(part) for part in zip(*parts, strict=True)))

  def attention(self, images: Images) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The first images as uint8, and their attention; see `features.attention_fn`."""
    images_NHWC = images.read(0, DRAWN, self.image_shape, self.view)
    stacks = attention_fn(self.model, self.variables, self.mean, self.std)(images_NHWC)
    if images_NHWC.dtype != np.uint8:
      pixels_NHWC = 255 * (images_NHWC * np.array(self.std) + np.array(self.mean))
      images_NHWC = np.round(pixels_NHWC.clip(0, 255)).astype(np.uint8)
    return images_NHWC, stacks

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of patches, or of the feature map."""
    return self.model.grid(self.image_shape[:2])

  @property
  def has_class_token(self) -> bool:
    return getattr(self.model, 'pool', '') == 'cls'


def make_predictor(
  name: str,
  weights: str,
  data_dir: Path,
  *,
  array_shape: tuple[int, int, int] | None = None,
  image_size: tuple[int, int] | None = None,
  num_classes: int | None = None,
) -> Predictor:
  """A model with weights from a run folder, or from anything that `load.read` takes.

  Args:
    name: of the model; may be '' for a run folder, which knows it.
    array_shape: (H, W, C) of images that go in as they are.
    image_size: (H, W) of others, else that of the weights.
    num_classes: 0 leaves the head away; otherwise it must be that of the weights.

  Raises:
    UserError: no such model or weights, they or the images do not fit it, or a wrong size.
  """
  if image_size and array_shape:
    raise UserError('--image_size is for image files; the array of --input goes in as it is')
  run = Path(weights).expanduser()
  size = array_shape or image_size
  if run.is_dir():
    predictor = _from_run(run, name, size, num_classes)
  else:
    predictor = _from_file(weights, name, size, num_classes, data_dir / 'weights')
  if array_shape and array_shape[2] != predictor.image_shape[2]:
    raise UserError(
      f'--input: the array has {array_shape[2]} channels, but the model takes '
      f'{predictor.image_shape[2]}'
    )
  return predictor


def _from_file(
  weights: str, name: str, image_size: Sequence[int] | None, num_classes: int | None, cache: Path
) -> Predictor:
  """Published weights: images as the model's entry in `MODELS` says."""
  if not name:
    raise UserError(
      f'--model is missing: {weights} is no run folder, and a file of weights needs '
      'the name of its model'
    )
  inputs = models.inputs_of(name)
  published = load.read(weights, cache)
  _check_classes(num_classes, published.num_classes, weights)
  model, trained_size = load.build(published, name, num_classes)
  height, width = (image_size or trained_size)[:2]
  shape = height, width, len(inputs.mean)
  variables, line = load.fit(
    published, models.variable_shapes(model, shape), model.grid((height, width))
  )
  labels = imagenet_names()
  class_names = labels if model.num_classes == len(labels) else ()
  return Predictor(
    model,
    variables,
    shape,
    inputs.mean,
    inputs.std,
    functools.partial(published_view, crop=inputs.crop),
    tuple(class_names),
    line,
  )


def _from_run(
  run: Path, name: str, image_size: Sequence[int] | None, num_classes: int | None
) -> Predictor:
  """A run folder's newest checkpoint: images as its recipe evaluates them."""
  x = run_folder.from_run(run)
  if name not in ('', x.model.name):
    raise UserError(f'--model is {name}, but {run} holds {x.model.name}; leave --model out')
  trained, trained_size, where = latest_weights(run)
  leaves = files.floats(load.flat_variables(trained), where)
  held = len(leaves['head/bias']) if 'head/bias' in leaves else 0
  _check_classes(num_classes, held, str(run))
  model = models.build(
    x.model.name, held if num_classes is None else num_classes, **x.model.options
  )
  height, width = (image_size or x.data.image_size)[:2]
  shape = height, width, x.data.channels
  flat, line = adapt(
    leaves,
    load.flat_variables(models.variable_shapes(model, shape)),
    Source(where, model.grid(trained_size)),
    model.grid((height, width)),
  )
  view = functools.partial(_run_view, shorter=x.data.eval_resize)
  return Predictor(
    model,
    load.tree_variables(flat),
    shape,
    x.data.mean,
    x.data.std,
    view,
    _class_names(run, model.num_classes),
    line,
  )


def _check_classes(wanted: int | None, held: int, weights: str) -> None:
  if wanted not in (None, 0, held):
    head = f'a head of {held} classes' if held else 'no head'
    raise UserError(
      f'--num_classes is {wanted}, but {weights} has {head}; leave it out, or use 0 '
      'for features alone'
    )


def _run_view(record: bytes, out_HWC: np.ndarray, shorter: int) -> None:
  decode.view(
    record,
    functools.partial(decode.central_box, target=out_HWC.shape[:2], shorter=shorter),
    out_HWC,
  )


def _class_names(run: Path, num_classes: int) -> tuple[str, ...]:
  """As the run's predictions name them; none before the run has ended."""
  for path in sorted((run / 'predictions').glob('*.npz')):
    try:
      class_names = files.read(path)['class_names']
    except (UserError, KeyError):
      continue  # damaged, or no predictions: numbers name the classes as well
    if class_names.shape == (num_classes,):
      return tuple(map(str, class_names))
  return ()


def top_lines(predictor: Predictor, images: Images, answers: Answers, top: int) -> list[str]:
  """A line an image: its most probable classes; of a model without a head one line in all."""
  count, classes = answers.logits_NK.shape
  if not classes:
    return [f'{count} images, {answers.features_ND.shape[1]} features each; no head, no classes']
  logits_NK = answers.logits_NK.astype(np.float64)
  weights_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
  share_NK = weights_NK / weights_NK.sum(axis=1, keepdims=True)
  lines = []
  for name, share_K in zip(images.names, share_NK, strict=True):
    best = np.argsort(-share_K, kind='stable')[:top]
    words = [f'{_class(predictor, int(k))} {share_K[k]:.1%}' for k in best]
    lines.append(f'{name}: {", ".join(words)}')
  return lines


def _class(predictor: Predictor, k: int) -> str:
  return predictor.class_names[k] if predictor.class_names else f'class {k}'


def write(path: Path, images: Images, answers: Answers) -> None:
  """Writes `logits` (N, K), `features` (N, D) and `files` (N,) to an .npz.

  Raises:
    UserError: the disk refuses.
  """
  files.write(
    path,
    {'logits': answers.logits_NK, 'features': answers.features_ND, 'files': np.array(images.names)},
  )
