"""Names of splits as people spell them, and the TFDS split syntax ('train[:90%]+test')."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vit_jax.errors import UserError

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

# In any case; the first spelling is the one that we use.
SPELLINGS = {
  'train': ('train', 'training'),
  'validation': ('validation', 'val', 'valid', 'dev'),
  'test': ('test', 'testing'),
}
HELD_OUT = ('test', 'validation')


def canonical(name: str) -> str | None:
  """'train', 'validation' or 'test' if `name` is a spelling of it, else None."""
  return next((split for split, names in SPELLINGS.items() if name.lower() in names), None)


def of_path(path: str) -> str:
  """The split that the name of a file up to a hyphen says, else the nearest folder; '' for none."""
  folder, name = os.path.split(path)
  words = [os.path.splitext(name)[0].partition('-')[0], *reversed(folder.split(os.sep))]
  return next((word for word in words if canonical(word)), '')


def aliases(parts: Mapping[str, object]) -> dict[str, str]:
  """Other names that mean one of `parts`: all spellings; with one held-out part, both names."""
  held_out = [part for part in HELD_OUT if part in parts]
  meant = {part: part for part in parts}
  if len(held_out) == 1:
    meant |= dict.fromkeys(HELD_OUT, held_out[0])
  return {
    name: meant[split]
    for split, names in SPELLINGS.items()
    for name in names
    if split in meant and name not in parts
  }


def pieces(
  name: str,
  split: str,
  infos: 'Mapping[str, tfds.core.SplitInfo]',
  aliases: Mapping[str, str] | None = None,
) -> list[tuple[str, int, int]]:
  """The pieces of `split` in order, as (split name, start, end); `name` is the data set's.

  Args:
    aliases: other names of the splits in `infos`.

  Raises:
    UserError: no such split, malformed, or without examples.
  """
  import tensorflow_datasets as tfds  # here, as in folder.py

  aliases = aliases or {}
  named = {**infos, **{alias: infos[part] for alias, part in aliases.items()}}
  try:
    parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(named)
  except Exception as error:  # TFDS raises several kinds, each with a page of text
    known = ', '.join(f'{key!r} ({info.num_examples:,})' for key, info in infos.items())
    way = "a part of one is written 'train[:90%]' or 'train[1000:]'"
    if split.startswith('train') and 'train' not in infos:
      way = "to train takes a split called train, which config.data.train='validation' changes"
    raise UserError(
      f'data set {name!r} has no split {split!r}: it has {known}, and {way}'
    ) from error
  result = []
  for part in parts:
    key = aliases.get(part.splitname, part.splitname)
    total = infos[key].num_examples
    result.append((key, part.from_ or 0, total if part.to is None else part.to))
  if not any(end > start for _, start, end in result):
    raise UserError(f'data set {name!r}, split {split!r} has no examples')
  return result
