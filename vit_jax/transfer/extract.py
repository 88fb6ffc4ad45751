"""Features of a whole split: every example once, in order, and kept for the next time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vit_jax.data.loader import READ_ERRORS, cores
from vit_jax.data.sources import Source, unreadable
from vit_jax.errors import UserError
from vit_jax.transfer.features import answers_fn
from vit_jax.transfer.images import View
from vit_jax.transfer.predict import Predictor
from vit_jax.trees import flatten
from vit_jax.weights import files


@dataclass(frozen=True)
class Subject:
  """What is judged: how it sees an image, and the features it has of many.

  Attributes:
    view: encoded image -> uint8 pixels of `image_shape`.
    features: images_NHWC in uint8 -> features_ND.
    fingerprint: of all that decides a feature; stored features are found by it.
  """

  name: str
  image_shape: tuple[int, int, int]
  view: View
  features: Callable[[np.ndarray], np.ndarray]
  fingerprint: str


class Features(NamedTuple):
  """Of the examples of one split, in order."""

  features_ND: np.ndarray
  labels_N: np.ndarray


def subject(predictor: Predictor, name: str, batch: int, logits: bool = False) -> Subject:
  """A model with its weights, to be judged by its features, or by its logits."""
  answers = answers_fn(predictor.model, predictor.variables, predictor.mean, predictor.std, batch)

  def features(images_NHWC: np.ndarray) -> np.ndarray:
    found = answers(images_NHWC)
    return found.logits_NK if logits else found.features_ND

  view: Any = predictor.view  # a partial: its function and its arguments
  said = [
    repr(predictor.model),
    predictor.image_shape,
    predictor.mean,
    predictor.std,
    view.func.__name__,
    sorted(view.keywords.items()),
  ]
  digest = hashlib.sha256(json.dumps(said).encode())
  if logits:
    digest.update(b'logits')
  digest.update(weights_digest(predictor.variables))
  return Subject(name, predictor.image_shape, predictor.view, features, digest.hexdigest())


def weights_digest(variables: Any) -> bytes:
  """Of the leaves of a model, by name and to the bit."""
  digest = hashlib.sha256()
  for name, leaf in flatten(variables).items():
    digest.update(name.encode() + np.ascontiguousarray(leaf).tobytes())
  return digest.digest()


def extract(judged: Subject, source: Source, cache: Path, batch: int = 64) -> Features:
  """Features and labels of every example, from `cache` if they are there.

  Args:
    batch: images at a time for each of this process's devices.

  Raises:
    UserError: an example cannot be read or decoded, or the cache cannot be written.
  """
  path = cache / f'{key(judged.fingerprint, source)}.npz'
  if path.is_file():
    stored = files.read(path)
    return Features(stored['features'], stored['labels'])
  found = _extract(judged, source, batch)
  cache.mkdir(parents=True, exist_ok=True)
  files.write(path, {'features': found.features_ND, 'labels': found.labels_N})
  return found


def _extract(judged: Subject, source: Source, batch: int) -> Features:
  from tqdm import tqdm

  step = batch * jax.local_device_count()
  parts, labels_N = [], np.zeros(len(source), np.int32)
  with (
    ThreadPoolExecutor(cores()) as pool,
    tqdm(
      total=len(source),
      desc=f'{judged.name}: {source.name} {source.split}',
      unit='image',
      disable=None,
    ) as progress,
  ):
    for start in range(0, len(source), step):
      indices = range(start, min(start + step, len(source)))
      images_BHWC = np.zeros((len(indices), *judged.image_shape), np.uint8)

      def load(index: int, start: int = start, out_BHWC: np.ndarray = images_BHWC) -> None:
        try:
          record, labels_N[index] = source.read([index])[0]
          judged.view(record, out_BHWC[index - start])  # type: ignore[arg-type]
        except READ_ERRORS as error:
          raise UserError(unreadable(source, index, error)) from None

      list(pool.map(load, indices))
      parts.append(judged.features(images_BHWC))
      progress.update(len(indices))
  return Features(np.concatenate(parts), labels_N)


def key(fingerprint: str, source: Source) -> str:
  """Of something and a split; a split is known by its name, its size and its content."""
  digest = hashlib.sha256(f'{fingerprint} {source.name} {source.split} {len(source)}'.encode())
  digest.update(source.content())
  return digest.hexdigest()[:32]
