"""What `vit_jax transfer` judges side by side: networks, and a bag of visual words."""

import functools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vit_jax.data.view import View
from vit_jax.errors import UserError
from vit_jax.evaluate.backbone import Backbone, Featured
from vit_jax.evaluate.sets import Part
from vit_jax.paths import is_address, local
from vit_jax.redaction import redacted
from vit_jax.transfer import bag
from vit_jax.weights import Opened
from vit_jax.weights import open as open_weights

NAMED = re.compile(r'(?P<model>[A-Za-z][^=@:]*)(@(?P<size>\d+))?=(?P<weights>.+)')


class Candidate(NamedTuple):
  """A model, or a bag of visual words, to be judged."""

  name: str
  line: str  # what was loaded
  # (the part that a task learns from, whether images are seen whole) -> what gives features on it
  featured: Callable[[Part, bool], Featured]
  # Whether images are seen whole -> the model with its own head, if it has one.
  classifier: Callable[[bool], Backbone | None] = lambda whole: None
  opened: Opened | None = None  # the weights to fine-tune
  image_size: int | None = None  # the side in pixels that was asked for


def candidates(
  weights: Sequence[str],
  data_dir: Path,
  batch: int,
  *,
  model: str = '',
  options: Mapping[str, Any] = {},
  checkpoint: str = 'last',
  image_size: int | None = None,
  inputs: Mapping[str, Any] = {},
) -> list[Candidate]:
  """One for each of `weights`.

  Args:
    weights: each anything that `weights.open` takes, 'MODEL=SOURCE' or 'MODEL@PIXELS=SOURCE', or
      'bag_of_words', whose words are those of each task.
    batch: images at a time on a device.
    model, options, checkpoint, inputs: as `weights.open` takes them.
    image_size: a side in pixels, for models given without one.

  Raises:
    UserError: there are no such weights, they fit no model, or two have the same name.
  """
  if model and len(weights) > 1:
    raise UserError(
      f'--model is {model}, but --weights names {len(weights)}; say which is whose, '
      f'as in --weights {model}={weights[0]}'
    )
  found, folder = [], data_dir / 'features'
  for text in weights:
    if text == bag.NAME:
      line = f"{bag.NAME}: words of each task's training images"
      found.append(Candidate(bag.NAME, line, lambda part, whole: bag.open_bag(folder, part)))
      continue
    named = NAMED.fullmatch(text)
    its, side = model, image_size
    if named and not local(text).exists():
      its, text, side = named['model'], named['weights'], int(named['size'] or 0) or image_size
    opened = open_weights(
      text,
      model=its,
      options=options,
      checkpoint=checkpoint,
      image_size=(side, side) if side else None,
      data_dir=data_dir,
      inputs=inputs,
    )
    place = text.partition('@')[0]
    name = its or (Path(redacted(place)) if is_address(place) else local(place).resolve()).name
    found.append(_candidate(name, opened, side, batch))
  for name, count in Counter(candidate.name for candidate in found).items():
    if count > 1:
      raise UserError(f'--weights: two are called {name}; judge one after the other')
  return found


def network(name: str, opened: Opened, whole: bool, batch: int) -> Backbone:
  """Opened weights as a backbone that sees images whole, or as the weights expect."""
  view = opened.view
  if whole:
    # task_adaptation's preprocessing: tf.image.resize, which does not antialias.
    view = View.whole(view.image_size, view.channels, antialias=False)
  return Backbone.of(name, opened, view=view, batch_size=batch * jax.device_count())


def _candidate(name: str, opened: Opened, image_size: int | None, batch: int) -> Candidate:
  @functools.cache
  def backbone(whole: bool) -> Backbone:
    return network(name, opened, whole, batch)

  def classifier(whole: bool) -> Backbone | None:
    return backbone(whole) if opened.model.num_classes else None

  return Candidate(
    name, opened.line, lambda part, whole: backbone(whole), classifier, opened, image_size
  )
