"""How an evaluation sees an image: from the encoded image to pixels of one size."""

import functools
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from PIL import Image

from vit_jax.config import ImageData
from vit_jax.data import decode
from vit_jax.models import Inputs


@dataclass(frozen=True)
class View:
  """Writes an image, encoded or as pixels, into `out_HWC`, uint8 of `image_shape`, when called.

  Cached features are named by its repr.

  Attributes:
    image_size: (height, width).
    channels: 1 (luminance) or 3 (RGB).
    kind: 'central': `decode.central_box` with `shorter`, bilinear and fast.
      'published': resized so that the center is `crop` of the shorter side, bicubic and
      antialiased. The pixels are those of timm's evaluation (timm/data/transforms_factory.py):
      torchvision's Resize and CenterCrop on PIL images.
      'whole': the whole image, whatever its aspect, bilinear and antialiased.
  """

  image_size: tuple[int, int]
  channels: int
  kind: Literal['central', 'published', 'whole']
  shorter: int = 0
  crop: float = 1.0

  @classmethod
  def of(cls, data: ImageData) -> Self:
    if data.resize == 'whole':
      return cls.whole(data.image_size, data.channels)
    return cls(data.image_size, data.channels, 'central', shorter=data.eval_resize)

  @classmethod
  def expected(cls, inputs: Inputs) -> Self:
    """The view that a model's inputs name, or that of published weights."""
    return inputs.view or cls.published(inputs.size, len(inputs.mean), inputs.crop)

  @classmethod
  def published(cls, image_size: tuple[int, int], channels: int, crop: float) -> Self:
    return cls(image_size, channels, 'published', crop=crop)

  @classmethod
  def whole(cls, image_size: tuple[int, int], channels: int) -> Self:
    return cls(image_size, channels, 'whole')

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return *self.image_size, self.channels

  def __call__(self, record: bytes | np.ndarray, out_HWC: np.ndarray) -> None:
    """Raises BadImage if the record is not a complete image."""
    H, W = self.image_size
    if self.kind == 'central':
      box = functools.partial(decode.central_box, target=(H, W), shorter=self.shorter)
      return decode.decode_box(record, box, out_HWC)
    image_HWC = decode.decode(record, self.channels)
    image = Image.fromarray(image_HWC if self.channels == 3 else image_HWC[..., 0])
    if self.kind == 'whole':
      image = image.resize((W, H), Image.Resampling.BILINEAR)
    else:
      scale = max(int(H / self.crop) / image.height, int(W / self.crop) / image.width)
      # A whole number that is less by a rounding error counts as that number.
      h, w = (int(side * scale + 1e-6) for side in (image.height, image.width))
      top, left = round((h - H) / 2), round((w - W) / 2)
      image = image.resize((w, h), Image.Resampling.BICUBIC).crop((left, top, left + W, top + H))
    out_HWC[...] = np.asarray(image).reshape(out_HWC.shape)


def inputs_of(data: ImageData, class_names: tuple[str, ...]) -> Inputs:
  """The images that a model trained on `data` expects."""
  return Inputs(data.image_size, data.mean, data.std, class_names=class_names, view=View.of(data))
