"""Folders, prepared TFDS data sets, split syntax, and one sentence for each mistake."""

from __future__ import annotations

import io
import json
import os
import shutil

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from vit_jax.config import Data
from vit_jax.data.datasets import prepare
from vit_jax.data.loader import Loader
from vit_jax.data.sources import DATA_DIR_VARIABLE, Subset, default_data_dir, open_source
from vit_jax.errors import UserError


def picture(value, size=8):
  image_HWC = np.full((size, size, 3), value, np.uint8)
  return cv2.imencode('.png', image_HWC)[1].tobytes()


def fill(folder, classes, count=30):
  for k, name in enumerate(classes):
    (folder / name).mkdir(parents=True)
    for i in range(count):
      (folder / name / f'{i}.png').write_bytes(picture(50 * k + i))
  return folder


def folder_data(directory, **options):
  return Data(name='folder', dir=str(directory), **options)


@pytest.fixture(scope='module')
def bare(tmp_path_factory):
  """90 images in 3 classes, no test part."""
  return fill(tmp_path_factory.mktemp('bare'), ['ant', 'bee', 'cat'])


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
    return tfds.core.DatasetInfo(builder=self,
                                 features=tfds.features.FeaturesDict({**pictures, **labels}))

  def _generate_examples(self, start, end):
    for i in range(start, end):
      yield i, {'image': io.BytesIO(picture(10 * i)), 'mask': io.BytesIO(picture(0)),
                self.LABELS[0]: i % 3, self.LABELS[1]: 7}


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
  with pytest.raises(UserError, match=r'2 features of type ClassLabel; choose one, as in '
                                      r'--config.data.label=fine: fine, rough'):
    labels(name='ambiguous')
  with pytest.raises(UserError, match=r"data.label is 'kind', but data set 'several' has these "
                                      r'features of type ClassLabel: coarse_label, label;'):
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
  for name, hint in [('cifar01', "'cifar10'"), ('earth_climat', "'earth_climate'"),
                     ('cifar-10', "'cifar10'"), ('digits/', "'digits'"), ('digits ', "'digits'")]:
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


def test_a_folder_without_a_test_part_is_split_by_hash(bare):
  train, test = (open_source(folder_data(bare), split) for split in ('train', 'test'))
  assert train.class_names == ('ant', 'bee', 'cat')
  assert not set(train.files) & set(test.files)
  assert len(train) + len(test) == 90
  assert 8 <= len(test) <= 28
  larger = open_source(folder_data(bare, test_fraction=0.5), 'test')
  assert set(test.files) < set(larger.files) and 30 <= len(larger) <= 60
  assert open_source(folder_data(bare), 'train').files == train.files
  for i, (record, label) in enumerate(train.read(range(len(train)))):
    name, number = train.files[i].removesuffix('.png').split('/')
    assert train.class_names[label] == name
    assert record == picture(50 * label + int(number))


def test_adding_files_moves_none_to_the_other_side(bare, tmp_path):
  before = open_source(folder_data(bare), 'test')
  grown = shutil.copytree(bare, tmp_path / 'grown')
  (grown / 'ant' / 'deep' / 'er').mkdir(parents=True)
  for i in range(40):
    (grown / 'ant' / 'deep' / 'er' / f'new{i}.PNG').write_bytes(picture(i))
  after = open_source(folder_data(grown), 'test')
  assert set(before.files) < set(after.files)
  assert all('new' in file for file in set(after.files) - set(before.files))


def test_slices_of_a_folder_are_mixed_over_the_classes(bare):
  source = open_source(folder_data(bare), 'train[:30%]')
  rest = open_source(folder_data(bare), 'train[30%:]')
  assert set(source.labels) == {0, 1, 2}
  assert not set(source.files) & set(rest.files)
  with pytest.raises(UserError, match=r"split 'tran': it has 'train' \(\d+\), 'test'"):
    open_source(folder_data(bare), 'tran')


@pytest.mark.parametrize('held_out', ['test', 'val', 'validation'])
def test_a_folder_with_its_own_test_part(tmp_path, held_out):
  fill(tmp_path / 'train', ['a', 'b', 'c'], 6)
  fill(tmp_path / held_out, ['a', 'c'], 4)
  (tmp_path / '.hidden').mkdir()
  (tmp_path / 'train' / '.cache').mkdir()
  (tmp_path / 'train' / 'a' / 'notes.txt').write_text('no image')
  data = Data(name=f'folder:{tmp_path}')
  assert len(open_source(data, 'train')) == 18
  for split in ('test', 'val', 'validation'):
    source = open_source(data, split)
    assert len(source) == 8 and source.class_names == ('a', 'b', 'c')
    assert sorted(source.labels.tolist()) == [0] * 4 + [2] * 4


def test_two_held_out_parts_keep_their_names(tmp_path):
  fill(tmp_path / 'train', ['a'], 6)
  fill(tmp_path / 'val', ['a'], 2)
  fill(tmp_path / 'test', ['a'], 3)
  sizes = [len(open_source(folder_data(tmp_path), split)) for split in ('train', 'val', 'test')]
  assert sizes == [6, 2, 3]


def test_the_content_of_a_folder_is_another_when_an_image_or_a_label_is(tmp_path):
  def contents():
    source = open_source(folder_data(tmp_path), 'train')
    some = [Subset(source, np.array(indices), 'some') for indices in ([0, 1], [0, 2])]
    return [each.content() for each in (source, *some)]

  fill(tmp_path / 'train', ['a', 'b'], 3)
  fill(tmp_path / 'test', ['a', 'b'], 1)
  first = contents()
  assert contents() == first and len(set(first)) == 3
  image, other = (tmp_path / 'train' / name / '1.png' for name in 'ab')
  os.utime(image, ns=(0, image.stat().st_mtime_ns + 1))  # written again, as long as before
  second = contents()
  pictures = image.read_bytes(), other.read_bytes()
  other.write_bytes(pictures[0])
  image.write_bytes(pictures[1])
  third = contents()
  image.rename(tmp_path / 'train' / 'b' / '9.png')
  fourth = contents()
  for before, after in ((first, second), (second, third), (third, fourth)):
    assert before[0] != after[0] and before[1] != after[1]


def test_the_content_of_a_prepared_set_is_that_of_its_files_and_the_features_meant(data_dir,
                                                                                   tmp_path):
  shutil.copytree(data_dir / 'several', tmp_path / 'several')

  def content(**data):
    return open_source(Data(name='several', **data), 'test', tmp_path).content()

  first = content()
  assert content() == first
  assert len({first, content(label='coarse_label'), content(image='mask')}) == 3
  file = next(tmp_path.rglob('several-test*'))
  os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
  assert content() != first


def test_an_empty_class_folder(tmp_path):
  fill(tmp_path, ['a', 'b'], 3)
  (tmp_path / 'c').mkdir()
  (tmp_path / 'c' / 'readme.txt').write_text('no image')
  with pytest.raises(UserError, match=f'class folder {tmp_path}/c holds no image'):
    open_source(folder_data(tmp_path), 'train')


def test_a_folder_without_classes(tmp_path):
  (tmp_path / '1.png').write_bytes(picture(1))
  with pytest.raises(UserError, match='holds no class folders'):
    open_source(folder_data(tmp_path), 'train')


def test_a_class_that_training_does_not_know(tmp_path):
  fill(tmp_path / 'train', ['a', 'b'], 3)
  fill(tmp_path / 'test', ['a', 'd'], 3)
  with pytest.raises(UserError, match='test/d is a class that .*train does not have'):
    open_source(folder_data(tmp_path), 'train')


def test_a_missing_folder(tmp_path):
  with pytest.raises(UserError, match='nonesuch.*is no folder'):
    open_source(folder_data(tmp_path / 'nonesuch'), 'train')
  with pytest.raises(UserError, match='needs data.dir'):
    open_source(folder_data(''), 'train')


@pytest.mark.parametrize('fault', ['cut', 'gone'])
def test_an_unreadable_image_of_a_folder(tmp_path, fault):
  fill(tmp_path / 'train', ['a', 'b'], 5)
  bad = tmp_path / 'train' / 'b' / '3.png'
  options = dict(image_size=(8, 8), eval_resize=8, cache='never')
  source = open_source(folder_data(tmp_path, **options), 'train')
  index = source.files.index('train/b/3.png')
  bad.write_bytes(bad.read_bytes()[:40])
  if fault == 'gone':
    bad.unlink()
  strict = Loader(source, folder_data(tmp_path, **options), seed=0, batch_size=10, train=False)
  sentence = f"data set 'folder:{tmp_path}', split 'train': example {index} .{bad}. cannot be read"
  with pytest.raises(UserError, match=sentence):
    strict.batch(0)
  lenient_data = folder_data(tmp_path, on_bad_record='skip', **options)
  lenient = Loader(source, lenient_data, seed=0, batch_size=10, train=False)
  batch = lenient.batch(0)
  assert np.flatnonzero(~batch['mask']).tolist() == [index]
  assert lenient.bad_records == 1
