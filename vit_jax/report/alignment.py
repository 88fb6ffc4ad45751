"""Drawings of what a translation model looks at in the source."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vit_jax.errors import UserError
from vit_jax.report import plots
from vit_jax.writes import output

GOLD = '#e5484d'  # frames


@plots.styled
def alignment_figure(
  weights_TS: np.ndarray,
  source: Sequence[str],
  target: Sequence[str],
  links: Collection[tuple[int, int]] = (),
) -> Figure:
  """A heat map of attention weights, target down, source across (arXiv:1409.0473 Figure 3).

  Args:
    weights_TS: one row for each word or token of `target`.
    links: gold ones, (source, target); drawn as frames.
  """
  figure, axes = plots.new_axes(1.2 + 0.3 * len(source), 0.9 + 0.26 * len(target))
  shown_TS = weights_TS[: len(target), : len(source)]
  axes.imshow(shown_TS, cmap=plots.BLUES, vmin=0, vmax=1, aspect='auto', interpolation='none')
  axes.set_xticks(range(len(source)), source, rotation=60, ha='left', rotation_mode='anchor')
  axes.set_yticks(range(len(target)), target)
  axes.xaxis.tick_top()
  axes.grid(False)
  axes.tick_params(length=0)
  for s, t in links:
    axes.add_patch(Rectangle((s - 0.5, t - 0.5), 1, 1, fill=False, color=GOLD, linewidth=1.2))
  return figure


def draw(weights: Sequence[np.ndarray], source: str, target: str, path: Path) -> None:
  """Writes the heat map of a sentence and its translation as a PNG.

  Args:
    weights: as `Translator.alignments` gives them, of one sentence.

  Raises:
    UserError: the translation is empty, or the file cannot be written.
  """
  if not target:
    raise UserError('--attention: the translation of the first sentence is empty')
  figure = alignment_figure(weights[0], source.split(), target.split())
  with output(path) as file:
    plots.save_png(figure, file)
