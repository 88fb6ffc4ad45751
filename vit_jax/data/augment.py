"""Augmentation on the device: pure functions of (key, images, labels), drawn per example.

Pixels stay in [0, 255] until `normalize`, so `augment` comes first and `normalize` last. Random
numbers are drawn for the global batch at once, so they do not depend on how it is sharded.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import betaincinv

from vit_jax.config import Augment
from vit_jax.errors import UserError

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
GRAY = 127.5
ERASE_AREA = (0.02, 1 / 3)  # of the image (Zhong et al. 2020, section 4.1)
ERASE_ASPECT = (0.3, 1 / 0.3)


def normalize(
  images_BHWC: jax.Array, mean: Sequence[float], std: Sequence[float], dtype=jnp.float32
) -> jax.Array:
  """(pixel / 255 - mean) / std of pixels in [0, 255], uint8 or float."""
  channels = images_BHWC.shape[-1]
  if not len(mean) == len(std) == channels:
    raise UserError(f'data.mean and data.std need one value per channel, {channels} each')
  scale_C = 1 / (255 * jnp.asarray(std, jnp.float32))
  shift_C = jnp.asarray(mean, jnp.float32) / jnp.asarray(std, jnp.float32)
  return (images_BHWC.astype(jnp.float32) * scale_C - shift_C).astype(dtype)


def augment(
  key: jax.Array, images_BHWC: jax.Array, labels_BK: jax.Array, mask_B: jax.Array, cfg: Augment
) -> tuple[jax.Array, jax.Array]:
  """(images, labels) after what `cfg` switches on, in the order of its keys.

  Args:
    key: one per step; every example of the global batch draws its own numbers from it.
    images_BHWC: pixels in [0, 255], uint8 or float; so are those returned, in float32 unless
      `cfg` changes no pixel value.
    labels_BK: one-hot (or soft) labels, which are mixed as the images are.
    mask_B: False for rows that must not count: they are not mixed into others.
  """
  turn_key, color_key, erase_key, mix_key = jax.random.split(key, 4)
  if cfg.dihedral:
    images_BHWC = _dihedral(turn_key, images_BHWC)
  if cfg.brightness or cfg.contrast or cfg.saturation:
    images_BHWC = _jitter(color_key, images_BHWC, cfg)
  if cfg.erase:
    images_BHWC = _erase(erase_key, images_BHWC, cfg.erase)
  if cfg.mixup or cfg.cutmix:
    images_BHWC, labels_BK = _mix(mix_key, images_BHWC, labels_BK, mask_B, cfg)
  return images_BHWC, labels_BK


def _dihedral(key, x_BHWC):
  """One of the eight symmetries of the square, uniformly: each is transpose^a flip^b mirror^c."""
  height, width = x_BHWC.shape[1:3]
  if height != width:
    raise UserError(
      f'augment.dihedral turns square images, but data.image_size is {height} x {width}'
    )
  a_B, b_B, c_B = jax.random.bernoulli(key, shape=(3, len(x_BHWC)))
  x_BHWC = jnp.where(_wide(a_B), x_BHWC.swapaxes(1, 2), x_BHWC)
  x_BHWC = jnp.where(_wide(b_B), x_BHWC[:, ::-1], x_BHWC)
  return jnp.where(_wide(c_B), x_BHWC[:, :, ::-1], x_BHWC)


def _jitter(key, x_BHWC, cfg):
  """Brightness, contrast, saturation: x -> f x + (1 - f) base, f uniform in [1 - c, 1 + c].

  The base is black, the image's mean luminance, and each pixel's luminance.
  """
  channels = x_BHWC.shape[-1]
  if cfg.saturation and channels != 3:
    raise UserError('augment.saturation needs color: data.channels must be 3')
  luma_C = jnp.asarray(LUMA if channels == 3 else (1.0,))

  def blend(key, x_BHWC, base, strength):
    f_B = jax.random.uniform(key, (len(x_BHWC),), minval=1 - strength, maxval=1 + strength)
    return jnp.clip(base + _wide(f_B) * (x_BHWC - base), 0, 255)

  x_BHWC = x_BHWC.astype(jnp.float32)
  brightness_key, contrast_key, saturation_key = jax.random.split(key, 3)
  if cfg.brightness:
    x_BHWC = blend(brightness_key, x_BHWC, 0.0, cfg.brightness)
  if cfg.contrast:
    gray_BHW1 = jnp.sum(x_BHWC * luma_C, -1, keepdims=True)
    x_BHWC = blend(contrast_key, x_BHWC, gray_BHW1.mean((1, 2), keepdims=True), cfg.contrast)
  if cfg.saturation:
    gray_BHW1 = jnp.sum(x_BHWC * luma_C, -1, keepdims=True)
    x_BHWC = blend(saturation_key, x_BHWC, gray_BHW1, cfg.saturation)
  return x_BHWC


def _erase(key, x_BHWC, probability):
  """Random erasing (Zhong et al. 2020) of a rectangle inside the image, in mid-gray."""
  B, H, W, _ = x_BHWC.shape
  coin_key, area_key, aspect_key, place_key = jax.random.split(key, 4)
  area_B = jax.random.uniform(area_key, (B,), minval=ERASE_AREA[0], maxval=ERASE_AREA[1])
  low, high = map(math.log, ERASE_ASPECT)
  root_B = jnp.exp(0.5 * jax.random.uniform(aspect_key, (B,), minval=low, maxval=high))
  height_B = jnp.round(jnp.sqrt(area_B * H * W) * root_B).clip(1, H)
  width_B = jnp.round(jnp.sqrt(area_B * H * W) / root_B).clip(1, W)
  u_B, v_B = jax.random.uniform(place_key, (2, B))
  top_B = jnp.floor(u_B * (H - height_B + 1))
  left_B = jnp.floor(v_B * (W - width_B + 1))
  inside_BHW1 = _rectangle(top_B, left_B, height_B, width_B, H, W)
  coin_B = jax.random.bernoulli(coin_key, probability, (B,))
  return jnp.where(_wide(coin_B) & inside_BHW1, GRAY, x_BHWC.astype(jnp.float32))


def _mix(key, x_BHWC, labels_BK, mask_B, cfg):
  """Mixup and CutMix with the neighbor in the (shuffled) batch; lambda is drawn per example.

  Mixup: w x + (1 - w) x', w ~ Beta(alpha, alpha) (Zhang et al. 2018, equation 1).
  CutMix: a rectangle of area 1 - w around a uniform center, clipped at the border, comes from
  x'; the labels are weighted by the true area (Yun et al. 2019, section 3.1 and appendix A).
  """
  B, H, W, _ = x_BHWC.shape
  coin_key, mixup_key, cutmix_key, place_key = jax.random.split(key, 4)
  weights_BHW1 = []
  if cfg.mixup:
    weight_B = _beta(mixup_key, cfg.mixup, B)
    weights_BHW1.append(jnp.broadcast_to(_wide(weight_B), (B, H, W, 1)))
  if cfg.cutmix:
    side_B = jnp.sqrt(1 - _beta(cutmix_key, cfg.cutmix, B))
    u_B, v_B = jax.random.uniform(place_key, (2, B))
    top_B = jnp.round(u_B * H - side_B * H / 2)
    left_B = jnp.round(v_B * W - side_B * W / 2)
    height_B, width_B = jnp.round(side_B * H), jnp.round(side_B * W)
    inside_BHW1 = _rectangle(top_B, left_B, height_B, width_B, H, W)
    weights_BHW1.append(1 - inside_BHW1.astype(jnp.float32))
  coin = jax.random.bernoulli(coin_key)  # one per batch
  weight_BHW1 = jnp.where(coin, weights_BHW1[0], weights_BHW1[-1])
  weight_BHW1 = jnp.where(_wide(jnp.roll(mask_B, 1)), weight_BHW1, 1.0)
  x_BHWC = x_BHWC.astype(jnp.float32)
  x_BHWC = weight_BHW1 * x_BHWC + (1 - weight_BHW1) * jnp.roll(x_BHWC, 1, 0)
  weight_B1 = weight_BHW1.mean((1, 2))
  return x_BHWC, weight_B1 * labels_BK + (1 - weight_B1) * jnp.roll(labels_BK, 1, 0)


def _beta(key, alpha, B):
  """Beta(alpha, alpha) from a table of its quantiles: jax.random.beta takes seconds to compile."""
  share_T = np.linspace(0, 1, 4097)
  return jnp.interp(jax.random.uniform(key, (B,)), share_T, betaincinv(alpha, alpha, share_T))


def _rectangle(top_B, left_B, height_B, width_B, H, W):
  """True inside, [B, H, W, 1]; clipped at the border."""
  row_BH = jnp.arange(H) - top_B[:, None]
  column_BW = jnp.arange(W) - left_B[:, None]
  row_BH = (row_BH >= 0) & (row_BH < height_B[:, None])
  column_BW = (column_BW >= 0) & (column_BW < width_B[:, None])
  return (row_BH[:, :, None] & column_BW[:, None, :])[..., None]


def _wide(x_B):
  return x_B[:, None, None, None]
