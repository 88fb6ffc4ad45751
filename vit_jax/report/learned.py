"""What a ViT has learned: filters, positions, attention distances (arXiv:2010.11929, Figure 7) and
attention maps."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.ticker import MaxNLocator

from vit_jax.data.augment import normalize
from vit_jax.errors import RunFault, UserError
from vit_jax.evaluate.features import attention_weights, in_batches
from vit_jax.models.embedding import sincos2d
from vit_jax.report import attention, plots
from vit_jax.report.render import Picture, picture
from vit_jax.run import Run
from vit_jax.trees import flatten
from vit_jax.weights import Opened
from vit_jax.weights import open as open_weights

FILTERS, FILTERS_PER_ROW = 28, 7  # as many as in the paper's figure
MAPS = 8  # of positions, at most, down and across
SHOWN = 6  # images beside their attention

Array = jax.Array


class Learned(NamedTuple):
  """What `look` reads from a model; None where the model does not have it."""

  grid: tuple[int, int]
  filters_FPPC: np.ndarray | None  # first principal components of the patch embedding's filters
  explained: float  # their share of the variance
  similarity_NN: np.ndarray | None  # cosine of the position embeddings of any two patches
  distance_LA: np.ndarray  # mean attention distance of each head, in pixels
  uniform: float  # that of uniform attention
  stacks: Mapping[str, np.ndarray]  # as `attention_maps` takes them, of the first SHOWN images
  has_class_token: bool


class Section(NamedTuple):
  """The part of a run's page; only a `fault` if the weights could not be read."""

  pictures: Sequence[Picture] = ()
  attention: Picture | None = None
  fault: str = ''


def section(run: Run, of: str) -> Section:
  """Pictures of a run, empty for a model without attention; `of` ends their descriptions.

  A run that has not ended has none: reading its checkpoints could disturb it.
  """
  judged = next((run.predictions[name] for name in run.evals if name in run.predictions), None)
  if judged is None or not run.summary or not (run.path / 'checkpoints').is_dir():
    return Section()
  images_SHWC = judged.images_SHWC
  try:
    learned = look(open_weights(run.path), images_SHWC)
  except (UserError, RunFault, OSError) as error:
    return Section(fault=str(error))
  if learned is None:
    return Section()
  pictures = []
  if learned.filters_FPPC is not None:
    pictures.append(_filters(learned.filters_FPPC, learned.explained, of))
  if learned.similarity_NN is not None:
    pictures.append(_positions(learned.similarity_NN, learned.grid, of))
  pictures.append(_distance(learned.distance_LA, learned.uniform, len(images_SHWC), of))
  maps_BHW, words = attention.attention_maps(
    learned.stacks, learned.grid, learned.has_class_token, rollout=False
  )
  shown = len(maps_BHW)
  labels = judged.label_N[judged.sample_S[:shown]]
  names = [judged.class_names[k] if k >= 0 else '' for k in labels]
  looks = attention.picture(images_SHWC[:shown], maps_BHW, names)
  description = f'{shown} images, each beside itself lit where the attention is ({words}){of}'
  return Section(pictures, picture(looks, description, 'Attention', words))


def look(opened: Opened, images_NHWC: np.ndarray) -> Learned | None:
  """What a model has learned; None where it has no attention over patches.

  Args:
    images_NHWC: uint8, of the model's size; distances are means over them.
  """
  flat = flatten(opened.variables['params'])
  if not any(name.startswith(f'{attention.SELF}/attention/') for name in flat):
    return None
  rows, columns = opened.grid
  height, width, _ = opened.view.image_shape
  distance_NN = distances((rows, columns), (height / rows, width / columns))

  def attend(variables: Any, images_BHWC: Array) -> tuple[dict[str, Array], Array]:
    seen_BHWC = normalize(images_BHWC, opened.mean, opened.std)
    weights = attention_weights(opened.model, variables, seen_BHWC)
    distance_LBA = attention_distance(weights[attention.SELF], jnp.asarray(distance_NN))
    stacks = {
      name: jnp.mean(weights_LBANT, axis=2).swapaxes(0, 1)
      for name, weights_LBANT in weights.items()
    }
    return stacks, distance_LBA.swapaxes(0, 1)

  # A few images at a time: the weights of all could fill the memory.
  attended = in_batches(attend, opened.variables, 1)
  stacks, first_BLA = attended(images_NHWC[:SHOWN])
  starts = range(SHOWN, len(images_NHWC), SHOWN)
  others = [attended(images_NHWC[start : start + SHOWN])[1] for start in starts]
  distance_BLA = np.concatenate([first_BLA, *others])
  filters_FPPC, explained = None, 0.0
  stem = {name for name in flat if name.startswith('embedding/')}
  if stem - {'embedding/bias'} == {'embedding/kernel'} and len(flat['embedding/kernel']) > 1:
    filters_FPPC, explained = principal_components(np.asarray(flat['embedding/kernel']))
  similarity_NN = None
  if 'pos_embedding' in flat:
    similarity_NN = similarity(np.asarray(flat['pos_embedding'])[0, -rows * columns :])
  elif getattr(opened.model.options, 'posemb', '') == 'sincos2d':
    similarity_NN = similarity(sincos2d(rows, columns, opened.model.options.width)[0])
  return Learned(
    (rows, columns),
    filters_FPPC,
    explained,
    similarity_NN,
    distance_BLA.mean(0),
    float(distance_NN.mean()),
    stacks,
    getattr(opened.model.options, 'pool', '') == 'cls',
  )


def distances(grid: tuple[int, int], patch: tuple[float, float]) -> np.ndarray:
  """Pixels between the centers of any two patches of that height and width, (N, N) in float32."""
  places_N2 = np.indices(grid).reshape(2, -1).T * np.array(patch)
  return np.linalg.norm(places_N2[:, None] - places_N2[None], axis=-1).astype(np.float32)


def attention_distance(weights_LBANT: Array, distance_NN: Array) -> Array:
  """Distance from a patch to those it attends to, weighted by attention, (L, B, A).

  Other tokens (a class token, registers) have no position: the weights of the patches, the last
  tokens, are scaled to sum to one. The result is the mean over patches.
  """
  N = len(distance_NN)
  weights_LBANN = weights_LBANT[..., -N:, -N:]
  weights_LBANN /= jnp.sum(weights_LBANN, axis=-1, keepdims=True)
  return (
    jnp.einsum('lbant,nt->lba', weights_LBANN, distance_NN, precision=jax.lax.Precision.HIGHEST) / N
  )


def principal_components(kernel_PPCD: np.ndarray, count: int = FILTERS) -> tuple[np.ndarray, float]:
  """(the first components of the D filters, (F, P, P, C); their share of the variance).

  Their sign is arbitrary; the entry of largest magnitude is made positive.
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


def _tiles(tiles_RCHW: np.ndarray, gap: int = 1) -> np.ndarray:
  """Pictures (rows, columns, H, W, ...) as one, transparent (NaN) between them."""
  rows, columns, height, width, *rest = tiles_RCHW.shape
  after = [(0, 0), (0, 0), (0, gap), (0, gap), *((0, 0) for _ in rest)]
  padded = np.pad(tiles_RCHW, after, constant_values=np.nan).swapaxes(1, 2)
  return padded.reshape(rows * (height + gap), columns * (width + gap), *rest)[:-gap, :-gap]


@plots.styled
def _filters(filters_FPPC: np.ndarray, explained: float, of: str) -> Picture:
  F, P, _, C = filters_FPPC.shape
  peak_F111 = np.abs(filters_FPPC).max((1, 2, 3), keepdims=True)
  scaled_FPPC = 0.5 + filters_FPPC / (2 * np.maximum(peak_F111, np.finfo(float).tiny))
  rows = math.ceil(F / FILTERS_PER_ROW)
  shown = np.full((rows * FILTERS_PER_ROW, P, P, 4), np.nan)
  shown[:F] = 1.0
  shown[:F, ..., :3] = scaled_FPPC if C == 3 else scaled_FPPC.mean(-1, keepdims=True)
  rgba_HW4 = _tiles(shown.reshape(rows, FILTERS_PER_ROW, P, P, 4))
  figure, axes = plots.new_axes(5.2, 5.2 * rows / FILTERS_PER_ROW)
  axes.imshow(np.nan_to_num(rgba_HW4), interpolation='none')
  axes.set_axis_off()
  note = "principal components of the patch embedding's"
  words = f'The first {F} {note} filters, which hold {explained:.0%} of their variance{of}'
  return picture(figure, words, 'Filters', note)


@plots.styled
def _positions(similarity_NN: np.ndarray, grid: tuple[int, int], of: str) -> Picture:
  rows, columns = grid
  maps_RCHW = similarity_NN.reshape(rows, columns, rows, columns)
  some = [
    np.unique(np.linspace(0, side - 1, min(side, MAPS)).round().astype(int))
    for side in (rows, columns)
  ]
  shown_HW = _tiles(maps_RCHW[np.ix_(*some)])
  figure, axes = plots.new_axes(5.2, 4.4)
  image = axes.imshow(shown_HW, cmap='viridis', vmax=1, interpolation='none')
  for axis, side, chosen in ((axes.yaxis, rows, some[0]), (axes.xaxis, columns, some[1])):
    middles = (side - 1) / 2 + (side + 1) * np.arange(len(chosen))
    axis.set_ticks(middles, [str(place + 1) for place in chosen])
  axes.set(xlabel='column of the patch', ylabel='row of the patch')
  axes.grid(False)
  axes.tick_params(length=0)
  axes.spines[:].set_visible(False)
  bar = figure.colorbar(image, ax=axes, shrink=0.8)
  bar.outline.set_visible(False)  # type: ignore[operator]
  near_NN = distances(grid, (1, 1)) == 1
  others_NN = ~near_NN & ~np.eye(len(near_NN), dtype=bool)
  means = ', '.join(
    f'{name} {similarity_NN[which_NN].mean():.2f}'
    for name, which_NN in (('neighbors', near_NN), ('others', others_NN))
    if which_NN.any()
  )
  words = f'Cosine similarity of position embeddings; means: {means or "one patch"}{of}'
  note = 'cosine similarity of the embedding of each patch with all others'
  return picture(figure, words, 'Positions', note)


@plots.styled
def _distance(distance_LA: np.ndarray, uniform: float, images: int, of: str) -> Picture:
  L, A = distance_LA.shape
  figure, axes = plots.new_axes(5.2, 3.6)
  axes.axhline(uniform, **plots.DOTTED)
  for distance_L, color in zip(distance_LA.T, plots.colors(A), strict=False):
    axes.plot(np.arange(1, L + 1), distance_L, 'o', alpha=0.8, markersize=5, color=color)
  axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
  axes.set(xlabel='layer', ylabel='pixels', xlim=(0.5, L + 0.5))
  axes.set_ylim(0, 1.1 * max(uniform, distance_LA.max()) or 1.0)  # all 0 with a single patch
  layers = '; '.join(
    f'layer {layer}: {distance_A.min():.1f} to {distance_A.max():.1f}, mean {distance_A.mean():.1f}'
    for layer, distance_A in enumerate(distance_LA, 1)
  )
  words = (
    f'Mean attention distance of the heads in pixels; {layers}; uniform attention has '
    f'{uniform:.1f}{of}'
  )
  note = f'of each head, mean of {images} images; dotted: uniform attention'
  return picture(figure, words, 'Attention distance', note)
