"""A bag of visual words as a backbone of `transfer` and as a system of `compare`."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vit_jax.config import ImageData
from vit_jax.data import decode
from vit_jax.data.loader import Loader
from vit_jax.data.sources import MappedSource, Source
from vit_jax.data.view import View
from vit_jax.evaluate import judge
from vit_jax.evaluate.backbone import Pulse
from vit_jax.evaluate.sets import Part
from vit_jax.layouts import files
from vit_jax.transfer import bovw

NAME = 'bag_of_words'
LARGEST = 128  # pixels of an image's side
BATCH = 256


@dataclass(frozen=True)
class BagBackbone:
  """A bag of visual words as a backbone; see `Featured`."""

  bag: bovw.BagOfWords
  view: View
  name: str = NAME

  @property
  def fingerprint(self) -> str:
    said = f'{NAME} {self.view!r} {self.bag.side} {self.bag.color}'
    return hashlib.sha256(said.encode() + self.bag.words_VE.tobytes()).hexdigest()

  def features(self, source: Source, pulse: Pulse) -> tuple[np.ndarray, np.ndarray]:
    pulse.begin(f'{self.name}: {source.name} {source.split}', len(source))
    parts, labels = [], []
    for images_NHWC, labels_N in _batches(source, self.view):
      parts.append(self.bag.features_fn(images_NHWC))
      labels.append(labels_N)
      pulse.beat(len(labels_N))
    return np.concatenate(parts), np.concatenate(labels)


def open_bag(folder: Path, train: Part) -> BagBackbone:
  """A bag that learned its words from a random part of the training images, seen whole."""
  source = train.source
  if train.keep_N is not None:
    source = MappedSource(source, f'of {train.name}', indices_N=train.keep_N)
  chosen_N = np.random.default_rng(0).permutation(len(source))[: bovw.SOUGHT]
  view = View.whole(_size(source, chosen_N), 3)
  path = folder / f'bag-{judge.split_key(f"{NAME} {view!r}", source)}.npz'

  def make() -> dict[str, np.ndarray]:
    images_NHWC, labels_N = read_all(MappedSource(source, 'chosen', indices_N=chosen_N), view)
    bag = bovw.learn(images_NHWC, labels_N, source.groups()[chosen_N, 0])
    return {'side': np.array(bag.side), 'color': np.array(bag.color), 'words': bag.words_VE}

  def fits(stored: Mapping[str, np.ndarray]) -> bool:
    return (stored['words'].ndim, stored['side'].ndim, stored['color'].ndim) == (2, 0, 0)

  stored = files.kept(path, make, fits)
  bag = bovw.BagOfWords(int(stored['side']), bool(stored['color']), stored['words'])
  return BagBackbone(bag, view)


def _size(source: Source, indices_N: np.ndarray) -> tuple[int, int]:
  """That of the images if they all have one and it is small, else a square of `LARGEST`."""
  sizes = {decode.decode(source.read([int(i)])[0][0], 3).shape[:2] for i in indices_N[:64]}
  height, width = sizes.pop() if len(sizes) == 1 else (LARGEST, LARGEST)
  return (height, width) if max(height, width) <= LARGEST else (LARGEST, LARGEST)


def _batches(source: Source, view: View) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """(images_NHWC in uint8, labels_N) of every example, in order."""
  loader = Loader(
    source, ImageData(cache='never'), seed=0, batch_size=BATCH, train=False, view=view
  )
  for step in range(loader.num_batches):
    batch = loader.batch(step)
    yield batch['image'][batch['mask']], batch['label'][batch['mask']]


def read_all(source: Source, view: View) -> tuple[np.ndarray, np.ndarray]:
  """Every example at once."""
  images, labels = zip(*_batches(source, view), strict=True)
  return np.concatenate(images), np.concatenate(labels)
