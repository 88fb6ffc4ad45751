"""digits: 1,797 handwritten digits of 8 x 8 grey pixels, for tests and first steps.

They come with scikit-learn (`load_digits`), which has them from the UCI machine learning
repository ("Optical Recognition of Handwritten Digits", its test part).

Splits: train and test; the crc32 of an image's index in scikit-learn's order, modulo 5, is 0 for
the test. Who wrote a digit is not known, so one hand may be in both.

Features: `image` (the 17 levels of ink, stretched to 0-255), `label` and `index`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vit_jax.data.datasets import packages

TEST_SHARE = 5  # one image in so many
INK = 16  # the darkest level


class Digits(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Needs file_format='array_record' to do without TensorFlow."""

  VERSION = tfds.core.Version('1.0.0')
  url_infos = {}  # nothing is downloaded

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='Handwritten digits of 8 x 8 pixels.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(8, 8, 1), encoding_format='png'),
          'label': tfds.features.ClassLabel(num_classes=10),
          'index': np.int32,
        }
      ),
      supervised_keys=('image', 'label'),
      homepage='https://archive.ics.uci.edu/dataset/80',
      license='BSD-3-Clause (scikit-learn)',
    )

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(split) for split in ('train', 'test')}

  def _generate_examples(self, split):
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images_BHW = (bunch.images * 255 / INK).round().astype(np.uint8)
    for i, (image_HW, label) in enumerate(zip(images_BHW, bunch.target.tolist(), strict=True)):
      if packages.is_of(split, i, TEST_SHARE):
        yield i, {'image': packages.png(image_HW), 'label': label, 'index': i}
