"""A map of predictions that were made on patches of one large picture, beside the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MultipleLocator

from vit_jax.report import plots
from vit_jax.report.run import Predictions, Raster

# Colours of Beck et al. 2018 (Scientific Data 5:180214). They have no As, which here shares the
# colour of Aw. Names follow theirs, shortened.
KOEPPEN = {
  'Af': ('#0000ff', 'tropical rainforest'), 'Am': ('#0078ff', 'tropical monsoon'),
  'Aw': ('#46aafa', 'savanna, dry winter'), 'As': ('#46aafa', 'savanna, dry summer'),
  'BWh': ('#ff0000', 'hot desert'), 'BWk': ('#ff9696', 'cold desert'),
  'BSh': ('#f5a500', 'hot steppe'), 'BSk': ('#ffdc64', 'cold steppe'),
  'Csa': ('#ffff00', 'temperate, dry hot summer'), 'Csb': ('#c8c800', 'temperate, dry warm summer'),
  'Csc': ('#969600', 'temperate, dry cold summer'),
  'Cwa': ('#96ff96', 'temperate, dry winter, hot summer'),
  'Cwb': ('#64c864', 'temperate, dry winter, warm summer'),
  'Cwc': ('#329632', 'temperate, dry winter, cold summer'),
  'Cfa': ('#c8ff50', 'temperate, hot summer'), 'Cfb': ('#64ff50', 'temperate, warm summer'),
  'Cfc': ('#32c800', 'temperate, cold summer'),
  'Dsa': ('#ff00ff', 'cold, dry hot summer'), 'Dsb': ('#c800c8', 'cold, dry warm summer'),
  'Dsc': ('#963296', 'cold, dry cold summer'), 'Dsd': ('#966496', 'cold, dry very cold winter'),
  'Dwa': ('#aaafff', 'cold, dry winter, hot summer'),
  'Dwb': ('#5a78dc', 'cold, dry winter, warm summer'),
  'Dwc': ('#4b50b4', 'cold, dry winter, cold summer'),
  'Dwd': ('#320087', 'cold, dry very cold winter'),
  'Dfa': ('#00ffff', 'cold, hot summer'), 'Dfb': ('#37c8ff', 'cold, warm summer'),
  'Dfc': ('#007d7d', 'cold, cold summer'), 'Dfd': ('#00465f', 'cold, very cold winter'),
  'ET': ('#b2b2b2', 'tundra'), 'EF': ('#666666', 'ice cap'),
}  # fmt: skip
LEGEND_CLASSES = 40  # names of more do not fit
# A patch whose truth is none of the classes. With alpha, to be pale on light and on dark paper.
NO_CLASS = ('#8a8f98', 0.28)


def palette(class_names: Sequence[str]) -> list[str]:
  """A colour for each class: the standard ones for climates, else matplotlib's."""
  if all(name in KOEPPEN for name in class_names):
    return [KOEPPEN[name][0] for name in class_names]
  K = len(class_names)
  if K <= 20:
    return [to_hex(matplotlib.colormaps['tab20'](k)) for k in range(K)]
  return [to_hex(matplotlib.colormaps['hsv'](k / K)) for k in range(K)]


def paint(value_N: np.ndarray, raster: Raster, blank: int) -> np.ndarray:
  """Values of patches -> value_HW over the whole picture, `blank` where no patch lies.

  One cell is the largest square that all patches are made of, so that each patch covers exactly
  its own place; the last cells may reach over the edge. A later patch covers an earlier one.
  """
  cell = cell_size(raster)
  value_HW = np.full((-(-raster.height // cell), -(-raster.width // cell)), blank, value_N.dtype)
  for value, row, col in zip(value_N, raster.row_N // cell, raster.col_N // cell, strict=True):
    value_HW[row : row + raster.patch // cell, col : col + raster.patch // cell] = value
  return value_HW


def cell_size(raster: Raster) -> int:
  """Side of a cell of `paint`, in pixels of the picture."""
  return math.gcd(raster.patch, *raster.row_N.tolist(), *raster.col_N.tolist())


def agreement(predictions: Predictions) -> str:
  """How much of the map is right, in words."""
  assert predictions.raster
  judged_N, held_out_N = predictions.labelled_N, predictions.raster.held_out_N
  if not judged_N.any():
    return 'no patch has a known class'
  words = f'{predictions.correct_N[judged_N].mean():.1%} of {judged_N.sum():,} patches are right'
  if held_out_N is not None and (judged_N & held_out_N).any():
    words += f', {predictions.correct_N[judged_N & held_out_N].mean():.1%} in held-out regions'
  return words


def map_figure(predictions: Predictions) -> Figure:
  """Predicted classes, true classes, where they agree, and a legend with the recall of each."""
  raster = predictions.raster
  assert raster
  colours = palette(predictions.class_names)
  truth_N = np.where(predictions.labelled_N, predictions.label_N, len(colours))
  verdict_N = np.where(predictions.labelled_N, np.where(predictions.correct_N, 1, 0), 2)
  verdicts = {'wrong': plots.WRONG, 'right': plots.RIGHT, 'none of the classes': NO_CLASS}
  if raster.held_out_N is not None:
    verdict_N = np.where(raster.held_out_N | (verdict_N == 2), verdict_N, verdict_N + 3)
    verdicts |= {
      'wrong, training region': (plots.WRONG, 0.4),
      'right, training region': (plots.RIGHT, 0.33),
    }
  with matplotlib.rc_context(plots.STYLE):
    figure = plots.new_figure(10.4, 5.9)
    grid = figure.subplots(2, 2)
    _draw(grid[0, 0], predictions.prediction_N, raster, colours)
    _draw(grid[0, 1], truth_N, raster, [*colours, NO_CLASS])
    _draw(grid[1, 0], verdict_N, raster, list(verdicts.values()))
    grid[0, 0].set_title('Predicted')
    grid[0, 1].set_title('True')
    grid[1, 0].set_title(agreement(predictions).capitalize())
    grid[1, 0].legend(
      handles=[Patch(color=colour, label=word, linewidth=0) for word, colour in verdicts.items()],
      loc='upper center',
      bbox_to_anchor=(0.5, -0.06),
      ncols=len(verdicts),
      fontsize=7,
      handlelength=0.9,
      columnspacing=1.2,
      handletextpad=0.4,
    )
    _legend(grid[1, 1], predictions, raster, colours)
    return figure


def _draw(axes: Axes, class_N: np.ndarray, raster: Raster, colours: Sequence[Any]) -> None:
  """Classes of patches as colours; latitude and longitude if the picture shows the whole Earth."""
  class_HW = paint(class_N.astype(np.int64), raster, blank=-1)
  rgba_HW4 = to_rgba_array([*colours, 'none'])[class_HW]  # -1, no patch, is the last one
  cell, (rows, cols) = cell_size(raster), class_HW.shape
  whole_earth = raster.width == 2 * raster.height  # equirectangular, from pole to pole
  unit = 180 / raster.height if whole_earth else 1
  left, top = (-180, 90) if whole_earth else (0, 0)
  right, bottom = left + cols * cell * unit, top - rows * cell * unit
  axes.imshow(rgba_HW4, extent=(left, right, bottom, top), interpolation='none')
  axes.set(xlim=(left, left + raster.width * unit), ylim=(top - raster.height * unit, top))
  if whole_earth:
    axes.xaxis.set_major_locator(MultipleLocator(60))
    axes.yaxis.set_major_locator(MultipleLocator(30))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _degrees(x, 'EW')))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _degrees(y, 'NS')))
  axes.grid(True, axis='both')
  axes.set_facecolor((*to_rgb(plots.INK), 0.05))
  axes.tick_params(labelsize=7, length=0)
  axes.spines[:].set_visible(False)


def _degrees(angle: float, sides: str) -> str:
  """Such as 60°N. The equator, the first meridian and the date line lie on neither side."""
  side = '' if angle % 180 == 0 else sides[int(angle < 0)]
  return f'{abs(angle):.0f}°{side}'


def _legend(axes: Axes, predictions: Predictions, raster: Raster, colours: Sequence[str]) -> None:
  """A row for each class: its colour and name, and a bar for the share of its patches found."""
  names, judged_N = predictions.class_names, predictions.labelled_N
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
  start, full = 0.58, 0.345  # of a bar that stands for all
  for k, (name, colour) in enumerate(zip(names, colours, strict=True)):
    mine_N = judged_N & (predictions.label_N == k)
    found = predictions.correct_N[mine_N].mean() if mine_N.any() else 0.0
    bars = [
      (0.0, 0.036, 0.36, colour, 1.0),
      (start, full, 0.28, plots.INK, 0.1),
      (start, full * found, 0.28, colour, 1.0),
    ]
    for left, width, half, fill, alpha in bars:
      axes.add_patch(
        Rectangle((left, k - half), width, 2 * half, color=fill, alpha=alpha, linewidth=0)
      )
    axes.text(0.05, k, name, va='center', fontsize=size, fontweight='bold')
    if name in KOEPPEN:
      axes.text(0.125, k, KOEPPEN[name][1], va='center', fontsize=size)
    share = f'{found:.0%}' if mine_N.any() else '-'
    axes.text(1, k, share, va='center', ha='right', fontsize=size)
