"""A fifth of a training split to choose by, held out so that no image has a twin on the other side.

Images that show the same thing belong to one group, and groups are held out whole: patches of one
large picture by cells of it, drawings by what they draw, letters by their code point. Where
nothing is known of what an image shows, it is a group of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vit_jax.errors import UserError

ONE_IN = 5  # groups is held out
CELLS = 60  # across a large picture: of 6 degrees, where that is the whole Earth
SAME = ('emoji', 'code_point')  # columns that say what an image shows


def groups(source: Any) -> np.ndarray:
  """The groups that each example of a `sources.Source` belongs to, int [N, G]; the same one G times
  for most.

  A patch of a large picture belongs to the cells that its four corners lie in.
  """
  row_N, col_N = source.column('row'), source.column('col')
  if row_N is not None and col_N is not None and 'raster_size' in source.metadata:
    cell = int(source.metadata['raster_size'][1]) // CELLS
    far = int(source.metadata['patch_size']) - 1
    corners = [
      (row_N + down) // cell * CELLS + (col_N + right) // cell
      for down in (0, far)
      for right in (0, far)
    ]
    return np.stack(corners, axis=1)
  for name in SAME:
    column_N = source.column(name)
    if column_N is not None:
      return np.unique(column_N, return_inverse=True)[1].reshape(-1, 1)
  return np.arange(len(source))[:, None]


def hold_out(source: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Indices of the examples in a random fifth of the groups, and of those in none of them.

  A patch with corners on both sides is in neither.

  Raises:
    UserError: there are fewer than five groups.
  """
  groups_NG = groups(source)
  names = np.random.default_rng(seed).permutation(np.unique(groups_NG))
  if len(names) < ONE_IN:
    raise UserError(
      f'data set {source.name!r}, split {source.split!r} has {len(names)} groups of '
      f'images that belong together; to hold one in {ONE_IN} out takes at least '
      f'{ONE_IN}'
    )
  held_NG = np.isin(groups_NG, names[: len(names) // ONE_IN])
  return np.flatnonzero(held_NG.all(1)), np.flatnonzero(~held_NG.any(1))
