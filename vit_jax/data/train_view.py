"""How training sees an image: cropped, mirrored, and through the policies of `augment`."""

import functools
import itertools
from collections.abc import Callable

import numpy as np

from vit_jax.config import Augment, ImageData
from vit_jax.data import crops, decode
from vit_jax.data.policies import policies
from vit_jax.data.sources import Record
from vit_jax.data.view import View

# Writes a record into pixels, given its random numbers and an interpolation.
Crop = Callable[[Record, np.ndarray, np.ndarray, str], None]
BOXES = {
  'random_resized': (crops.random_box, crops.ATTEMPTS),
  'inception': (crops.inception_box, crops.INCEPTION_ATTEMPTS),
}


class TrainView:
  """Writes an image, encoded or as pixels, into `out_HWC`, when called.

  A pure function of the image and of `count` numbers that are uniform in [0, 1), in this order: the
  flip, the crop, the interpolation, the policies.

  Args:
    view: how an evaluation sees it, which is what crop 'none' shows, and 'pad' shifts.
  """

  def __init__(self, data: ImageData, augment: Augment, view: View):
    self._data, self._view = data, view
    self._policies = policies(data, augment)
    self._crop, crop = self._cropping()
    sizes = [1, crop, int(data.interpolation == 'random'), *(p.count for p in self._policies)]
    ends = list(itertools.accumulate(sizes))
    self.count = ends[-1]
    _, self._crop_slice, self._coin_slice, *self._policy_slices = (
      slice(*pair) for pair in itertools.pairwise([0, *ends])
    )

  def __call__(self, record: Record, out_HWC: np.ndarray, uniform_U: np.ndarray) -> None:
    """Raises BadImage if the record is not a complete image."""
    interpolation = self._data.interpolation
    if interpolation == 'random':
      interpolation = 'bilinear' if uniform_U[self._coin_slice][0] < 0.5 else 'bicubic'
    self._crop(record, out_HWC, uniform_U[self._crop_slice], interpolation)
    if self._data.flip and uniform_U[0] < 0.5:
      decode.mirror(out_HWC)
    if not self._policies:
      return
    image_HWC = out_HWC
    for policy, part in zip(self._policies, self._policy_slices, strict=True):
      for operation in policy.draw(uniform_U[part].tolist()):
        image_HWC = operation(image_HWC)
    if image_HWC is not out_HWC:
      out_HWC[...] = image_HWC

  def _cropping(self) -> tuple[Crop, int]:
    """How `data.crop` crops, and how many numbers it takes."""
    data, (H, W) = self._data, self._data.image_size
    if data.crop == 'none':
      return lambda record, out_HWC, _, how: self._view(record, out_HWC), 0
    if data.crop in BOXES:
      draw, attempts = BOXES[data.crop]
      keys = dict(target=(H, W), area=data.crop_area, aspect=data.crop_aspect)

      def boxed(record, out_HWC, uniform_U, how):
        box = functools.partial(draw, **keys, uniform_T4=uniform_U.reshape(attempts, 4))
        decode.decode_box(record, box, out_HWC, how, self._view.pixels)

      return boxed, 4 * attempts
    if data.crop == 'pad':

      def padded(record, out_HWC, uniform_2, how):
        self._view(record, out_HWC)
        crops.window(out_HWC, data.crop_pad, uniform_2, out_HWC)

      return padded, 2
    simple = data.crop == 'simple'
    covering = functools.partial(crops.covering, target=(H, W))
    size = covering if simple else lambda height, width: data.crop_resize

    def window(record, out_HWC, uniform_2, how):
      image_HWC = decode.decode_whole(record, size, data.channels, how, self._view.pixels)
      crops.window(image_HWC, data.crop_pad if simple else 0, uniform_2, out_HWC)

    return window, 2
