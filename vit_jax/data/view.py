"""How an image is seen: from the encoded image to pixels of one size.

Predictions, evaluations, transfer and training without a random crop all make pixels here.
"""

from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np
from PIL import Image

from vit_jax.config import ImageData
from vit_jax.data import decode
from vit_jax.data.pixels import Pixels
from vit_jax.models import Inputs
from vit_jax.models.inputs import Aspect, Interpolation, uncropped

_PILLOW = {'bicubic': Image.Resampling.BICUBIC, 'bilinear': Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class View:
  """Writes an image, encoded or as pixels, into `out_HWC`, uint8 of `image_shape`, when called.

  Antialiased pixels are those of timm's evaluation (timm/data/transforms_factory.py,
  transforms_imagenet_eval), that is of torchvision's Resize and CenterCrop on Pillow images. An
  image that has the size already is not touched. Cached features are named by its repr.

  Attributes:
    image_size: (height, width).
    channels: 1 (luminance), 3 (RGB), or as many as the images have.
    crop, interpolation, aspect, antialias, upright, white: as of `models.Inputs`.
  """

  image_size: tuple[int, int]
  channels: int
  crop: float = 0.875
  interpolation: Interpolation = 'bicubic'
  aspect: Aspect = 'keep'
  antialias: bool = True
  upright: bool = True
  white: float = 0.0

  @classmethod
  def of(cls, x: Inputs) -> Self:
    return cls(
      x.size,
      len(x.mean),
      x.crop,
      x.interpolation,
      x.aspect,
      x.antialias,
      x.upright,
      x.white,
    )

  @classmethod
  def whole(cls, image_size: tuple[int, int], channels: int, antialias: bool = True) -> Self:
    """The whole image, whatever its aspect, bilinear."""
    return cls(image_size, channels, 1.0, 'bilinear', 'change', antialias)

  @property
  def pixels(self) -> Pixels:
    return Pixels.of(self)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    return *self.image_size, self.channels

  def __call__(self, record: bytes | np.ndarray, out_HWC: np.ndarray) -> None:
    """Raises BadImage if the record is not a complete image."""
    image_HWC = decode.decode(record, self.channels, how=self.pixels)
    (H, W), (h, w) = self.image_size, self.resized(*image_HWC.shape[:2])
    top, left = round((h - H) / 2), round((w - W) / 2)
    if (h, w) == image_HWC.shape[:2]:
      out_HWC[...] = image_HWC[top : top + H, left : left + W]
    elif h * w > decode.LARGEST:  # of a thin image: the part that is seen alone
      y, x = image_HWC.shape[0] / h, image_HWC.shape[1] / w
      box = left * x, top * y, (left + W) * x, (top + H) * y
      filter = _PILLOW[self.interpolation]
      out_HWC[...] = decode.pillow_resize(image_HWC, (H, W), filter, box)
    elif self.antialias:
      # The whole image: a part alone is not the same to a gray level, for Pillow rounds in between.
      image_HWC = decode.pillow_resize(image_HWC, (h, w), _PILLOW[self.interpolation])
      out_HWC[...] = image_HWC[top : top + H, left : left + W]
    else:
      # As tf.image.resize: centers of pixels are halves, and what is dropped is not averaged.
      image_HWC = cv2.resize(image_HWC, (w, h), interpolation=cv2.INTER_LINEAR)
      out_HWC[...] = image_HWC.reshape(h, w, -1)[top : top + H, left : left + W]

  def resized(self, height: int, width: int) -> tuple[int, int]:
    """The size of a whole image after resizing, before the crop.

    Rounded as torchvision does for a square, and as timm's ResizeKeepRatio for another shape.
    """
    h, w = uncropped(self.image_size, self.crop)
    if self.aspect == 'change':
      return h, w
    if h == w:
      short, long = h, int(h * max(height, width) / min(height, width))
      return (short, long) if height <= width else (long, short)
    ratio = min(height / h, width / w)
    return round(height / ratio), round(width / ratio)


def inputs_of(data: ImageData, class_names: tuple[str, ...] = ()) -> Inputs:
  """The images that a model trained on `data` expects."""
  return Inputs(
    data.image_size,
    data.mean,
    data.std,
    data.eval_crop,
    data.eval_interpolation,
    data.eval_aspect,
    data.eval_antialias,
    data.upright,
    data.white,
    class_names,
    'its recipe',
  )


def data_for(data: ImageData, inputs: Inputs) -> ImageData:
  """`data` whose evaluations see images as `inputs` says, at the same size."""
  return replace(
    data,
    mean=inputs.mean,
    std=inputs.std,
    eval_crop=inputs.crop,
    eval_interpolation=inputs.interpolation,
    eval_aspect=inputs.aspect,
    eval_antialias=inputs.antialias,
    upright=inputs.upright,
    white=inputs.white,
  )
