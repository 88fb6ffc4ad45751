"""fashion_mnist from the files of Debian's package dataset-fashion-mnist.

70,000 grey 28 x 28 pictures of clothing in 10 classes (Xiao et al. 2017). Where TFDS's own
fashion_mnist is prepared, that is read instead and nothing here is used.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from vit_jax.data.datasets import packages
from vit_jax.data.prepared import TFDS_COMMAND
from vit_jax.errors import UserError

DEBIAN = Path('/usr/share/datasets/fashion-mnist')
FILES = {'train': 'train', 'test': 't10k'}
CLASSES = (
  'T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat',
  'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot',
)  # fmt: skip


class FashionMnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Needs file_format='array_record' to do without TensorFlow."""

  VERSION = tfds.core.Version('1.0.0')
  url_infos = {}  # nothing is downloaded
  directory = DEBIAN

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description='Grey pictures of clothing, 10 classes.',
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(shape=(28, 28, 1), encoding_format='png'),
          'label': tfds.features.ClassLabel(names=list(CLASSES)),
        }
      ),
      supervised_keys=('image', 'label'),
      homepage='https://github.com/zalandoresearch/fashion-mnist',
      license='MIT',
    )

  def _split_generators(self, dl_manager):
    if not self.directory.is_dir():
      raise UserError(
        "data set 'fashion_mnist' is not there: either apt-get install dataset-fashion-mnist, or "
        f'{TFDS_COMMAND} build fashion_mnist --data_dir={self.data_dir_root} '
        '--file_format=array_record'
      )
    return {split: self._generate_examples(split) for split in FILES}

  def _generate_examples(self, split):
    images_BHW = read_idx(self.directory / f'{FILES[split]}-images-idx3-ubyte.gz')
    labels_B = read_idx(self.directory / f'{FILES[split]}-labels-idx1-ubyte.gz')
    pairs = zip(images_BHW, labels_B.tolist(), strict=True)
    title = f'preparing fashion_mnist, {split}'
    # disable=None: no bar where there is no terminal.
    for i, (image_HW, label) in enumerate(tqdm(pairs, title, len(labels_B), disable=None)):
      yield i, {'image': packages.png(image_HW), 'label': label}


def read_idx(path: Path) -> np.ndarray:
  """Reads a gzipped IDX file of unsigned bytes: a big-endian header, then the values.

  Raises:
    UserError: missing, damaged, or of another type.
  """
  try:
    content = gzip.decompress(path.read_bytes())
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(f'{path} cannot be read: {error}; reinstall dataset-fashion-mnist') from error
  zeros, kind, rank = content[:2], content[2:3], content[3] if len(content) > 3 else 0
  shape = np.frombuffer(content[4 : 4 + 4 * rank], '>u4').tolist()
  values = np.frombuffer(content[4 + 4 * rank :], np.uint8)
  if zeros != b'\0\0' or kind != b'\x08' or values.size != math.prod(shape):
    raise UserError(f'{path} is no IDX file of bytes; reinstall dataset-fashion-mnist')
  return values.reshape(shape)
