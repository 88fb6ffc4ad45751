"""What a ViT has learnt, drawn: filters, positions, distances (arXiv:2010.11929, Figure 7), and
where it looks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vit_jax.data.augment import normalise
from vit_jax.errors import RunFault, UserError
from vit_jax.models.embedding import sincos2d
from vit_jax.report import attention, plots
from vit_jax.report.run import Run
from vit_jax.transfer.features import attention_weights, in_batches
from vit_jax.transfer.predict import Predictor, make_predictor
from vit_jax.trees import flatten

FILTERS, FILTERS_A_ROW = 28, 7  # as many as in the paper's figure
MAPS = 8  # of positions, at most so many down and across
SHOWN = 6  # images beside their attention

Array = jax.Array


class Learned(NamedTuple):
  """Of a model with attention over patches; what it does not have is None.

  `filters_FPPC` are the first principal components of the patch embedding's filters, and
  `explained` is their share of the variance; `similarity_NN` is the cosine of the position
  embeddings of any two patches, `distance_LA` the mean attention distance of each head in pixels,
  `uniform` that of uniform attention, and `stacks` the attention of the first SHOWN images, mean
  over heads, as `attention.attention_maps` takes it.
  """

  grid: tuple[int, int]
  filters_FPPC: np.ndarray | None
  explained: float
  similarity_NN: np.ndarray | None
  distance_LA: np.ndarray
  uniform: float
  stacks: Mapping[str, np.ndarray]
  has_class_token: bool


def section(run: Run, of: str) -> str:
  """The part of a run's page, HTML, with `of` after its headline; '' where there is none to show.

  A run that has not ended has none: to read its checkpoints could disturb it.
  """
  judged = next((run.predictions[name] for name in run.evals if name in run.predictions), None)
  if judged is None or not run.summary or not (run.path / 'checkpoints').is_dir():
    return ''
  images_SHWC = judged.images_SHWC
  try:
    learned = look(make_predictor('', str(run.path), Path()), images_SHWC)
  except (UserError, RunFault, OSError) as error:
    return (
      f'<p class="note">Without pictures of what the model has learnt: {escape(str(error))}</p>'
    )
  if learned is None:
    return ''
  figures = [
    _figure(
      'Filters',
      "principal components of the patch embedding's",
      filters_figure(learned),
      _words_of_filters(learned) + of,
    )
    if learned.filters_FPPC is not None
    else '',
    _figure(
      'Positions',
      'cosine similarity of the embedding of each patch with all others',
      positions_figure(learned),
      _words_of_positions(learned) + of,
    )
    if learned.similarity_NN is not None
    else '',
    _figure(
      'Attention distance',
      f'of each head, mean of {len(images_SHWC)} images; dotted: uniform attention',
      distance_figure(learned),
      _words_of_distance(learned) + of,
    ),
  ]
  maps_BHW, words = attention.attention_maps(
    learned.stacks, learned.grid, learned.has_class_token, rollout=False
  )
  shown = min(SHOWN, len(images_SHWC))
  labels = [int(judged.label_N[n]) for n in judged.sample_S[:shown]]
  looks = attention.picture(
    images_SHWC[:shown], maps_BHW[:shown], [judged.class_names[k] if k >= 0 else '' for k in labels]
  )
  return (
    f'<h2>What the model has learnt{escape(of)}</h2>\n<div class="pair">'
    f'{chr(10).join(filter(None, figures))}</div>\n'
    + _figure(
      'Attention',
      words,
      looks,
      f'{shown} images, each beside itself lit where the attention is ({words}){of}',
    )
  )


def look(predictor: Predictor, images_NHWC: np.ndarray) -> Learned | None:
  """What a model has learnt; None where it has no attention over patches.

  Args:
    images_NHWC: uint8, of the model's size; distances are means over them.
  """
  flat = flatten(predictor.variables['params'])
  if not any(name.startswith(f'{attention.SELF}/attention/') for name in flat):
    return None
  rows, columns = predictor.grid
  height, width, channels = predictor.image_shape
  distance_NN = distances((rows, columns), (height / rows, width / columns))

  def attend(variables: Any, images_BHWC: Array) -> tuple[dict[str, Array], Array]:
    seen_BHWC = normalise(images_BHWC, predictor.mean, predictor.std)
    weights = attention_weights(predictor.model, variables, seen_BHWC)
    distance_LBA = attention_distance(weights[attention.SELF], jnp.asarray(distance_NN))
    stacks = {
      name: jnp.mean(weights_LBANT, axis=2).swapaxes(0, 1)
      for name, weights_LBANT in weights.items()
    }
    return stacks, distance_LBA.swapaxes(0, 1)

  attended = in_batches(attend, predictor.variables, 1)
  stacks, first_BLA = attended(images_NHWC[:SHOWN])
  # The weights of so many images at a time: those of all could fill the memory.
  others = [
    attended(images_NHWC[start : start + SHOWN])[1]
    for start in range(SHOWN, len(images_NHWC), SHOWN)
  ]
  distance_BLA = np.concatenate([first_BLA, *others])
  filters_FPPC, explained = None, 0.0
  stem = {name for name in flat if name.startswith('embedding/')}
  beside = {'embedding/bias', 'embedding/histogram'}
  if stem - beside == {'embedding/kernel'} and len(flat['embedding/kernel']) > 1:
    filters_FPPC, explained = principal_components(np.asarray(flat['embedding/kernel']))
  similarity_NN = None
  if 'pos_embedding' in flat:
    similarity_NN = similarity(np.asarray(flat['pos_embedding'])[0, -rows * columns :])
  elif getattr(predictor.model, 'posemb', '') == 'sincos2d':
    similarity_NN = similarity(sincos2d(rows, columns, predictor.model.width)[0])
  return Learned(
    (rows, columns),
    filters_FPPC,
    explained,
    similarity_NN,
    distance_BLA.mean(0),
    float(distance_NN.mean()),
    stacks,
    predictor.has_class_token,
  )


def distances(grid: tuple[int, int], patch: tuple[float, float]) -> np.ndarray:
  """Pixels between the middles of any two patches, (N, N) in float32.

  Args:
    grid: rows and columns of patches.
    patch: height and width of one, in pixels.
  """
  places_N2 = np.indices(grid).reshape(2, -1).T * np.array(patch)
  return np.linalg.norm(places_N2[:, None] - places_N2[None], axis=-1).astype(np.float32)


def attention_distance(weights_LBANT: Array, distance_NN: Array) -> Array:
  """Mean over patches of the distance to the patches they attend to, weighted by the attention.

  What they attend to beside patches (a class token, registers) is nowhere: the weights of the
  patches, the last of the tokens, are scaled to sum to one. Returns (L, B, A).
  """
  N = len(distance_NN)
  weights_LBANN = weights_LBANT[..., -N:, -N:]
  weights_LBANN /= jnp.sum(weights_LBANN, axis=-1, keepdims=True)
  return (
    jnp.einsum('lbant,nt->lba', weights_LBANN, distance_NN, precision=jax.lax.Precision.HIGHEST) / N
  )


def principal_components(kernel_PPCD: np.ndarray, count: int = FILTERS) -> tuple[np.ndarray, float]:
  """(the first components of the D filters, (F, P, P, C); their share of the variance).

  Their sign, which means nothing, makes the entry of largest magnitude positive.
  """
  filters_DV = kernel_PPCD.reshape(-1, kernel_PPCD.shape[-1]).T.astype(np.float64)
  _, strength_F, components_FV = np.linalg.svd(filters_DV - filters_DV.mean(0), full_matrices=False)
  shown_FV = components_FV[:count]
  peaks_F1 = np.take_along_axis(shown_FV, np.abs(shown_FV).argmax(1)[:, None], axis=1)
  variance_F = strength_F**2
  explained = variance_F[:count].sum() / max(variance_F.sum(), np.finfo(float).tiny)
  shape = -1, *kernel_PPCD.shape[:3]
  return (shown_FV * np.sign(peaks_F1)).reshape(shape), float(explained)


def similarity(table_ND: np.ndarray) -> np.ndarray:
  """Cosine of any two rows, (N, N)."""
  table_ND = table_ND.astype(np.float64)
  length_N1 = np.linalg.norm(table_ND, axis=1, keepdims=True)
  unit_ND = table_ND / np.maximum(length_N1, np.finfo(float).tiny)
  return unit_ND @ unit_ND.T


def _figure(title: str, note: str, figure: Figure, words: str) -> str:
  return (
    f'<figure><figcaption>{escape(title)} <small>{escape(note)}</small></figcaption>'
    f'{plots.to_svg(figure, words)}</figure>'
  )


def _tiles(tiles_RCHW: np.ndarray, gap: int = 1) -> np.ndarray:
  """Pictures (rows, columns, H, W, ...) as one, transparent (NaN) between them."""
  rows, columns, height, width, *rest = tiles_RCHW.shape
  after = [(0, 0), (0, 0), (0, gap), (0, gap), *((0, 0) for _ in rest)]
  padded = np.pad(tiles_RCHW, after, constant_values=np.nan).swapaxes(1, 2)
  return padded.reshape(rows * (height + gap), columns * (width + gap), *rest)[:-gap, :-gap]


def filters_figure(learned: Learned) -> Figure:
  assert learned.filters_FPPC is not None
  F, P, _, C = learned.filters_FPPC.shape
  peak_F111 = np.abs(learned.filters_FPPC).max((1, 2, 3), keepdims=True)
  scaled_FPPC = 0.5 + learned.filters_FPPC / (2 * np.maximum(peak_F111, np.finfo(float).tiny))
  rows = math.ceil(F / FILTERS_A_ROW)
  shown = np.full((rows * FILTERS_A_ROW, P, P, 4), np.nan)
  shown[:F] = 1.0
  shown[:F, ..., :3] = scaled_FPPC if C == 3 else scaled_FPPC.mean(-1, keepdims=True)
  rgba_HW4 = _tiles(shown.reshape(rows, FILTERS_A_ROW, P, P, 4))
  with matplotlib.rc_context(plots.STYLE):
    figure = plots.new_figure(5.2, 5.2 * rows / FILTERS_A_ROW)
    axes = figure.add_subplot()
    axes.imshow(np.nan_to_num(rgba_HW4), interpolation='none')
    axes.set_axis_off()
    return figure


def positions_figure(learned: Learned) -> Figure:
  assert learned.similarity_NN is not None
  rows, columns = learned.grid
  maps_RCHW = learned.similarity_NN.reshape(rows, columns, rows, columns)
  some = [
    np.unique(np.linspace(0, side - 1, min(side, MAPS)).round().astype(int))
    for side in (rows, columns)
  ]
  shown_HW = _tiles(maps_RCHW[np.ix_(*some)])
  with matplotlib.rc_context(plots.STYLE):
    figure = plots.new_figure(5.2, 4.4)
    axes = figure.add_subplot()
    picture = axes.imshow(shown_HW, cmap='viridis', vmax=1, interpolation='none')
    for axis, side, chosen in ((axes.yaxis, rows, some[0]), (axes.xaxis, columns, some[1])):
      axis.set_ticks(
        (side - 1) / 2 + (side + 1) * np.arange(len(chosen)), [str(place + 1) for place in chosen]
      )
    axes.set(xlabel='column of the patch', ylabel='row of the patch')
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(picture, ax=axes, shrink=0.8)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def distance_figure(learned: Learned) -> Figure:
  L, A = learned.distance_LA.shape
  with matplotlib.rc_context(plots.STYLE):
    figure = plots.new_figure(5.2, 3.6)
    axes = figure.add_subplot()
    axes.axhline(learned.uniform, color=plots.INK, alpha=0.55, linewidth=1, linestyle=(0, (1, 2)))
    for distance_L, colour in zip(learned.distance_LA.T, plots.colours(A), strict=False):
      axes.plot(np.arange(1, L + 1), distance_L, 'o', alpha=0.8, markersize=5, color=colour)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set(xlabel='layer', ylabel='pixels', xlim=(0.5, L + 0.5))
    axes.set_ylim(0, 1.1 * max(learned.uniform, learned.distance_LA.max()))
    return figure


def _words_of_filters(learned: Learned) -> str:
  assert learned.filters_FPPC is not None
  return (
    f"The first {len(learned.filters_FPPC)} principal components of the patch embedding's "
    f'filters, which hold {learned.explained:.0%} of their variance'
  )


def _words_of_positions(learned: Learned) -> str:
  assert learned.similarity_NN is not None
  near_NN = distances(learned.grid, (1, 1)) == 1
  others = ~near_NN & ~np.eye(len(near_NN), dtype=bool)
  words = [
    f'{name} {learned.similarity_NN[which].mean():.2f}'
    for name, which in (('neighbours', near_NN), ('others', others))
    if which.any()
  ]
  return f'Cosine similarity of position embeddings; means: {", ".join(words) or "one patch"}'


def _words_of_distance(learned: Learned) -> str:
  layers = [
    f'layer {layer}: {distance_A.min():.1f} to {distance_A.max():.1f}, mean {distance_A.mean():.1f}'
    for layer, distance_A in enumerate(learned.distance_LA, 1)
  ]
  return (
    f'Mean attention distance of the heads in pixels; {"; ".join(layers)}; uniform attention '
    f'has {learned.uniform:.1f}'
  )
