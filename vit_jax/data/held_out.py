"""A fifth of a training split, held out to choose by.

Examples that show the same thing form a group, as the data set declares. Groups are held out whole,
so no held-out image has a twin among the others.
"""

from typing import Any

import numpy as np

from vit_jax.errors import UserError

ONE_IN = 5  # groups is held out


def hold_out(source: Any) -> tuple[np.ndarray, np.ndarray]:
  """`split` of the examples of a `Source`; raises UserError if it has fewer than five groups."""
  groups_NG = source.groups()
  count = len(np.unique(groups_NG))
  if count < ONE_IN:
    raise UserError(
      f'data set {source.name!r}, split {source.split!r} has {count} groups of examples that '
      f'show the same; holding out one in {ONE_IN} takes at least {ONE_IN}'
    )
  return split(groups_NG)


def split(
  groups_NG: np.ndarray, seed: int | np.random.Generator = 0
) -> tuple[np.ndarray, np.ndarray]:
  """Indices of the examples in a random fifth of the groups, and of the others.

  An example with groups on both sides, such as a patch on the border of two cells, is in neither.
  """
  names = np.random.default_rng(seed).permutation(np.unique(groups_NG))
  held_NG = np.isin(groups_NG, names[: len(names) // ONE_IN])
  return np.flatnonzero(held_NG.all(1)), np.flatnonzero(~held_NG.any(1))
