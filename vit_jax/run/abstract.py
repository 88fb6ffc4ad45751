"""Trees of shapes, which say what a checkpoint must hold and which part of it is read."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax

from vit_jax.errors import UserError, first_few
from vit_jax.trees import flatten


def parts(abstract: Any, size: int) -> Iterator[Any]:
  """Trees with `...` in place of most leaves; each leaf is in one of them.

  Args:
    size: bytes after which a part ends.
  """
  leaves, structure = jax.tree.flatten(abstract)
  start = 0
  while start < len(leaves):
    end, read = start, 0
    while end < len(leaves) and (end == start or read < size):
      read += leaves[end].size * leaves[end].dtype.itemsize
      end += 1
    some = [leaf if start <= i < end else ... for i, leaf in enumerate(leaves)]
    yield jax.tree.unflatten(structure, some)
    start = end


def check_shapes(has: Mapping[str, list[int]], wanted: Any, where: str) -> None:
  """Raises a UserError that lists the leaves whose names or shapes differ."""
  wants = {name: list(leaf.shape) for name, leaf in flatten(wanted).items()}
  wrong = [
    f'{name} is {tuple(has[name])}, not {tuple(wants[name])}'
    for name in wants
    if name in has and has[name] != wants[name]
  ]
  wrong += [f'{name} is missing' for name in wants if name not in has]
  wrong += [f'{name} is not of this model' for name in has if name not in wants]
  if wrong:
    raise UserError(f'{where} belongs to another model: {first_few(wrong)}')
