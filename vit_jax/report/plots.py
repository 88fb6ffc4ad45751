"""Figures of a run, and figures as SVG that takes on the colors of the page."""

import html
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter
from PIL import Image

from vit_jax.run.predictions import Predictions

INK = '#1f2430'  # text and axes; `to_svg` makes it the text color of the page, light or dark
COLORS = ('#3b82f6', '#f2802b', '#16a37f', '#d6409f', '#8b5cf6', '#0ea5b7')  # read on both
RIGHT, WRONG = '#3b82f6', '#f2802b'
LONG_LABEL = 24  # letters; longer ones go below the picture
BINS = 250  # of a curve: more than its picture has room for
CALIBRATION_BINS = 15  # as in the metric `ece`
STYLE: dict[Any, Any] = {
  'font.family': 'sans-serif', 'font.sans-serif': ['DejaVu Sans'], 'font.size': 9,
  'text.color': INK, 'axes.labelcolor': INK, 'axes.edgecolor': INK, 'axes.linewidth': 0.6,
  'axes.spines.top': False, 'axes.spines.right': False, 'axes.facecolor': 'none',
  'axes.titlesize': 9.5, 'axes.titlelocation': 'left', 'axes.titlepad': 6,
  'axes.grid': True, 'axes.grid.axis': 'y', 'axes.axisbelow': True,
  'grid.color': INK, 'grid.alpha': 0.13, 'grid.linewidth': 0.6,
  'xtick.color': INK, 'ytick.color': INK, 'xtick.major.width': 0.6, 'ytick.major.width': 0.0,
  'xtick.major.size': 3, 'ytick.major.size': 0,
  'legend.frameon': False, 'legend.handlelength': 1.4, 'lines.linewidth': 1.6,
  'lines.solid_capstyle': 'round', 'svg.fonttype': 'none',
  'text.parse_math': False,  # a class may be called $1 or $5
}  # fmt: skip
styled = matplotlib.rc_context(STYLE)  # decorates functions that draw
# From transparent, not from white: zero is the page itself.
BLUES = LinearSegmentedColormap.from_list('blues', [(0.15, 0.39, 0.92, a) for a in (0, 1)])
DOTTED: dict[str, Any] = dict(color=INK, alpha=0.55, linewidth=1, linestyle=(0, (1, 2)))


@dataclass(frozen=True)
class Line:
  """A curve over steps."""

  label: str
  step_T: np.ndarray
  value_T: np.ndarray
  color: str
  points: bool = False  # mark each value, as nothing was measured between them
  faint: bool = False


def colors(count: int) -> Sequence[str]:
  """That many distinguishable colors, or more."""
  if count <= len(COLORS):
    return COLORS
  return [to_hex(matplotlib.colormaps['turbo'](i / (count - 1))) for i in range(count)]


def shown(name: str) -> str:
  """A label for a legend: matplotlib hides those that begin with '_'."""
  return f'\u200b{name}' if name.startswith('_') else name  # a space of no width


def new_figure(width: float, height: float) -> Figure:
  """A transparent figure, in inches; for functions that are `styled`."""
  return Figure((width, height), layout='constrained', facecolor='none')


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
  figure = new_figure(width, height)
  return figure, figure.add_subplot()


@styled
def curves(
  lines: Sequence[Line],
  *,
  percent: bool = False,
  from_zero: bool = False,
  levels: Mapping[str, float] | None = None,
) -> Figure:
  """Curves over steps in one picture, with dotted horizontal lines at named levels."""
  figure, axes = new_axes(5.2, 2.9)
  for line in lines:
    marker = 'o' if line.points or len(line.step_T) == 1 else None
    style: dict[str, Any] = dict(color=line.color, alpha=0.4 if line.faint else 1, marker=marker)
    step_T, value_T = thinned(line.step_T, line.value_T)
    axes.plot(step_T, value_T, label=shown(line.label), markersize=3.2, **style)
  for label, value in (levels or {}).items():
    axes.axhline(value, **DOTTED)
    offset: dict[str, Any] = dict(xytext=(3, 3), textcoords='offset points')
    place = ('axes fraction', 'data')
    axes.annotate(label, (0, value), xycoords=place, fontsize=7.5, alpha=0.8, **offset)
  axes.set_xlabel('step')
  axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
  axes.xaxis.set_major_formatter(EngFormatter(sep=''))
  if percent:
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
  if from_zero:
    axes.set_ylim(bottom=0)
  if any(len(line.label) > LONG_LABEL for line in lines):
    figure.legend(loc='outside lower left', fontsize=8)
    figure.set_figheight(figure.get_figheight() + 0.17 * len(lines))
  elif len(lines) > 1:
    axes.legend(fontsize=8, ncols=1 if len(lines) < 5 else 2)
  return figure


def thinned(
  step_T: np.ndarray, value_T: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray]:
  """A curve of at most 4 points a bin: its first, least, greatest and last values are all kept."""
  T = len(step_T)
  if T <= 4 * bins:
    return step_T, value_T
  kept = {0, T - 1}
  for start, end in itertools.pairwise(np.linspace(0, T, bins + 1).astype(int).tolist()):
    part = value_T[start:end]
    gaps = np.flatnonzero(~np.isfinite(part))[:1].tolist()  # a gap stays one
    finite = np.where(np.isfinite(part), part, 0)
    kept |= {start + i for i in (0, int(finite.argmin()), int(finite.argmax()), *gaps)}
  index = np.array(sorted(kept))
  return step_T[index], value_T[index]


def rgb(image_HWC: np.ndarray) -> np.ndarray:
  """uint8 (H, W, 3) of an image of any number of channels: gray, or the first three."""
  channels = image_HWC.shape[-1]
  shown_HWC = np.ascontiguousarray(image_HWC[..., : 3 if channels >= 3 else 1])
  return np.broadcast_to(shown_HWC, (*image_HWC.shape[:2], 3))


@styled
def confusion(predictions: Predictions) -> Figure:
  """How the examples of each true class (a row) are divided over the predicted ones."""
  counts_KK, names = predictions.confusion_KK, predictions.class_names
  K = len(names)
  share_KK = counts_KK / np.maximum(counts_KK.sum(1, keepdims=True), 1)
  side = min(max(3.2, 0.36 * K + 1.2), 11)
  figure, axes = new_axes(side, side * 0.97)
  axes.imshow(share_KK, cmap=BLUES, vmin=0, vmax=1, interpolation='none')
  for true, predicted in zip(*np.nonzero(counts_KK), strict=True):
    share = share_KK[true, predicted]
    if K <= 32 and share >= 0.005:
      color = 'white' if share > 0.5 else INK
      words = f'{100 * share:.0f}'
      axes.text(predicted, true, words, ha='center', va='center', fontsize=7, color=color)
  axes.set_xticks(range(K), names, rotation=0 if max(map(len, names)) <= 3 else 90)
  axes.set_yticks(range(K), names)
  axes.tick_params(length=0, labelsize=8 if K <= 32 else 5)
  axes.grid(False)
  axes.spines[:].set_visible(False)
  axes.set_xlabel('predicted')
  axes.set_ylabel('true', labelpad=7)
  return figure


@styled
def reliability(predictions: Predictions) -> Figure:
  """Accuracy against confidence in bins of equal width; calibrated means on the diagonal."""
  labeled_N, M = predictions.labeled_N, CALIBRATION_BINS
  bin_N = np.minimum((predictions.confidence_N[labeled_N] * M).astype(int), M - 1)
  count_M = np.bincount(bin_N, minlength=M)
  right_M = np.bincount(bin_N, predictions.correct_N[labeled_N], M)
  center_M = (np.arange(M) + 0.5) / M
  filled = count_M > 0
  figure = new_figure(5.2, 4.2)
  upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
  upper.plot((0, 1), (0, 1), **DOTTED)
  upper.bar(center_M[filled], right_M[filled] / count_M[filled], 0.9 / M, color=COLORS[0])
  upper.set(xlim=(0, 1), ylim=(0, 1), ylabel='accuracy')
  lower.bar(center_M, count_M / max(count_M.sum(), 1), 0.9 / M, color=INK, alpha=0.35)
  lower.set(xlabel='confidence', ylabel='share')
  for axis in (upper.xaxis, upper.yaxis, lower.yaxis):
    axis.set_major_formatter(PercentFormatter(1, decimals=0))
  lower.yaxis.set_major_locator(MaxNLocator(2))
  return figure


def to_svg(figure: Figure, description: str) -> str:
  """The figure as an inline <svg> as wide as its container, legible on light and on dark."""
  stream = io.StringIO()
  # The salt makes ids differ between the figures of a page, and repeat from run to run.
  with matplotlib.rc_context({**STYLE, 'svg.hashsalt': description}):
    nothing = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
    figure.savefig(stream, format='svg', metadata=nothing)
  head, body = stream.getvalue().split('<svg', 1)[1].split('>', 1)
  head = re.sub(r' (width|height)="[^"]*"', '', head)
  body = re.sub(r' id="[\w.]+_\d+"', '', body)  # unused, and repeated between figures
  body = body.replace(INK, 'currentColor').replace('font-family: sans-serif; ', '')
  return f'<svg role="img" aria-label="{html.escape(description)}"{head}>{body}'


@styled
def save_png(figure: Figure, path: Path | IO[bytes]) -> None:
  """The figure on white, with at most 256 colors, which makes a flat picture small."""
  stream = io.BytesIO()
  figure.savefig(stream, format='png', dpi=150, facecolor='white')
  image = Image.open(stream).convert('RGB').quantize(256, dither=Image.Dither.NONE)
  image.save(path, 'PNG', optimize=True)
