"""Fits loaded parameters to a model: positions resized, the head replaced, all else must match."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import scipy.ndimage

from vit_jax.errors import UserError


def resize_positions(table_1ND: np.ndarray, old: tuple[int, int],
                     new: tuple[int, int]) -> np.ndarray:
  """Bilinear zoom of a position table from grid `old` to `new` (rows, columns).

  Corners stay corners, as in the ViT paper's code (`scipy.ndimage.zoom`, order 1); rectangles
  work. Slots before the grid (class token) are kept as they are.
  """
  extra = table_1ND.shape[1] - old[0] * old[1]
  grid_HWD = table_1ND[0, extra:].reshape(*old, -1)
  zoomed_HWD = np.asarray(
      scipy.ndimage.zoom(grid_HWD, (new[0] / old[0], new[1] / old[1], 1), order=1))
  width = table_1ND.shape[-1]
  return np.concatenate([table_1ND[:, :extra], zoomed_HWD.reshape(1, -1, width)], axis=1)


def adapt(loaded: Any, wanted: Any, where: str, old_grid: tuple[int, int],
          new_grid: tuple[int, int]) -> tuple[dict[str, Any], str]:
  """(parameters for the leaves of `wanted`, one line that says what was done).

  Args:
    loaded: a tree of arrays.
    wanted: the model's freshly initialised tree; its head stays where the classes differ.
    where: names the source in messages.
    old_grid: patches down and across when `loaded` was trained; `new_grid` likewise for `wanted`.

  Raises:
    UserError: any other leaf is missing, unknown, or of another shape.
  """
  flat_loaded, flat_wanted = flatten(loaded), flatten(wanted)
  out, matched, resized, fresh, wrong = {}, 0, [], [], []
  for name, leaf in flat_wanted.items():
    value = flat_loaded.pop(name, None)
    if value is not None and value.shape == leaf.shape:
      out[name], matched = value, matched + 1
    elif name.startswith(('head/', 'pre_logits/')):
      out[name] = leaf
      fresh.append(name)
    elif value is None:
      wrong.append(f'{name} is missing')
    elif name == 'pos_embedding' and value.shape[-1] == leaf.shape[-1]:
      out[name] = resize_positions(np.asarray(value), old_grid, new_grid)
      resized.append(name)
    else:
      wrong.append(f'{name} is {value.shape}, not {leaf.shape}')
  wrong += [f'{name} is not of this model' for name in flat_loaded
            if not name.startswith(('head/', 'pre_logits/'))]
  if wrong:
    raise UserError(f'{where} does not fit the model: {first_few(wrong)}')
  line = f'{where}: {matched} leaves matched, {len(resized)} resized, {len(fresh)} fresh'
  return jax.tree.unflatten(jax.tree.structure(wanted), list(out.values())), line


def first_few(faults: list[str]) -> str:
  """Up to five faults in one line, and how many more there are."""
  more = f' and {len(faults) - 5} more' if len(faults) > 5 else ''
  return '; '.join(faults[:5]) + more


def flatten(tree: Any) -> dict[str, Any]:
  """Leaves by the names down the tree, joined by '/'."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in leaves}
