"""Augmentation on the device: turns, random erasing, mixup and CutMix, and normalizing last.

In two parts. `draw` makes the random numbers of a whole step, a few for each row of the global
batch; `apply` changes pixels, row by row. Between the two a row is given what it is mixed with, its
partner's pixels and numbers, by `pair`. So what becomes of a row depends on the key and on its
place in the global batch, never on how the batch is split over devices and micro-batches.

Pixels stay in [0, 255] until `normalize`. What needs whole pictures in order, the policies and
colors, is done by the loader (data/policies.py).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import betaincinv

from vit_jax.config import Augment
from vit_jax.errors import UserError

Array = jax.Array
Draws = dict[str, Array]

GRAY = 127.5
ERASE_AREA = (0.02, 1 / 3)  # of the image (Zhong et al. 2020, section 4.1)
ERASE_ASPECT = (0.3, 1 / 0.3)
ERASE_ATTEMPTS = 10  # to draw a rectangle that fits into the image, as in timm


def normalize(
  images_BHWC: Array, mean: Sequence[float], std: Sequence[float], dtype=jnp.float32
) -> Array:
  """(pixel / 255 - mean) / std of pixels in [0, 255], uint8 or float."""
  channels = images_BHWC.shape[-1]
  if not len(mean) == len(std) == channels:
    raise UserError(f'data.mean and data.std need one value per channel, {channels} each')
  scale_C = 1 / (255 * jnp.asarray(std, jnp.float32))
  shift_C = jnp.asarray(mean, jnp.float32) / jnp.asarray(std, jnp.float32)
  return (images_BHWC.astype(jnp.float32) * scale_C - shift_C).astype(dtype)


def draw(key: Array, image_shape: tuple[int, ...], cfg: Augment) -> Draws:
  """The random numbers of a step, by name; the first axis of each is the rows of the batch.

  Args:
    key: one per step.
    image_shape: (B, H, W, C) of the global batch.

  Returns:
    Of what `cfg` switches on: `turn_B3`, three coins; `erase_B4`, a rectangle (top, left, height,
    width); `noise_B2`, the key of what fills it; `keep_B`, the weight of the row's own pixels;
    `paste_B4`, the rectangle in which it is 0.
  """
  B, H, W, _ = image_shape
  turn_key, erase_key, noise_key, mix_key = jax.random.split(key, 4)
  draws = {}
  if cfg.dihedral:
    draws['turn_B3'] = jax.random.bernoulli(turn_key, shape=(B, 3))
  if cfg.erase:
    draws['erase_B4'] = _draw_erase(erase_key, B, H, W, cfg.erase)
    if cfg.erase_fill == 'noise':
      draws['noise_B2'] = jax.random.key_data(jax.random.split(noise_key, B))
  if cfg.mixes:
    draws |= _draw_mix(mix_key, B, H, W, cfg)
  return draws


def pair(tree: Any) -> Any:
  """For each row the one that is mixed into it: half a batch away.

  Views of one image that follow each other (data.repeats) are nearer than that, so no row is mixed
  with its own repeat.
  """
  return jax.tree.map(lambda leaf_B: jnp.roll(leaf_B, len(leaf_B) // 2, 0), tree)


def apply(
  images_BHWC: Array, draws: Draws, cfg: Augment, mean: Sequence[float], std: Sequence[float]
) -> Array:
  """Turned and erased images, pixels in [0, 255].

  Args:
    images_BHWC: uint8 or float; uint8 comes back if no value changes, else float32.
    draws: the rows of what `draw` gave that belong to these images.
    mean, std: of `normalize`, after which the noise of an erased rectangle is N(0, 1) per pixel.
  """
  if cfg.dihedral:
    images_BHWC = _turn(images_BHWC, draws['turn_B3'])
  if cfg.erase:
    inside_BHW1 = _rectangle(draws['erase_B4'], *images_BHWC.shape[1:3])
    fill_BHWC = GRAY
    if cfg.erase_fill == 'noise':
      fill_BHWC = _noise(draws['noise_B2'], images_BHWC.shape, mean, std)
    images_BHWC = jnp.where(inside_BHW1, fill_BHWC, images_BHWC.astype(jnp.float32))
  return images_BHWC


def mix(
  images_BHWC: Array,
  others_BHWC: Array,
  labels_BK: Array,
  others_BK: Array,
  other_mask_B: Array,
  draws: Draws,
) -> tuple[Array, Array]:
  """Mixup and CutMix of each row with its partner: (images, labels).

  Mixup: w x + (1 - w) x', w ~ Beta(alpha, alpha) (Zhang et al. 2018, equation 1).
  CutMix: a rectangle of area 1 - w around a uniform center, clipped at the border, comes from x';
  the labels are weighted by the true area (Yun et al. 2019, section 3.1 and appendix A).

  Args:
    other_mask_B: False for partners that must not count: such a row stays as it is.
  """
  inside_BHW1 = _rectangle(draws['paste_B4'], *images_BHWC.shape[1:3])
  keep_B = jnp.where(other_mask_B, draws['keep_B'], 1.0)
  outside_BHW1 = jnp.where(inside_BHW1 & _wide(other_mask_B), 0.0, _wide(keep_B))
  x_BHWC, y_BHWC = images_BHWC.astype(jnp.float32), others_BHWC.astype(jnp.float32)
  images_BHWC = outside_BHW1 * x_BHWC + (1 - outside_BHW1) * y_BHWC
  own_B1 = outside_BHW1.mean((1, 2))
  return images_BHWC, own_B1 * labels_BK + (1 - own_B1) * others_BK


def _draw_erase(key: Array, B: int, H: int, W: int, probability: float) -> Array:
  """erase_B4: rectangles (top, left, height, width), the first attempt that is smaller than H x W.

  Zhong et al. 2020, as timm has it (timm/data/random_erasing.py); of size 0 where none is erased.
  """
  coin_key, shape_key, place_key = jax.random.split(key, 3)
  u_2BT = jax.random.uniform(shape_key, (2, B, ERASE_ATTEMPTS))
  area_BT = H * W * (ERASE_AREA[0] + u_2BT[0] * (ERASE_AREA[1] - ERASE_AREA[0]))
  low, high = map(math.log, ERASE_ASPECT)
  root_BT = jnp.exp(0.5 * (low + u_2BT[1] * (high - low)))
  height_BT = jnp.round(jnp.sqrt(area_BT) * root_BT).astype(jnp.int32)
  width_BT = jnp.round(jnp.sqrt(area_BT) / root_BT).astype(jnp.int32)
  fits_BT = (height_BT < H) & (width_BT < W)
  first_B1 = jnp.argmax(fits_BT, axis=1)[:, None]
  on_B = jax.random.bernoulli(coin_key, probability, (B,)) & fits_BT.any(1)
  height_B = jnp.where(on_B, jnp.take_along_axis(height_BT, first_B1, 1)[:, 0], 0)
  width_B = jnp.where(on_B, jnp.take_along_axis(width_BT, first_B1, 1)[:, 0], 0)
  u_B, v_B = jax.random.uniform(place_key, (2, B))
  top_B = jnp.floor(u_B * (H - height_B + 1)).astype(jnp.int32)
  left_B = jnp.floor(v_B * (W - width_B + 1)).astype(jnp.int32)
  return jnp.stack([top_B, left_B, height_B, width_B], 1)


def _draw_mix(key: Array, B: int, H: int, W: int, cfg: Augment) -> Draws:
  """keep_B and paste_B4; alike for all rows with one lambda per batch.

  With both mixup and CutMix, a fair coin says which, for each lambda. The rectangle is that of
  timm/data/mixup.py: whole pixels, its center anywhere.
  """
  count = 1 if cfg.mix == 'batch' else B
  coin_key, mixup_key, cutmix_key, place_key = jax.random.split(key, 4)
  coin_b = jax.random.bernoulli(coin_key, shape=(count,))
  cuts_b = coin_b if cfg.mixup and cfg.cutmix else jnp.full(count, not cfg.mixup)
  keep_b, paste_b4 = jnp.ones(count), jnp.zeros((count, 4), jnp.int32)
  if cfg.mixup:
    keep_b = jnp.where(cuts_b, 1.0, _beta(mixup_key, cfg.mixup, count))
  if cfg.cutmix:
    side_b = jnp.sqrt(1 - _beta(cutmix_key, cfg.cutmix, count))
    height_b = jnp.floor(side_b * H).astype(jnp.int32)
    width_b = jnp.floor(side_b * W).astype(jnp.int32)
    u_b, v_b = jax.random.uniform(place_key, (2, count))
    top_b = jnp.floor(u_b * H).astype(jnp.int32) - height_b // 2
    left_b = jnp.floor(v_b * W).astype(jnp.int32) - width_b // 2
    paste_b4 = jnp.stack([top_b, left_b, height_b, width_b], 1) * cuts_b[:, None]
  return {
    'keep_B': jnp.broadcast_to(keep_b, (B,)),
    'paste_B4': jnp.broadcast_to(paste_b4, (B, 4)),
  }


def _beta(key: Array, alpha: float, count: int) -> Array:
  """Beta(alpha, alpha) from a table of its quantiles: jax.random.beta takes seconds to compile."""
  share_T = np.linspace(0, 1, 4097)
  quantile_T = betaincinv(alpha, alpha, share_T)
  return jnp.interp(jax.random.uniform(key, (count,)), share_T, quantile_T)


def _turn(x_BHWC: Array, coin_B3: Array) -> Array:
  """One of the eight symmetries of the square: each is transpose^a flip^b mirror^c."""
  height, width = x_BHWC.shape[1:3]
  if height != width:
    raise UserError(
      f'augment.dihedral turns square images, but data.image_size is {height} x {width}'
    )
  a_B, b_B, c_B = coin_B3.T
  x_BHWC = jnp.where(_wide(a_B), x_BHWC.swapaxes(1, 2), x_BHWC)
  x_BHWC = jnp.where(_wide(b_B), x_BHWC[:, ::-1], x_BHWC)
  return jnp.where(_wide(c_B), x_BHWC[:, :, ::-1], x_BHWC)


def _noise(
  key_B2: Array, shape: tuple[int, ...], mean: Sequence[float], std: Sequence[float]
) -> Array:
  """Pixels that are N(0, 1) once normalized; those of a row follow from its key alone."""
  keys_B = jax.random.wrap_key_data(key_B2)
  normal_BHWC = jax.vmap(lambda key: jax.random.normal(key, shape[1:]))(keys_B)
  return 255 * (jnp.asarray(mean, jnp.float32) + jnp.asarray(std, jnp.float32) * normal_BHWC)


def _rectangle(box_B4: Array, H: int, W: int) -> Array:
  """True inside, [B, H, W, 1]; clipped at the border."""
  top_B, left_B, height_B, width_B = box_B4.T
  row_BH = jnp.arange(H) - top_B[:, None]
  column_BW = jnp.arange(W) - left_B[:, None]
  row_BH = (row_BH >= 0) & (row_BH < height_B[:, None])
  column_BW = (column_BW >= 0) & (column_BW < width_B[:, None])
  return (row_BH[:, :, None] & column_BW[:, None, :])[..., None]


def _wide(x_B: Array) -> Array:
  return x_B[:, None, None, None]
