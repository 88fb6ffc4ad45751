"""Where a model looks: attention over the patches of an image, drawn beside it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from vit_jax.errors import UserError
from vit_jax.evaluate.images import Images
from vit_jax.evaluate.predict import attend
from vit_jax.report import plots
from vit_jax.weights import Opened
from vit_jax.writes import output

# Stacks of layers by their place in the model's tree.
SELF, CLASS, MAP = 'encoder/blocks', 'class_blocks', 'map_head'
PAIRS_PER_ROW = 3
DRAWN = 12  # images that `write` draws
SIDE = 1.7  # of a picture, in inches


def attention_maps(
  stacks: Mapping[str, np.ndarray], grid: tuple[int, int], has_class_token: bool, rollout: bool
) -> tuple[np.ndarray, str]:
  """Attention to each patch, (images, *grid), and a description of it.

  It is the attention of the token or query that the head reads, in the last layer, or rolled out
  over depth (Abnar and Zuidema 2020, arXiv:2005.00928, section 3): the product of the layers'
  weights, each averaged with the identity for the skip connection.

  Args:
    stacks: weights (images, layers, queries, keys) of each stack of layers, mean over heads. The
      patches are the last keys.
    has_class_token: whether, without class blocks or a map head, the head reads the first token
      and not the mean over the patches.

  Raises:
    UserError: the model has no attention.
  """
  if not stacks:
    raise UserError('--attention: this model has no attention to draw; a ViT or a CaiT has')
  patches = math.prod(grid)
  if CLASS in stacks:
    reader = 'class token'
    row_BT = _class_attention(stacks[CLASS][:, :, 0], rollout)
  elif MAP in stacks:
    reader = 'probe of the head'
    row_BT = stacks[MAP][:, -1, 0]
  else:
    reader = 'class token' if has_class_token else 'mean over patches'
    count, _, _, tokens = stacks[SELF].shape
    row_BT = np.zeros((count, tokens))
    row_BT[:, 0 if has_class_token else slice(tokens - patches, None)] = 1
    row_BT /= row_BT.sum(1, keepdims=True)
    if not rollout:
      row_BT = _through(row_BT, stacks[SELF][:, -1])
  if rollout:
    others = stacks[SELF].shape[-1] - row_BT.shape[1]  # tokens that the reader cannot see
    row_BT = np.pad(row_BT, ((0, 0), (others, 0)))
    for layer in reversed(range(stacks[SELF].shape[1])):
      row_BT = 0.5 * row_BT + 0.5 * _through(row_BT, stacks[SELF][:, layer])
  words = f'{reader}, {"rollout over depth" if rollout else "last layer"}, mean of heads'
  return row_BT[:, -patches:].reshape(-1, *grid), words


def _through(row_BN: np.ndarray, weights_BNT: np.ndarray) -> np.ndarray:
  return np.einsum('bn,bnt->bt', row_BN, weights_BNT)


def _class_attention(weights_BLT: np.ndarray, rollout: bool) -> np.ndarray:
  """The share of each patch in the class token (B, N), the only token that these layers change."""
  if not rollout:
    return weights_BLT[:, -1, 1:]
  cls_B1 = np.ones((len(weights_BLT), 1))
  patches_BN = np.zeros_like(weights_BLT[:, 0, 1:])
  for layer in reversed(range(weights_BLT.shape[1])):
    patches_BN = patches_BN + 0.5 * cls_B1 * weights_BLT[:, layer, 1:]
    cls_B1 = cls_B1 * 0.5 * (1 + weights_BLT[:, layer, :1])
  return patches_BN


@plots.styled
def draw(
  images_BHWC: np.ndarray, maps_BHW: np.ndarray, names: Sequence[str], words: str, path: Path
) -> None:
  """Writes `picture` as a PNG, titled with `words`.

  Raises:
    UserError: the file cannot be written.
  """
  figure = picture(images_BHWC, maps_BHW, names)
  figure.suptitle(f'Attention: {words}', fontsize=9)
  with output(path) as file:
    figure.savefig(file, format='png', dpi=150, facecolor='white')


def write(opened: Opened, images: Images, rollout: bool, path: Path) -> str:
  """Draws where a model looks in the first images, as a PNG; returns a sentence.

  Args:
    rollout: over all layers, as in `attention_maps`.

  Raises:
    UserError: the model has no attention, no image can be read, or the file cannot be written.
  """
  found = attend(opened.model, opened.variables, images, DRAWN)
  pooled = getattr(opened.model.options, 'pool', '')
  maps_BHW, words = attention_maps(found.stacks, opened.grid, pooled == 'cls', rollout)
  draw(found.images_NHWC, maps_BHW, [Path(name).name for name in found.names], words, path)
  return f'{path}: {words}; {len(found.names)} of {len(images)} images'


@plots.styled
def picture(images_BHWC: np.ndarray, maps_BHW: np.ndarray, names: Sequence[str]) -> Figure:
  """Each image under its name, and beside it the image lit where the attention is.

  Args:
    images_BHWC: uint8.
    maps_BHW: not negative; each is shown relative to its largest value.
  """
  B, height, width = images_BHWC.shape[:3]
  pairs = min(B, PAIRS_PER_ROW)
  rows = math.ceil(B / pairs)
  figure = plots.new_figure(2 * SIDE * pairs, rows * (SIDE * height / width + 0.25) + 0.35)
  places = figure.subplots(rows, 2 * pairs, squeeze=False).ravel()
  for axes in places:
    axes.set_axis_off()
  for b in range(B):
    left, right = places[2 * b : 2 * b + 2]
    left.imshow(plots.rgb(images_BHWC[b]))
    left.set_title(names[b], fontsize=7)
    right.imshow(lit(images_BHWC[b], maps_BHW[b]))
  return figure


def lit(image_HWC: np.ndarray, map_HW: np.ndarray) -> np.ndarray:
  """The image in pale gray under the colors of the map, uint8 (H, W, 3).

  Each patch has its own color at its center; colors are interpolated between centers.
  """
  height, width = image_HWC.shape[:2]
  share_HW = (map_HW / max(map_HW.max(), np.finfo(np.float32).tiny)).astype(np.float32)
  share_HW = cv2.resize(share_HW, (width, height), interpolation=cv2.INTER_LINEAR)
  colors_HW3 = matplotlib.colormaps['inferno'](share_HW)[..., :3]
  gray_HW1 = plots.rgb(image_HWC).mean(-1, keepdims=True) / 255
  return np.round(255 * (0.35 * gray_HW1 + 0.65 * colors_HW3)).astype(np.uint8)
