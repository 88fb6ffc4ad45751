"""digits: 1,797 handwritten digits of 8 x 8 gray pixels, for tests and first steps.

They are scikit-learn's `load_digits`: the test part of "Optical Recognition of Handwritten Digits"
of the UCI machine learning repository.

Splits: train and test, by a hash of an image's index. One person's digits may be in both.

Features: `image` (the 17 levels of ink, stretched to 0-255), `label` and `index`.
"""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vit_jax.data.datasets import packages

INK = 16  # the darkest level


class Digits(packages.PackageBuilder, skip_registration=True):
  VERSION = tfds.core.Version('1.0.0')

  def _info(self) -> tfds.core.DatasetInfo:
    return self.describe(
      (8, 8, 1),
      classes='0123456789',
      columns={'index': np.int32},
      description='Handwritten digits of 8 x 8 pixels.',
      homepage='https://archive.ics.uci.edu/dataset/80',
      license='BSD-3-Clause (scikit-learn)',
    )

  def _split_generators(self, dl_manager):
    from sklearn.datasets import load_digits  # slow to import, and unused once it is prepared

    bunch: Any = load_digits()
    images_BHW = (bunch.images * 255 / INK).round().astype(np.uint8)
    return self.by_index(images_BHW, bunch.target)
