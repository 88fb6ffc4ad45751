"""Small data sets as TFDS prepares them."""

import io

import numpy as np
import tensorflow_datasets as tfds
from made_up_source import picture


class TinySet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """25 pictures whose value is 10 * number; the label is number % 3."""

  VERSION = tfds.core.Version('1.2.0')
  url_infos = {}

  def _info(self):
    features = {
      'picture': tfds.features.Image(shape=(None, None, 3), encoding_format='png'),
      'kind': tfds.features.ClassLabel(names=['x', 'y', 'z']),
      'number': np.int32,
      'weight': np.float32,
      'note': tfds.features.Text(),
    }
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples(0, 20), 'test': self._generate_examples(20, 25)}

  def _generate_examples(self, start, end):
    for i in range(start, end):
      png = io.BytesIO(picture(10 * i))
      yield i, dict(picture=png, kind=i % 3, number=i, weight=i / 2, note=f'n{i}')


class Several(TinySet, skip_registration=True):
  """As CIFAR-100 and Pets are: two class labels, and a second picture."""

  LABELS = 'label', 'coarse_label'

  def _info(self):
    labels = {name: tfds.features.ClassLabel(num_classes=9) for name in self.LABELS}
    pictures = {name: tfds.features.Image(shape=(None, None, 3)) for name in ('image', 'mask')}
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict({**pictures, **labels})
    )

  def _generate_examples(self, start, end):
    for i in range(start, end):
      yield (
        i,
        {
          'image': io.BytesIO(picture(10 * i)),
          'mask': io.BytesIO(picture(0)),
          self.LABELS[0]: i % 3,
          self.LABELS[1]: 7,
        },
      )


class Ambiguous(Several, skip_registration=True):
  LABELS = 'fine', 'rough'


class Real(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """As imagenet2012_real is: a class for each image, and all those that people saw in it."""

  VERSION = tfds.core.Version('1.0.0')
  url_infos = {}

  def _info(self):
    one = tfds.features.ClassLabel(names=['x', 'y', 'z'])
    features = {
      'image': tfds.features.Image(shape=(None, None, 3)),
      'original_label': one,
      'real_label': tfds.features.Sequence(one),
      'scores': tfds.features.Sequence(np.float32),
    }
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

  def _split_generators(self, dl_manager):
    return {'validation': self._generate_examples()}

  def _generate_examples(self):
    for i in range(6):
      seen = [[], [2], [1, 0]][i % 3]
      image = io.BytesIO(picture(10 * i))
      yield i, dict(image=image, original_label=i % 3, real_label=seen, scores=[0.5])
