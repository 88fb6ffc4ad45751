"""What `vit_jax transfer` judges side by side: networks, and a bag of visual words."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_jax import run_folder
from vit_jax.data import decode, held_out
from vit_jax.data.sources import Source, Subset
from vit_jax.errors import UserError
from vit_jax.transfer import bovw, extract
from vit_jax.transfer.extract import Subject
from vit_jax.transfer.images import whole_view
from vit_jax.transfer.predict import make_predictor
from vit_jax.transfer.tasks import Part
from vit_jax.weights import files

BAG = 'bag_of_words'
LARGEST = 128  # pixels of an image's side that a bag of words sees
NAMED = re.compile(r'(?P<model>[A-Za-z][^=@:]*)(@(?P<size>\d+))?=(?P<weights>.+)')


class Start(NamedTuple):
  """What fine-tuning begins with.

  Attributes:
    model: keys of config.model.
    weights: as in config.init_from.
    mean, std: how images are normalised.
    image_size: the side in pixels that was asked for; None where none was.
    digest: reads the weights, head and all, and gives a digest of them.
  """

  model: dict[str, Any]
  weights: str
  mean: tuple[float, ...]
  std: tuple[float, ...]
  image_size: int | None
  digest: Callable[[], bytes]


class Contestant(NamedTuple):
  """Who is judged.

  Attributes:
    line: what was loaded.
    subject: what is judged on a task, which may depend on the data that it learns from.
    head: the same with logits in place of features, if there are as many as it is given.
    start: None where nothing can be trained further.
  """

  name: str
  line: str
  subject: Callable[[Part], Subject]
  head: Callable[[int], Subject | None] = lambda classes: None
  start: Start | None = None


def contestants(
  weights: Sequence[str], model: str, data_dir: Path, image_size: int | None, batch: int
) -> list[Contestant]:
  """One for each of `weights`.

  Args:
    weights: each a run folder, a file of weights (with `model`), 'MODEL=FILE' or
      'MODEL@PIXELS=FILE', or 'bag_of_words', whose words are those of each task.
    image_size: a side in pixels, where it is not said with the model.

  Raises:
    UserError: there are no such weights, they fit no model, or two have the same name.
  """
  if model and len(weights) > 1:
    raise UserError(
      f'--model is {model}, but --weights names {len(weights)}; say which is whose, '
      f'as in --weights {model}={weights[0]}'
    )
  found = [
    _bag(data_dir) if text == BAG else _network(text, model, data_dir, image_size, batch)
    for text in weights
  ]
  names = [contestant.name for contestant in found]
  for name in names:
    if names.count(name) > 1:
      raise UserError(f'--weights: two are called {name}; judge one after the other')
  return found


def _network(
  text: str, model: str, data_dir: Path, image_size: int | None, batch: int
) -> Contestant:
  named = None if Path(text).expanduser().exists() else NAMED.fullmatch(text)
  if named:
    model, text = named['model'], named['weights']
    image_size = int(named['size']) if named['size'] else image_size
  as_they_are = functools.partial(make_predictor, model, text, data_dir)
  make = functools.partial(as_they_are, image_size=(image_size, image_size) if image_size else None)
  predictor = make(num_classes=0)
  run = Path(text).expanduser()
  name = model or run.resolve().name
  judged = extract.subject(predictor, name, batch)

  def head(classes: int) -> Subject | None:
    whole = make()
    fits = whole.model.num_classes == classes
    return extract.subject(whole, name, batch, logits=True) if fits else None

  keys = {'name': model}
  if run.is_dir():
    trained = run_folder.from_run(run).model
    keys = {'name': trained.name, **trained.options}
  return Contestant(
    name,
    predictor.line,
    lambda train: judged,
    head,
    Start(
      keys,
      text,
      predictor.mean,
      predictor.std,
      image_size,
      functools.cache(lambda: extract.weights_digest(as_they_are().variables)),
    ),
  )


def _bag(data_dir: Path) -> Contestant:
  return Contestant(
    BAG,
    f"{BAG}: words of each task's training images",
    functools.partial(_bag_subject, data_dir / 'features'),
  )


def _bag_subject(cache: Path, train: Part) -> Subject:
  """A bag that learnt its words from a random part of the training images."""
  source = train.source
  if train.keep_N is not None:
    source = Subset(source, train.keep_N, f'of {train.name}')
  chosen_N = np.random.default_rng(0).permutation(len(source))[: bovw.SOUGHT]
  shape = _shape(source, chosen_N)
  path = cache / f'bag-{extract.key(f"{BAG} {shape}", source)}.npz'
  if path.is_file():
    stored = files.read(path)
    bag = bovw.BagOfWords(int(stored['side']), bool(stored['colour']), stored['words'])
  else:
    images_NHWC = np.zeros((len(chosen_N), *shape), np.uint8)
    labels_N = np.zeros(len(chosen_N), int)
    for i, index in enumerate(chosen_N):
      record, labels_N[i] = source.read([int(index)])[0]
      whole_view(record, images_NHWC[i])  # type: ignore[arg-type]
    groups_N = held_out.groups(source)[chosen_N, 0]
    bag = bovw.learn(images_NHWC, labels_N, groups_N)
    cache.mkdir(parents=True, exist_ok=True)
    files.write(
      path, {'side': np.array(bag.side), 'colour': np.array(bag.colour), 'words': bag.words_VE}
    )
  said = f'{BAG} {shape} {bag.side} {bag.colour}'
  digest = hashlib.sha256(said.encode() + bag.words_VE.tobytes())
  return Subject(BAG, shape, whole_view, bag.features_fn, digest.hexdigest())


def _shape(source: Source, indices_N: np.ndarray) -> tuple[int, int, int]:
  """That of the images if they all have one and it is small, else a square of `LARGEST`."""
  sizes = {decode.decode(source.read([int(index)])[0][0], 3).shape[:2] for index in indices_N[:64]}
  height, width = sizes.pop() if len(sizes) == 1 else (LARGEST + 1, 0)
  return (height, width, 3) if max(height, width) <= LARGEST else (LARGEST, LARGEST, 3)
