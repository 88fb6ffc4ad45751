"""Sizes of data sets, so that a plan needs no data on disk."""

import tensorflow_datasets as tfds

from vit_jax.config import ImageData, PairData
from vit_jax.data import splits
from vit_jax.errors import UserError

# Data set -> (classes, images by split); from https://www.tensorflow.org/datasets/catalog/NAME.
SIZES: dict[str, tuple[int, dict[str, int]]] = {
  'earth_climate': (14, {'train': 8_282, 'test': 1_906}),  # of configs/earth_climate.py
  'fashion_mnist': (10, {'train': 60_000, 'test': 10_000}),
  'mnist': (10, {'train': 60_000, 'test': 10_000}),
  'cifar10': (10, {'train': 50_000, 'test': 10_000}),
  'cifar100': (100, {'train': 50_000, 'test': 10_000}),
  'oxford_iiit_pet': (37, {'train': 3_680, 'test': 3_669}),
  'oxford_flowers102': (102, {'train': 1_020, 'validation': 1_020, 'test': 6_149}),
  'imagenet2012': (1000, {'train': 1_281_167, 'validation': 50_000}),
  # The autumn 2011 release, all images in one split: arXiv:2104.10972, section 3.1.
  'imagenet21k': (21_843, {'full': 14_197_122}),
}


def data_size(
  data: ImageData | PairData, num_examples: int = 0, num_classes: int = 0
) -> tuple[int, int]:
  """(training examples, classes) of what `data` names; of pairs the classes are target tokens.

  Args:
    num_examples, num_classes: given by the user, if not 0.

  Raises:
    UserError: neither given nor known here; or an unknown split.
  """
  name = data.name.split(':')[0]
  classes, images = SIZES.get(name, (0, {}))
  known = data.vocabulary if isinstance(data, PairData) else data.num_classes
  num_classes = num_classes or known or classes
  if not num_examples and images:
    infos = {split: tfds.core.SplitInfo(split, [count], 0) for split, count in images.items()}
    num_examples = sum(end - start for _, start, end in splits.pieces(name, data.train, infos))
  for flag, value in (('num_examples', num_examples), ('num_classes', num_classes)):
    if not value:
      raise UserError(f'the size of data set {data.name!r} is not known; give --{flag}')
  return num_examples, num_classes
