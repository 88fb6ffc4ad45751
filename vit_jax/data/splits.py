"""The TFDS split syntax ('train[:90%]+test'), for folders and prepared data sets alike."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vit_jax.errors import UserError

if TYPE_CHECKING:
  import tensorflow_datasets as tfds


def pieces(
  name: str, split: str, infos: 'Mapping[str, tfds.core.SplitInfo]'
) -> list[tuple[str, int, int]]:
  """The pieces of `split` in order, as (split name, start, end); `name` is the data set's.

  Raises:
    UserError: no such split, malformed, or without examples.
  """
  import tensorflow_datasets as tfds  # here, as in folder.py

  try:
    parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
  except Exception as error:  # TFDS raises several kinds, each with a page of text
    known = ', '.join(f'{key!r} ({info.num_examples:,})' for key, info in infos.items())
    raise UserError(
      f'data set {name!r} has no split {split!r}: it has {known}, and a part of one is '
      "written 'train[:90%]' or 'train[1000:]'"
    ) from error
  result = []
  for part in parts:
    total = infos[part.splitname].num_examples
    result.append((part.splitname, part.from_ or 0, total if part.to is None else part.to))
  if not any(end > start for _, start, end in result):
    raise UserError(f'data set {name!r}, split {split!r} has no examples')
  return result
