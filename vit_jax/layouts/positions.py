"""Position tables (1, slots + rows * columns, D): resizing the grid, making and folding slots.

Slots come before the grid, for the class token and the distillation token.
"""

import math

import numpy as np

from vit_jax.layouts.layout import Resize

Grid = tuple[int, int]
SLOTS = ('cls', 'dist')


def resize(table_1ND: np.ndarray, old: Grid, new: Grid, method: Resize) -> np.ndarray:
  """A table for the grid `new` (rows, columns) from one for `old`; its slots are kept.

  'bilinear' is Google's and aligns the centers of corner cells (`scipy.ndimage.zoom`, order 1).
  'bicubic' is Hugging Face's, 'bicubic_antialias' timm's and Hugging Face's of DINOv2 with
  registers. Both are torch's and align the corners of corner cells.
  """
  slots, width = table_1ND.shape[1] - old[0] * old[1], table_1ND.shape[-1]
  grid_HWD = table_1ND[0, slots:].reshape(*old, width)
  down, across = (
    linear(*sizes) if method == 'bilinear' else bicubic(*sizes, method == 'bicubic_antialias')
    for sizes in zip(old, new, strict=True)
  )
  zoomed_HWD = np.einsum('RH,CW,HWD->RCD', down, across, grid_HWD, optimize=True)
  zoomed_1ND = zoomed_HWD.reshape(1, -1, width).astype(table_1ND.dtype)
  return np.concatenate([table_1ND[:, :slots], zoomed_1ND], axis=1)


def linear(old: int, new: int) -> np.ndarray:
  """The matrix (new, old) of linear interpolation along one axis, from end to end."""
  places = np.arange(new) * ((old - 1) / max(new - 1, 1))
  return np.maximum(1 - np.abs(np.arange(old) - places[:, None]), 0)


def bicubic(old: int, new: int, antialias: bool) -> np.ndarray:
  """The matrix (new, old) of torch's bicubic interpolation along one axis.

  With antialias the cubic (a = -0.5) widens with the step where the axis shrinks, and is cut off
  at the edges; without, it has its four taps (a = -0.75) and the edges repeat.
  """
  step = old / new
  centers = (np.arange(new) + 0.5) * step - 0.5
  if antialias:
    taps, stretch = np.arange(old), max(step, 1.0)
    weights = _cubic((taps - centers[:, None]) / stretch, -0.5)
  else:
    margin = 2
    taps = np.arange(-margin, old + margin)
    spread = _cubic(taps - centers[:, None], -0.75)
    weights = spread[:, margin:-margin]
    weights[:, 0] += spread[:, :margin].sum(axis=1)
    weights[:, -1] += spread[:, -margin:].sum(axis=1)
  return weights / weights.sum(axis=1, keepdims=True)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
  """Keys' cubic convolution kernel (1981), zero beyond 2."""
  x = np.abs(x)
  near = ((a + 2) * x - (a + 3)) * x * x + 1
  far = ((x - 5) * x + 8) * x * a - 4 * a
  return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def square(tokens: int, slots: tuple[int, ...]) -> tuple[int, int] | None:
  """(slots, side) of a table of `tokens` positions: the first of `slots` that leaves a square."""
  for count in slots:
    side = math.isqrt(max(tokens - count, 0))
    if side and side * side == tokens - count:
      return count, side
  return None


def fold_slots(leaves: dict[str, np.ndarray], slots: int) -> dict[str, np.ndarray]:
  """Leaves whose table has no slots: they are added to the tokens."""
  table_1ND = leaves['pos_embedding']
  folded = {name: leaves[name] + table_1ND[:, i : i + 1] for i, name in enumerate(SLOTS[:slots])}
  return leaves | folded | {'pos_embedding': table_1ND[:, slots:]}


def make_slots(leaves: dict[str, np.ndarray], slots: int) -> dict[str, np.ndarray]:
  """Leaves whose table has slots, of zeros."""
  table_1ND = leaves['pos_embedding']
  return leaves | {'pos_embedding': np.pad(table_1ND, ((0, 0), (slots, 0), (0, 0)))}
