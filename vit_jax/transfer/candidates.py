"""What `vit_jax transfer` judges side by side: networks, and a bag of visual words."""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vit_jax.data.view import View
from vit_jax.errors import UserError
from vit_jax.evaluate.backbone import Backbone, Featured
from vit_jax.evaluate.sets import Part
from vit_jax.transfer import bag
from vit_jax.weights import Opened
from vit_jax.weights import open as open_weights

NAMED = re.compile(r'(?P<model>[A-Za-z][^=@:]*)(@(?P<size>\d+))?=(?P<weights>.+)')


class Candidate(NamedTuple):
  """What is judged.

  Attributes:
    line: what was loaded.
    featured: what gives features on a task, from the part that it learns from and whether images
      are seen whole.
    classifier: the model with its own head, from whether images are seen whole; None without one.
    opened: the weights, to fine-tune; None where nothing can be trained further.
    image_size: the side in pixels that was asked for; None where none was.
  """

  name: str
  line: str
  featured: Callable[[Part, bool], Featured]
  classifier: Callable[[bool], Backbone | None] = lambda whole: None
  opened: Opened | None = None
  image_size: int | None = None


def candidates(
  weights: Sequence[str],
  *,
  model: str,
  options: dict[str, Any],
  checkpoint: str,
  data_dir: Path,
  image_size: int | None,
  batch: int,
) -> list[Candidate]:
  """One for each of `weights`.

  Args:
    weights: each anything that `weights.open` takes, 'MODEL=SOURCE' or 'MODEL@PIXELS=SOURCE', or
      'bag_of_words', whose words are those of each task.
    model, options, checkpoint: as `weights.open` takes them.
    image_size: a side in pixels, where it is not said with the model.
    batch: images at a time on a device.

  Raises:
    UserError: there are no such weights, they fit no model, or two have the same name.
  """
  if model and len(weights) > 1:
    raise UserError(
      f'--model is {model}, but --weights names {len(weights)}; say which is whose, '
      f'as in --weights {model}={weights[0]}'
    )
  found = []
  for text in weights:
    if text == bag.NAME:
      featured = functools.partial(bag.open_bag, data_dir / 'features')
      line = f"{bag.NAME}: words of each task's training images"
      found.append(Candidate(bag.NAME, line, lambda part, whole, f=featured: f(part)))
      continue
    named = None if Path(text).expanduser().exists() else NAMED.fullmatch(text)
    side = image_size
    if named:
      model, text, side = named['model'], named['weights'], int(named['size'] or 0) or image_size
    opened = open_weights(
      text,
      model=model,
      options=options,
      checkpoint=checkpoint,
      image_size=(side, side) if side else None,
      data_dir=data_dir,
    )
    name = model or Path(text.partition('@')[0]).expanduser().resolve().name
    found.append(_network(name, opened, side, batch))
  names = [candidate.name for candidate in found]
  for name in names:
    if names.count(name) > 1:
      raise UserError(f'--weights: two are called {name}; judge one after the other')
  return found


def _network(name: str, opened: Opened, image_size: int | None, batch: int) -> Candidate:
  @functools.cache
  def backbone(whole: bool) -> Backbone:
    size = opened.view.image_size
    view = View.whole(size, opened.view.channels) if whole else opened.view
    return Backbone.of(name, opened, view=view, batch_size=batch * jax.device_count())

  def classifier(whole: bool) -> Backbone | None:
    return backbone(whole) if opened.model.num_classes else None

  return Candidate(
    name, opened.line, lambda part, whole: backbone(whole), classifier, opened, image_size
  )
