"""What operations a picture goes through, with what arguments: RandAugment, 3-Augment, jitter.

A policy draws a list of operations from `count` numbers that are uniform in [0, 1), for each
picture its own, and from nothing else. The operations themselves are in data/operations.py.
"""

import itertools
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from vit_jax.config import Augment, ImageData
from vit_jax.data import operations

HALF = 128  # level that fills what a move leaves empty in big_vision
BLUR = (0.1, 2.0)  # radius of 3-Augment, in pixels


class Operation(NamedTuple):
  """A function of data/operations.py and what it takes after the picture."""

  name: str
  args: tuple[Any, ...] = ()

  def __call__(self, x_HWC: np.ndarray) -> np.ndarray:
    return getattr(operations, self.name)(x_HWC, *self.args)


class Policy(NamedTuple):
  """`draw` makes operations of `count` numbers in [0, 1)."""

  count: int
  draw: Callable[[Sequence[float]], list[Operation]]


def policies(data: ImageData, augment: Augment) -> list[Policy]:
  """Those that a picture goes through, in order."""
  found = []
  if augment.auto == 'rand_augment':
    found.append(rand_augment(augment.rand_layers, augment.rand_magnitude, data))
  elif augment.auto == 'timm_rand_augment':
    layers, magnitude, std = augment.rand_layers, augment.rand_magnitude, augment.rand_std
    found.append(timm_rand_augment(layers, magnitude, std, data))
  elif augment.auto == 'three_augment':
    found.append(Policy(2, _three_augment))
  if augment.brightness or augment.contrast or augment.saturation:
    found.append(jitter(augment.brightness, augment.contrast, augment.saturation))
  return found


def rand_augment(layers: int, magnitude: float, data: ImageData) -> Policy:
  """RandAugment (arXiv:1909.13719) as in big_vision/pp/autoaugment.py, and so in AugReg.

  Each layer is one of 16 operations, always applied. What the text of the paper leaves open is
  theirs, oddities included: magnitudes above 10 go beyond the ranges; the threshold of `solarize`
  is an 8-bit number that wraps around (big_vision issue 110), so that magnitude 10 inverts and 15
  is 128; the base of `contrast` is the number of pixels / 256, at most 255, as their mean is the
  sum of a histogram's counts; fewer bits are kept at a smaller magnitude.
  """
  (H, W), share = data.image_size, magnitude / 10
  fill_C, enhance = (HALF,) * data.channels, 0.1 + 1.8 * share
  shear, move, nearest = 0.3 * share, 100 * share, ('nearest', fill_C)
  # Their moves take the place of pixels from index to index, Pillow's from center to center.
  choices: list[Callable[[int, float, float], Operation]] = [
    lambda s, v, h: Operation('auto_contrast'),
    lambda s, v, h: Operation('equalize'),
    lambda s, v, h: Operation('invert'),
    lambda s, v, h: Operation('rotate', (s * 30 * share, *nearest)),
    lambda s, v, h: Operation('posterize', (min(int(4 * share), 8),)),
    lambda s, v, h: Operation('solarize', (int(256 * share) % 256,)),
    lambda s, v, h: Operation('saturation', (enhance,)),
    lambda s, v, h: Operation('contrast', (enhance, min(H * W // 256, 255))),
    lambda s, v, h: Operation('brightness', (enhance,)),
    lambda s, v, h: Operation('sharpness', (enhance,)),
    lambda s, v, h: Operation('affine', ((1, s * shear, -s * shear / 2, 0, 1, 0), *nearest)),
    lambda s, v, h: Operation('affine', ((1, 0, 0, s * shear, 1, -s * shear / 2), *nearest)),
    lambda s, v, h: Operation('translate_x', (s * move, *nearest)),
    lambda s, v, h: Operation('translate_y', (s * move, *nearest)),
    lambda s, v, h: Operation('cut_out', (int(v * H), int(h * W), int(40 * share), fill_C)),
    lambda s, v, h: Operation('solarize_add', (int(110 * share),)),
  ]

  def draw(u_U: Sequence[float]) -> list[Operation]:
    found = []
    for which, sign, v, h in _groups(u_U, 4):
      found.append(choices[int(which * len(choices))](_sign(sign), v, h))
    return found

  return Policy(4 * layers, draw)


def timm_rand_augment(layers: int, magnitude: float, std: float, data: ImageData) -> Policy:
  """RandAugment as timm's rand-mM-nN-mstdS-inc1 (timm/data/auto_augment.py), as in DeiT.

  Each layer is one of 15 operations, applied with probability 1/2 at a magnitude that is normal
  around M and clipped to [0, 10]; all grow stronger with it. Empty places get the data's mean
  color. Pictures are bent with the interpolation of training.
  """
  fill_C = tuple(min(255, round(255 * mean)) for mean in data.mean)
  normal = NormalDist(magnitude, std) if std else None
  H, W = data.image_size

  # Of a share of the strongest, a sign, and how empty places are filled.
  choices: list[Callable[[float, int, tuple[Any, ...]], Operation]] = [
    lambda share, s, moved: Operation('auto_contrast'),
    lambda share, s, moved: Operation('equalize'),
    lambda share, s, moved: Operation('invert'),
    lambda share, s, moved: Operation('rotate', (s * 30 * share, *moved)),
    lambda share, s, moved: Operation('posterize', (4 - int(4 * share),)),
    lambda share, s, moved: Operation('solarize', (256 - int(256 * share),)),
    lambda share, s, moved: Operation('solarize_add', (int(110 * share),)),
    lambda share, s, moved: Operation('saturation', (max(0.1, 1 + s * 0.9 * share),)),
    lambda share, s, moved: Operation('contrast', (max(0.1, 1 + s * 0.9 * share),)),
    lambda share, s, moved: Operation('brightness', (max(0.1, 1 + s * 0.9 * share),)),
    lambda share, s, moved: Operation('sharpness', (max(0.1, 1 + s * 0.9 * share),)),
    lambda share, s, moved: Operation('shear_x', (s * 0.3 * share, *moved)),
    lambda share, s, moved: Operation('shear_y', (s * 0.3 * share, *moved)),
    lambda share, s, moved: Operation('translate_x', (s * 0.45 * share * W, *moved)),
    lambda share, s, moved: Operation('translate_y', (s * 0.45 * share * H, *moved)),
  ]

  def draw(u_U: Sequence[float]) -> list[Operation]:
    found = []
    for which, on, level, sign, coin in _groups(u_U, 5):
      if on >= 0.5:
        continue
      m = normal.inv_cdf(max(level, 1e-12)) if normal else magnitude
      resampling = data.interpolation
      if resampling == 'random':
        resampling = 'bilinear' if coin < 0.5 else 'bicubic'
      choose = choices[int(which * len(choices))]
      found.append(choose(min(max(m / 10, 0.0), 1.0), _sign(sign), (resampling, fill_C)))
    return found

  return Policy(5 * layers, draw)


def _three_augment(u_2: Sequence[float]) -> list[Operation]:
  """One of grayscale, solarize and Gaussian blur (DeiT III, arXiv:2204.07118 section 3.2).

  As in facebookresearch/deit, augment.py.
  """
  which, radius = u_2
  if which < 1 / 3:
    return [Operation('grayscale')]
  if which < 2 / 3:
    return [Operation('solarize', (128,))]
  return [Operation('blur', (BLUR[0] + radius * (BLUR[1] - BLUR[0]),))]


def jitter(brightness: float, contrast: float, saturation: float) -> Policy:
  """Factors uniform in [1 - x, 1 + x], in random order, as torchvision's ColorJitter."""
  strengths = {'brightness': brightness, 'contrast': contrast, 'saturation': saturation}
  strengths = {name: strength for name, strength in strengths.items() if strength}
  orders = list(itertools.permutations(range(len(strengths))))

  def draw(u_U: Sequence[float]) -> list[Operation]:
    order = orders[int(u_U[0] * len(orders))]
    factors = [
      Operation(name, (1 + (2 * u - 1) * strength,))
      for u, (name, strength) in zip(u_U[1:], strengths.items(), strict=True)
    ]
    return [factors[i] for i in order]

  return Policy(1 + len(strengths), draw)


def _groups(u_U: Sequence[float], size: int) -> list[Sequence[float]]:
  return [u_U[i : i + size] for i in range(0, len(u_U), size)]


def _sign(u: float) -> int:
  return 1 if u < 0.5 else -1
