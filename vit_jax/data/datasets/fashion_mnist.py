"""fashion_mnist from the files of Debian's package dataset-fashion-mnist.

70,000 gray 28 x 28 pictures of clothing in 10 classes (Xiao et al. 2017). Where TFDS's own
fashion_mnist is prepared, it is used instead of this one.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from vit_jax.data.datasets import packages
from vit_jax.data.prepared import TFDS_COMMAND
from vit_jax.errors import UserError

DEBIAN = Path('/usr/share/datasets/fashion-mnist')
FILES = {'train': 'train', 'test': 't10k'}
CLASSES = (
  'T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat',
  'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot',
)  # fmt: skip


class FashionMnist(packages.PackageBuilder, skip_registration=True):
  VERSION = tfds.core.Version('1.0.0')
  directory = DEBIAN

  def _info(self) -> tfds.core.DatasetInfo:
    return self.describe(
      (28, 28, 1),
      CLASSES,
      description='Gray pictures of clothing, 10 classes.',
      homepage='https://github.com/zalandoresearch/fashion-mnist',
      license='MIT',
    )

  def _split_generators(self, dl_manager):
    if not self.directory.is_dir():
      raise UserError(
        "data set 'fashion_mnist' is not available: apt-get install dataset-fashion-mnist, or "
        f'{TFDS_COMMAND} build fashion_mnist --data_dir={self.data_dir_root} '
        '--file_format=array_record'
      )
    return {split: self._examples(split) for split in FILES}

  def _examples(self, split):
    images_BHW = read_idx(self.directory / f'{FILES[split]}-images-idx3-ubyte.gz')
    labels_B = read_idx(self.directory / f'{FILES[split]}-labels-idx1-ubyte.gz')
    for i in self.progress(range(len(labels_B)), split):
      yield i, {'image': packages.png(images_BHW[i]), 'label': int(labels_B[i])}


def read_idx(path: Path) -> np.ndarray:
  """Reads a gzipped IDX file of unsigned bytes: a big-endian header, then the values."""
  try:
    content = gzip.decompress(path.read_bytes())
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(f'{path} cannot be read: {error}; reinstall dataset-fashion-mnist') from error
  zeros, kind, rank = content[:2], content[2:3], content[3] if len(content) > 3 else 0
  shape = np.frombuffer(content[4 : 4 + 4 * rank], '>u4').tolist()
  values = np.frombuffer(content[4 + 4 * rank :], np.uint8)
  if zeros != b'\0\0' or kind != b'\x08' or values.size != math.prod(shape):
    raise UserError(f'{path} is not an IDX file of bytes; reinstall dataset-fashion-mnist')
  return values.reshape(shape)
