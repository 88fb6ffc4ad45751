"""Images through a model, seen as its weights expect: `vit_jax predict`, `vit_jax.predict`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vit_jax import losses
from vit_jax.data.view import View
from vit_jax.errors import UserError
from vit_jax.evaluate.features import answers_fn, attention_fn
from vit_jax.evaluate.images import Batch, Images, open_images
from vit_jax.layouts import files
from vit_jax.models import Inputs
from vit_jax.tables import write_csv
from vit_jax.writes import write

Places = str | Path | np.ndarray | Sequence[str | Path] | Images


class Predictions(NamedTuple):
  """What a model says of N images."""

  logits: np.ndarray  # (N, K), without columns where the model has no head
  features: np.ndarray  # (N, D), what the head sees
  files: tuple[str, ...]  # N names
  unreadable: tuple[str, ...] = ()  # a sentence for each image that is not among them

  def save(self, path: Path) -> None:
    """Writes `logits`, `features` and `files` to an .npz.

    Raises:
      UserError: the disk refuses.
    """
    found = {'logits': self.logits, 'features': self.features, 'files': np.array(self.files)}
    files.write(path, found)


class Attention(NamedTuple):
  """The first images, uint8, their names, and where the model looks; see `attention_fn`."""

  images_NHWC: np.ndarray
  names: list[str]
  stacks: dict[str, np.ndarray]


def predict(
  model: Any, variables: Mapping[str, Any], images: Places, *, batch_size: int = 32
) -> Predictions:
  """Logits and features of the images that can be read.

  Args:
    model: of `weights.open` or `build`; its `inputs` say how it sees an image.
    images: files, folders (searched to any depth, in order of names), one .npy, or an array (N, H,
      W, C): float32 goes in as it is, uint8 is normalized.
    batch_size: images at a time on each device.

  Raises:
    UserError: a place is not there, no image can be read, or an array has images of another shape.
  """
  opened, inputs = _open(model, images), model.inputs
  size = min(batch_size, len(opened))
  answers = answers_fn(model, variables, inputs.mean, inputs.std, size)
  parts, names, unreadable = [], [], []
  for batch in _batches(opened, inputs, size * jax.local_device_count()):
    unreadable += batch.unreadable
    names += batch.names
    if batch.names:
      parts.append(answers(batch.images_BHWC))
  if not parts:
    raise UserError(f'none of the images can be read: {unreadable[0]}')
  logits, features = (np.concatenate(part) for part in zip(*parts, strict=True))
  return Predictions(logits, features, tuple(names), tuple(unreadable))


def attend(model: Any, variables: Mapping[str, Any], images: Places, count: int) -> Attention:
  """The attention of the first `count` images that can be read.

  Raises:
    UserError: as `predict`.
  """
  opened, inputs = _open(model, images), model.inputs
  parts, names = [], []
  for batch in _batches(opened, inputs, count):
    parts.append(batch.images_BHWC)
    names += batch.names
    if len(names) >= count:
      break
  images_NHWC = np.concatenate(parts)[:count]
  if not names:
    raise UserError('none of the images can be read')
  stacks = attention_fn(model, variables, inputs.mean, inputs.std)(images_NHWC)
  if images_NHWC.dtype != np.uint8:
    pixels_NHWC = 255 * (images_NHWC * np.array(inputs.std) + np.array(inputs.mean))
    images_NHWC = np.round(pixels_NHWC.clip(0, 255)).astype(np.uint8)
  return Attention(images_NHWC, names[:count], stacks)


def _open(model: Any, images: Places) -> Images:
  opened = images if isinstance(images, Images) else open_images(images)
  if opened.array_NHWC is None:
    return opened
  shape, wanted = opened.array_NHWC.shape[1:], (*model.inputs.size, len(model.inputs.mean))
  if shape != wanted:
    raise UserError(f'the array has images of shape {shape}, but the model takes {wanted}')
  return opened


def _batches(images: Images, inputs: Inputs, size: int) -> Iterator[Batch]:
  view = View.of(inputs)
  for start in range(0, len(images), size):
    yield images.read(start, start + size, view)


def probabilities(found: Predictions, loss: str) -> np.ndarray:
  """(N, K), as the loss that the weights were trained with means their logits."""
  return np.asarray(losses.PROBABILITIES[loss](found.logits.astype(np.float32)))


def top_lines(
  found: Predictions, class_names: Sequence[str], top: int, loss: str = 'softmax'
) -> list[str]:
  """A line per image with its most probable classes; of a model without a head one line in all."""
  count, classes = found.logits.shape
  if not classes:
    return [f'{count} images, {found.features.shape[1]} features each; no head, no classes']
  names, lines = _names(class_names, classes), []
  for file, share_K in zip(found.files, probabilities(found, loss), strict=True):
    best = np.argsort(-share_K, kind='stable')[:top]
    lines.append(f'{file}: {", ".join(f"{names[k]} {share_K[k]:.1%}" for k in best)}')
  return lines


def write_rows(
  path: Path, found: Predictions, class_names: Sequence[str], loss: str = 'softmax'
) -> None:
  """Writes a row per image to a .csv or .jsonl: file, class and the probability of every class.

  An image that cannot be read has a row with the error alone.

  Raises:
    UserError: the model has no head, or the disk refuses.
  """
  classes = found.logits.shape[1]
  if not classes:
    raise UserError(f'{path}: the model has no head, so no class to write; name an .npz')
  names, share_NK = _names(class_names, classes), probabilities(found, loss)
  rows: list[dict[str, Any]] = []
  for file, share_K in zip(found.files, share_NK.tolist(), strict=True):
    best = int(np.argmax(share_K))
    row = {'file': file, 'class': names[best]}
    each = dict(zip(names, share_K, strict=True))
    if path.suffix == '.jsonl':
      rows.append({**row, 'probabilities': each})
    else:
      rows.append({**row, **{f'p({name})': share for name, share in each.items()}})
  rows += [{'error': sentence} for sentence in found.unreadable]
  if path.suffix == '.csv':
    write_csv(path, rows)
    return
  write(path, ''.join(json.dumps(row) + '\n' for row in rows))


def _names(class_names: Sequence[str], classes: int) -> Sequence[str]:
  return class_names or [f'class {k}' for k in range(classes)]
