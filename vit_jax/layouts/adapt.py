"""Fits loaded leaves to a model: positions resized, the head replaced, all else must match."""

from typing import Any

import numpy as np

from vit_jax.errors import UserError, first_few
from vit_jax.layouts import positions
from vit_jax.layouts.layout import Reading, Resize
from vit_jax.layouts.positions import Grid

HEADS = ('head/', 'head_dist/', 'pre_logits/')


def adapt(
  reading: Reading,
  wanted: dict[str, Any],
  where: str,
  grid: Grid,
  old_grid: Grid | None = None,
  resize: Resize = 'bilinear',
) -> tuple[dict[str, Any], str]:
  """(leaves for the names of `wanted`, one line that says what was done).

  Args:
    wanted: the model's freshly initialized leaves; a head's are kept if the classes differ.
    where: names the source in messages.
    grid: (rows, columns) of the model's positions.
    old_grid: of the source's positions; taken for a square if None.
    resize: how the source's library resizes positions.

  Raises:
    UserError: any other leaf is missing, unknown, or of another shape.
  """
  loaded, resized = _positions(reading.ours, wanted, grid, old_grid, resize)
  out, fresh, faults = {}, [], [*reading.faults]
  for name, leaf in wanted.items():
    value = loaded.get(name)
    if value is not None and value.shape == leaf.shape:
      out[name] = value
    elif name.startswith(HEADS):
      fresh.append(name)
    elif value is not None:
      faults.append(f'{name} is {value.shape}, not {leaf.shape}')
    elif not reading.faults:  # which say why it is missing
      faults.append(f'{name} {tuple(leaf.shape)} is missing')
  left = {name: name for name in loaded if name not in wanted} | {**reading.left}
  if any(name.startswith('pre_logits/') for name in (*fresh, *left.values())):
    fresh += [name for name in out if name.startswith('head/')]  # it stands on another layer
  faults += [
    f'{name} is not of this model' for name, ours in left.items() if not ours.startswith(HEADS)
  ]
  if faults:
    raise UserError(f'{where} does not fit the model: {first_few(faults)}')
  matched = len(wanted) - resized - len(fresh)
  out = {name: wanted[name] if name in fresh else out[name] for name in wanted}
  return out, f'{where}: {matched} leaves matched, {resized} resized, {len(fresh)} fresh'


def _positions(
  loaded: dict[str, np.ndarray],
  wanted: dict[str, Any],
  grid: Grid,
  old: Grid | None,
  resize: Resize,
) -> tuple[dict[str, np.ndarray], int]:
  """(leaves with the position table that the model wants, if possible; how many changed)."""
  name = 'pos_embedding'
  if name not in wanted or name not in loaded:
    return loaded, 0
  shape, tokens = wanted[name].shape, loaded[name].shape[1]
  slots = shape[1] - grid[0] * grid[1]
  if old is None:
    # As many tokens as the model's are its slots and a grid: 1 + 3 * 5 is not 4 * 4.
    found = positions.square(tokens, (slots,) if tokens == shape[1] else (slots, 1, 0, 2))
    if found is None:
      return loaded, 0
    had, old = found[0], (found[1], found[1])
  else:
    had = tokens - old[0] * old[1]
    if not 0 <= had <= len(positions.SLOTS):
      return loaded, 0
  if had and not slots and set(positions.SLOTS[:had]) <= set(loaded):
    loaded = positions.fold_slots(loaded, had)
  elif slots and not had:
    loaded = positions.make_slots(loaded, slots)
  if old != grid and loaded[name].shape[-1] == shape[-1]:
    table_1ND = positions.resize(np.asarray(loaded[name]), old, grid, resize)
    loaded = loaded | {name: table_1ND}
  return loaded, int(old != grid or had != slots)
