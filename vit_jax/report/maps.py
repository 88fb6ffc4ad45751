"""A map of predictions on patches of one large picture, beside a map of the true classes."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from vit_jax.report import plots
from vit_jax.run.predictions import Predictions, Raster

LEGEND_CLASSES = 40  # names of more do not fit
# A patch whose true class is none of these. Alpha makes it pale on light and on dark paper.
NO_CLASS = ('#8a8f98', 0.28)


def palette(predictions: Predictions) -> list[str]:
  """A color for each class: those that the data set declares, else matplotlib's."""
  names, declared = predictions.class_names, predictions.palette
  K = len(names)
  if all(name in declared for name in names):
    return [declared[name][0] for name in names]
  if K <= 20:
    return [to_hex(matplotlib.colormaps['tab20'](k)) for k in range(K)]
  return [to_hex(matplotlib.colormaps['hsv'](k / K)) for k in range(K)]


def paint(value_N: np.ndarray, raster: Raster, blank: int) -> np.ndarray:
  """Values of patches -> value_HW over the whole picture, `blank` where there is no patch.

  A cell is the largest square that all patches are made of; the last cells may reach over the
  edge. A later patch covers an earlier one.
  """
  cell = cell_size(raster)
  value_HW = np.full((-(-raster.height // cell), -(-raster.width // cell)), blank, value_N.dtype)
  side = raster.patch // cell
  for value, row, col in zip(value_N, raster.row_N // cell, raster.col_N // cell, strict=True):
    value_HW[row : row + side, col : col + side] = value
  return value_HW


def cell_size(raster: Raster) -> int:
  """Side of a cell of `paint`, in pixels of the picture."""
  return math.gcd(raster.patch, *raster.row_N.tolist(), *raster.col_N.tolist())


def agreement(predictions: Predictions) -> str:
  """The share of the map that is right, as text."""
  assert predictions.raster
  judged_N, held_out_N = predictions.labeled_N, predictions.raster.held_out_N
  if not judged_N.any():
    return 'no patch has a known class'
  words = f'{predictions.correct_N[judged_N].mean():.1%} of {judged_N.sum():,} patches are right'
  if held_out_N is not None and (judged_N & held_out_N).any():
    words += f', {predictions.correct_N[judged_N & held_out_N].mean():.1%} in held-out regions'
  return words


@plots.styled
def map_figure(predictions: Predictions) -> Figure:
  """Predicted classes, true classes, where they agree, and a legend with the recall of each."""
  raster = predictions.raster
  assert raster
  colors, judged_N = palette(predictions), predictions.labeled_N
  truth_N = np.where(judged_N, predictions.label_N, len(colors))
  outcome_N = np.where(judged_N, predictions.correct_N, 2)
  outcomes = {'wrong': plots.WRONG, 'right': plots.RIGHT, 'none of the classes': NO_CLASS}
  if raster.held_out_N is not None:
    outcome_N = np.where(raster.held_out_N | ~judged_N, outcome_N, outcome_N + 3)
    outcomes['wrong, training region'] = plots.WRONG, 0.4
    outcomes['right, training region'] = plots.RIGHT, 0.33
  figure = plots.new_figure(10.4, 5.9)
  (predicted, true), (agrees, legend) = figure.subplots(2, 2)
  _draw(predicted, predictions.prediction_N, raster, colors)
  _draw(true, truth_N, raster, [*colors, NO_CLASS])
  _draw(agrees, outcome_N, raster, list(outcomes.values()))
  predicted.set_title('Predicted')
  true.set_title('True')
  agrees.set_title(agreement(predictions).capitalize())
  agrees.legend(
    handles=[Patch(color=color, label=word, linewidth=0) for word, color in outcomes.items()],
    loc='upper center',
    bbox_to_anchor=(0.5, -0.06),
    ncols=len(outcomes),
    fontsize=7,
    handlelength=0.9,
    columnspacing=1.2,
    handletextpad=0.4,
  )
  _legend(legend, predictions, raster, colors)
  return figure


def _draw(axes: Axes, class_N: np.ndarray, raster: Raster, colors: Sequence[Any]) -> None:
  """Classes of patches as colors; over degrees where the data set declares them, else pixels."""
  class_HW = paint(class_N.astype(np.int64), raster, blank=-1)
  rgba_HW4 = to_rgba_array([*colors, 'none'])[class_HW]  # -1, no patch, is the last one
  left, right, bottom, top = raster.extent or (0, raster.width, -raster.height, 0)
  reach = cell_size(raster) * np.array(class_HW.shape)  # cells may reach over the edge
  lower = top - (top - bottom) * reach[0] / raster.height
  outer = left + (right - left) * reach[1] / raster.width
  axes.imshow(rgba_HW4, extent=(left, outer, lower, top), interpolation='none')
  axes.set(xlim=(left, right), ylim=(bottom, top))
  if raster.extent:
    for axis, sides in ((axes.xaxis, 'EW'), (axes.yaxis, 'NS')):
      axis.set_major_locator(MaxNLocator(6, steps=[1, 1.5, 3, 6, 10]))
      axis.set_major_formatter(lambda angle, _, sides=sides: _degrees(angle, sides))
  axes.grid(True, axis='both')
  axes.set_facecolor((*to_rgb(plots.INK), 0.05))
  axes.tick_params(labelsize=7, length=0)
  axes.spines[:].set_visible(False)


def _degrees(angle: float, sides: str) -> str:
  """Such as 60°N. The equator, the first meridian and the date line are on neither side."""
  side = '' if angle % 180 == 0 else sides[int(angle < 0)]
  return f'{abs(angle):g}°{side}'


def _legend(axes: Axes, predictions: Predictions, raster: Raster, colors: Sequence[str]) -> None:
  """A row for each class: its color and name, and a bar for the share of its patches found."""
  names, judged_N = predictions.class_names, predictions.labeled_N
  axes.set_axis_off()
  if len(names) > LEGEND_CLASSES:
    return
  where = ''
  if raster.held_out_N is not None:
    judged_N, where = judged_N & raster.held_out_N, ' in held-out regions'
  axes.set_box_aspect(0.5)
  axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6))
  axes.set_title(f'Share of each class that is found{where}')
  size = min(8.0, 130 / len(names))
  start, full = 0.58, 0.345  # of a bar for 100 %
  for k, (name, color) in enumerate(zip(names, colors, strict=True)):
    mine_N = judged_N & (predictions.label_N == k)
    found = predictions.correct_N[mine_N].mean() if mine_N.any() else 0.0
    axes.barh(k, 0.036, 0.72, color=color)
    axes.barh(k, full, 0.56, start, color=plots.INK, alpha=0.1)
    axes.barh(k, full * found, 0.56, start, color=color)
    axes.text(0.05, k, name, va='center', fontsize=size, fontweight='bold')
    if name in predictions.palette:
      axes.text(0.125, k, predictions.palette[name][1], va='center', fontsize=size)
    share = f'{found:.0%}' if mine_N.any() else '-'
    axes.text(1, k, share, va='center', ha='right', fontsize=size)
