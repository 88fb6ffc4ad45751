"""Prepared TFDS data sets, split syntax, and one sentence for each mistake."""

from __future__ import annotations

import io
import json
import os
import shutil

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from made_up_source import picture

from vit_jax.config import Data
from vit_jax.data.datasets import prepare
from vit_jax.data.loader import Loader
from vit_jax.data.sources import DATA_DIR_VARIABLE, default_data_dir, open_source
from vit_jax.errors import UserError


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


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp('tfds')
  for builder in (TinySet, Several, Ambiguous):
    builder(data_dir=path).download_and_prepare(file_format='array_record')
  return path


def test_one_of_several_features_is_meant(data_dir):
  def labels(**data):
    source = open_source(Data(**data), 'test', data_dir)
    record = source.read([0])[0][0]
    assert (cv2.imdecode(np.frombuffer(record, np.uint8), 1).max() > 0) == ('image' not in data)
    return sorted(label for _, label in source.read(range(len(source))))

  assert labels(name='several') == [0, 0, 1, 2, 2]
  assert labels(name='several', label='coarse_label', image='mask') == [7] * 5
  assert labels(name='ambiguous', label='rough') == [7] * 5
  with pytest.raises(
    UserError,
    match=r'2 features of type ClassLabel; choose one, as in '
    r'--config.data.label=fine: fine, rough',
  ):
    labels(name='ambiguous')
  with pytest.raises(
    UserError,
    match=r"data.label is 'kind', but data set 'several' has these "
    r'features of type ClassLabel: coarse_label, label;',
  ):
    labels(name='several', label='kind')


def numbers(source):
  return sorted(source.column('number').tolist())


def test_a_prepared_data_set_by_name_and_version(data_dir):
  for name in ('tiny_set', 'tiny_set:1.2.0'):
    source = open_source(Data(name=name), 'train', data_dir)
    assert len(source) == 20 and source.class_names == ('x', 'y', 'z')
    column = source.column('number')
    assert sorted(column) == list(range(20))
    indices = [7, 0, 19, 7]
    for index, (record, label) in zip(indices, source.read(indices), strict=True):
      assert record == picture(10 * column[index])
      assert label == column[index] % 3
    np.testing.assert_array_equal(source.column('weight'), column / 2)
    np.testing.assert_array_equal(source.column('kind'), column % 3)
    assert source.column('nonesuch') is None and source.column('picture') is None


def test_split_syntax_of_prepared_data(data_dir):
  data = Data(name='tiny_set')
  first = open_source(data, 'train[:25%]', data_dir)
  rest = open_source(data, 'train[25%:]', data_dir)
  assert (len(first), len(rest)) == (5, 15)
  assert sorted(numbers(first) + numbers(rest)) == list(range(20))
  both = open_source(data, 'train[-2:]+test', data_dir)
  assert len(both) == 7 and set(range(20, 25)) < set(numbers(both))
  for split in ('validation', 'train[', 'train[:300]', 'train[:0]', ''):
    with pytest.raises(UserError, match="'tiny_set'"):
      open_source(data, split, data_dir)


def test_prepared_data_reaches_the_batch(data_dir):
  data = Data(name='tiny_set', image_size=(8, 8), eval_resize=8)
  source = open_source(data, 'train', data_dir)
  batch = Loader(source, data, seed=0, batch_size=20, train=False).batch(0)
  column = source.column('number')
  np.testing.assert_array_equal(batch['image'][:, 0, 0, 0], 10 * column)
  np.testing.assert_array_equal(batch['label'], column % 3)


def test_data_that_is_not_prepared_names_the_command(tmp_path):
  with pytest.raises(UserError) as caught:
    open_source(Data(name='imagenet2012:5.1.0'), 'train', tmp_path)
  command = f'tfds build imagenet2012:5.1.0 --data_dir={tmp_path} --file_format=array_record'
  assert command in str(caught.value)


def test_an_unknown_name_gives_the_nearest(tmp_path):
  for name, hint in [
    ('cifar01', "'cifar10'"),
    ('earth_climat', "'earth_climate'"),
    ('cifar-10', "'cifar10'"),
    ('digits/', "'digits'"),
    ('digits ', "'digits'"),
  ]:
    with pytest.raises(UserError, match=f"no data set '{name}'.*did you mean.*{hint}"):
      open_source(Data(name=name), 'train', tmp_path)
  known = 'digits, earth_climate, emoji_styles, fashion_mnist, folder, mnist_10k, noto_scripts'
  for name in ('qqqqqqqq', '/data/qqqqqqqq', ''):
    with pytest.raises(UserError, match=f"no data set '{name}'.*known: {known}"):
      open_source(Data(name=name), 'train', tmp_path)
  with pytest.raises(UserError, match='an image folder is read as it is'):
    prepare('folder:/x', tmp_path)


def test_another_version_of_ours_is_refused(tmp_path):
  with pytest.raises(UserError, match="built as version 1.1.0, not '7.0.0'"):
    open_source(Data(name='earth_climate:7.0.0'), 'train', tmp_path)


def test_data_without_random_access_names_the_conversion(data_dir, tmp_path):
  copy = shutil.copytree(data_dir / 'tiny_set', tmp_path / 'tiny_set')
  info_file = copy / '1.2.0' / 'dataset_info.json'
  info = json.loads(info_file.read_text())
  assert info['fileFormat'] == 'array_record'
  info['fileFormat'] = 'tfrecord'
  info_file.write_text(json.dumps(info))
  with pytest.raises(UserError) as caught:
    open_source(Data(name='tiny_set'), 'train', tmp_path)
  command = f'convert_format --dataset_version_dir={copy}/1.2.0 --out_file_format=array_record'
  assert command in str(caught.value)


def test_too_few_classes_are_refused(data_dir):
  with pytest.raises(UserError, match='data.num_classes is 2.*has 3 classes'):
    open_source(Data(name='tiny_set', num_classes=2), 'train', data_dir)


def test_the_data_dir_comes_from_the_environment(monkeypatch, data_dir):
  monkeypatch.setenv(DATA_DIR_VARIABLE, str(data_dir))
  assert default_data_dir() == data_dir
  assert len(open_source(Data(name='tiny_set'), 'test')) == 5
  monkeypatch.delenv(DATA_DIR_VARIABLE)
  assert default_data_dir().parts[-2:] == ('.cache', 'vit_jax')


def test_the_content_of_a_prepared_set_is_that_of_its_files_and_the_features_meant(
  data_dir, tmp_path
):
  shutil.copytree(data_dir / 'several', tmp_path / 'several')

  def content(**data):
    return open_source(Data(name='several', **data), 'test', tmp_path).content()

  first = content()
  assert content() == first
  assert len({first, content(label='coarse_label'), content(image='mask')}) == 3
  file = next(tmp_path.rglob('several-test*'))
  os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
  assert content() != first
