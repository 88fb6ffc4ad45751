"""Fits loaded leaves to a model: positions resized, the head replaced, all else must match."""

from typing import Any, NamedTuple

import numpy as np

from vit_jax.errors import UserError, first_few
from vit_jax.layouts import positions
from vit_jax.layouts.layout import Resize
from vit_jax.layouts.positions import Grid

HEADS = ('head/', 'head_dist/', 'pre_logits/')


class Source(NamedTuple):
  """Where leaves come from.

  Attributes:
    where: names the source in messages.
    grid: (rows, columns) of its positions; None where it is to be taken as a square.
    resize: how its home resizes positions.
    left: names it holds that no leaf of ours was made from -> our name, '' where there is none.
    faults: what else was found wrong in reading it.
  """

  where: str
  grid: Grid | None = None
  resize: Resize = 'bilinear'
  left: dict[str, str] = {}
  faults: tuple[str, ...] = ()


def adapt(
  loaded: dict[str, np.ndarray], wanted: dict[str, Any], source: Source, grid: Grid
) -> tuple[dict[str, Any], str]:
  """(leaves for the names of `wanted`, one line that says what was done).

  Args:
    wanted: the model's freshly initialized leaves; those of a head stay where classes differ.
    grid: (rows, columns) of the model's positions.

  Raises:
    UserError: any other leaf is missing, unknown, or of another shape.
  """
  loaded, resized = _positions(loaded, wanted, source, grid)
  out, fresh, faults = {}, [], list(source.faults)
  for name, leaf in wanted.items():
    value = loaded.get(name)
    if value is not None and value.shape == leaf.shape:
      out[name] = value
    elif name.startswith(HEADS):
      fresh.append(name)
    elif value is not None:
      faults.append(f'{name} is {value.shape}, not {leaf.shape}')
    elif not source.faults:  # which say why it is missing
      faults.append(f'{name} {tuple(leaf.shape)} is missing')
  left = {name: name for name in loaded if name not in wanted} | source.left
  if any(name.startswith('pre_logits/') for name in (*fresh, *left.values())):
    fresh += [name for name in out if name.startswith('head/')]  # it stands on another layer
  faults += [
    f'{name} is not of this model' for name, ours in left.items() if not ours.startswith(HEADS)
  ]
  if faults:
    raise UserError(f'{source.where} does not fit the model: {first_few(faults)}')
  matched = len(wanted) - resized - len(fresh)
  out = {name: wanted[name] if name in fresh else out[name] for name in wanted}
  return out, f'{source.where}: {matched} leaves matched, {resized} resized, {len(fresh)} fresh'


def _positions(
  loaded: dict[str, np.ndarray], wanted: dict[str, Any], source: Source, grid: Grid
) -> tuple[dict[str, np.ndarray], int]:
  """Leaves with the position table the model wants, if that can be; and how many changed."""
  name = 'pos_embedding'
  if name not in wanted or name not in loaded:
    return loaded, 0
  shape, tokens = wanted[name].shape, loaded[name].shape[1]
  slots = shape[1] - grid[0] * grid[1]
  if source.grid is None:
    # As many tokens as the model's are its slots and a grid: 1 + 3 * 5 are no 4 * 4.
    found = positions.square(tokens, (slots,) if tokens == shape[1] else (slots, 1, 0, 2))
    if found is None:
      return loaded, 0
    had, old = found[0], (found[1], found[1])
  else:
    had, old = tokens - source.grid[0] * source.grid[1], source.grid
    if not 0 <= had <= len(positions.SLOTS):
      return loaded, 0
  if had and not slots and set(positions.SLOTS[:had]) <= set(loaded):
    loaded = positions.fold_slots(loaded, had)
  elif slots and not had:
    loaded = positions.make_slots(loaded, slots)
  if old != grid and loaded[name].shape[-1] == shape[-1]:
    table_1ND = positions.resize(np.asarray(loaded[name]), old, grid, source.resize)
    loaded = loaded | {name: table_1ND}
  return loaded, int(old != grid or had != slots)
