"""Prepared TFDS data sets, split syntax, and one sentence for each mistake."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest
from made_up_prepared import Ambiguous, Real, Several, TinySet
from made_up_source import Memory, picture

from vit_jax.config import ImageData
from vit_jax.data import imagenet
from vit_jax.data.datasets import prepare
from vit_jax.data.loader import Loader
from vit_jax.data.sources import MappedSource, match_classes, open_source
from vit_jax.errors import UserError
from vit_jax.paths import default_data_dir


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp('tfds')
  for builder in (TinySet, Several, Ambiguous, Real):
    builder(data_dir=path).download_and_prepare(file_format='array_record')
  return path


def test_one_of_several_features_is_meant(data_dir):
  def labels(**data):
    source = open_source(ImageData(**data), 'test', data_dir)
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


def test_a_label_may_be_a_set_of_classes(data_dir):
  plain = open_source(ImageData(name='real'), 'validation', data_dir)
  source = open_source(ImageData(name='real', label='real_label'), 'validation', data_dir)
  assert plain.label_sets() is None and source.class_names == plain.class_names == ('x', 'y', 'z')
  right_NK = source.label_sets()
  assert right_NK is not None
  expected = {0: (), 1: (2,), 2: (0, 1)}
  for (_, original), (_, first), right_K in zip(
    plain.read(range(6)), source.read(range(6)), right_NK, strict=True
  ):
    assert tuple(np.flatnonzero(right_K)) == expected[original]
    assert first == {0: -1, 1: 2, 2: 1}[original]
  assert source.digest() != plain.digest()
  data = ImageData(name='real', label='real_label', image_size=(8, 8))
  assert 'soft_label' not in Loader(source, data, seed=0, batch_size=2, train=False).batch(0)
  batch = Loader(source, data, seed=0, batch_size=4, train=True).batch(0)
  np.testing.assert_array_equal(batch['soft_label'], right_NK[batch['index']])
  assert batch['soft_label'].dtype == np.float32
  with pytest.raises(UserError, match="data.label is 'scores'"):
    open_source(ImageData(name='real', label='scores'), 'validation', data_dir)


def test_a_mapped_source_passes_on_what_it_does_not_change(data_dir):
  source = open_source(ImageData(name='tiny_set'), 'train', data_dir)
  number_N = source.column('number')
  indices_N = np.flatnonzero(number_N >= 15)[::-1]
  some = MappedSource(source, 'large', indices_N=indices_N)
  assert (some.name, some.split, len(some)) == ('tiny_set', 'train large', 5)
  assert some.class_names == ('x', 'y', 'z') and some.metadata == source.metadata
  np.testing.assert_array_equal(some.column('number'), number_N[indices_N])
  assert some.column('nonesuch') is None and some.label_sets() is None
  np.testing.assert_array_equal(some.groups(), source.groups()[indices_N])
  assert some.where(1) == source.where(int(indices_N[1]))
  assert some.read([2, 0]) == source.read([int(indices_N[2]), int(indices_N[0])])


def test_a_mapped_source_has_other_labels_and_pixels(data_dir):
  source = open_source(ImageData(name='tiny_set'), 'train', data_dir)
  number_N = source.column('number')
  indices_N = np.array([3, 9])

  def inverted(record):
    return 255 - cv2.imdecode(np.frombuffer(record, np.uint8), 1)

  kept = dict(indices_N=indices_N)
  other = MappedSource(source, 'inverted', labels=number_N // 2, pixels=inverted, **kept)
  assert other.class_names == tuple(map(str, range(10)))
  for (image_HWC, label), number in zip(other.read([0, 1]), number_N[indices_N], strict=True):
    assert label == number // 2 and (image_HWC == 255 - 10 * number).all()

  right_NK = np.stack([number_N % 2 == 0, number_N % 3 == 0], axis=1)
  sets = MappedSource(source, 'even, thirds', labels=right_NK, class_names=('2', '3'), **kept)
  np.testing.assert_array_equal(sets.label_sets(), right_NK[indices_N])
  first = {(True, True): 0, (True, False): 0, (False, True): 1, (False, False): -1}
  assert [label for _, label in sets.read([0, 1])] == [first[tuple(r)] for r in sets.label_sets()]

  some = MappedSource(source, 'inverted', **kept)
  for identity in ('digest', 'content'):
    found = {getattr(each, identity)() for each in (source, some, other, sets)}
    assert (
      len(found) == 4 and getattr(MappedSource(source, 'inverted', **kept), identity)() in found
    )


def test_labels_are_matched_by_class_name(data_dir):
  source = open_source(ImageData(name='tiny_set'), 'train', data_dir)
  assert match_classes(source, ('x', 'y', 'z')) is source
  matched = match_classes(source, ('z', 'a', 'y', 'x'))
  assert matched.class_names == ('z', 'a', 'y', 'x')
  for (_, before), (_, after) in zip(source.read(range(20)), matched.read(range(20)), strict=True):
    assert matched.class_names[after] == source.class_names[before]
  with pytest.raises(UserError, match="'tiny_set' has classes .* not trained on: y; it knows x; z"):
    match_classes(source, ('x', 'z'))

  sets = open_source(ImageData(name='real', label='real_label'), 'validation', data_dir)
  matched = match_classes(sets, ('z', 'a', 'y', 'x'))
  before_NK, after_NK = sets.label_sets(), matched.label_sets()
  assert before_NK is not None and after_NK is not None
  np.testing.assert_array_equal(after_NK[:, [3, 2, 0]], before_NK)
  assert not after_NK[:, 1].any()
  labels = [label for _, label in matched.read(range(6))]
  assert all(
    right_K[label] if right_K.any() else label == -1
    for right_K, label in zip(after_NK, labels, strict=True)
  )


def numbers(source):
  return sorted(source.column('number').tolist())


def test_a_prepared_data_set_by_name_and_version(data_dir):
  for name in ('tiny_set', 'tiny_set:1.2.0'):
    source = open_source(ImageData(name=name), 'train', data_dir)
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
  data = ImageData(name='tiny_set')
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
  data = ImageData(name='tiny_set', image_size=(8, 8), eval_crop=1.0)
  source = open_source(data, 'train', data_dir)
  batch = Loader(source, data, seed=0, batch_size=20, train=False).batch(0)
  column = source.column('number')
  np.testing.assert_array_equal(batch['image'][:, 0, 0, 0], 10 * column)
  np.testing.assert_array_equal(batch['label'], column % 3)


def test_data_that_is_not_prepared_names_the_command(tmp_path):
  with pytest.raises(UserError) as caught:
    open_source(ImageData(name='imagenet2012:5.1.0'), 'train', tmp_path)
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
      open_source(ImageData(name=name), 'train', tmp_path)
  known = (
    'digits, earth_climate, emoji_styles, fashion_mnist, folder, huggingface, ilsvrc, mnist_10k, '
    'noto_scripts, table, webdataset'
  )
  for name in ('qqqqqqqq', '/data/qqqqqqqq', ''):
    with pytest.raises(UserError, match=f"no data set '{name}'.*known: {known}"):
      open_source(ImageData(name=name), 'train', tmp_path)
  with pytest.raises(UserError, match='folder is read as it is'):
    prepare('folder:/x', tmp_path)


def test_another_version_of_ours_is_refused(tmp_path):
  with pytest.raises(UserError, match="built as version 1.2.0, not '7.0.0'"):
    open_source(ImageData(name='earth_climate:7.0.0'), 'train', tmp_path)


def test_data_without_random_access_names_the_conversion(data_dir, tmp_path):
  copy = shutil.copytree(data_dir / 'tiny_set', tmp_path / 'tiny_set')
  info_file = copy / '1.2.0' / 'dataset_info.json'
  info = json.loads(info_file.read_text())
  assert info['fileFormat'] == 'array_record'
  info['fileFormat'] = 'tfrecord'
  info_file.write_text(json.dumps(info))
  with pytest.raises(UserError) as caught:
    open_source(ImageData(name='tiny_set'), 'train', tmp_path)
  command = f'convert_format --dataset_version_dir={copy}/1.2.0 --out_file_format=array_record'
  assert command in str(caught.value)


def test_too_few_classes_are_refused(data_dir):
  with pytest.raises(UserError, match='data.num_classes is 2.*has 3 classes'):
    open_source(ImageData(name='tiny_set', num_classes=2), 'train', data_dir)


def test_the_data_dir_comes_from_the_environment(monkeypatch, data_dir):
  monkeypatch.setenv('VIT_JAX_DATA_DIR', str(data_dir))
  assert default_data_dir() == data_dir
  assert len(open_source(ImageData(name='tiny_set'), 'test')) == 5
  monkeypatch.delenv('VIT_JAX_DATA_DIR')
  assert default_data_dir().parts[-2:] == ('.cache', 'vit_jax')


def test_the_content_of_a_prepared_set_is_that_of_its_files_and_the_features_meant(
  data_dir, tmp_path
):
  shutil.copytree(data_dir / 'several', tmp_path / 'several')

  def content(**data):
    return open_source(ImageData(name='several', **data), 'test', tmp_path).content()

  first = content()
  assert content() == first
  assert len({first, content(label='coarse_label'), content(image='mask')}) == 3
  file = next(tmp_path.rglob('several-test*'))
  os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
  assert content() != first


def test_the_digest_of_a_prepared_set_survives_a_copy_and_a_second_preparation(data_dir, tmp_path):
  def digest(folder, split='test', **data):
    return open_source(ImageData(name='several', **data), split, folder).digest()

  first = digest(data_dir)
  shutil.copytree(data_dir / 'several', tmp_path / 'copy' / 'several')
  Several(data_dir=tmp_path / 'again').download_and_prepare(file_format='array_record')
  assert digest(tmp_path / 'copy') == digest(tmp_path / 'again') == first
  others = [
    digest(data_dir, 'train'),
    digest(data_dir, 'test[:3]'),
    digest(data_dir, label='coarse_label'),
    digest(data_dir, image='mask'),
  ]
  assert len({first, *others}) == 5
  (metadata,) = (tmp_path / 'copy' / 'several').glob('*/')
  (metadata / 'metadata.json').write_text('{"group": "label"}')
  assert digest(tmp_path / 'copy') != first


def test_wordnet_ids_are_matched_with_the_names_of_imagenet():
  folder = Memory(n=2, class_names=('n01440764', 'n02102040'))  # two of ten of Imagenette
  matched = match_classes(folder, imagenet.names())
  found = [matched.class_names[label] for _, label in matched.read([0, 1])]
  assert found == [imagenet.names()[0], imagenet.names()[217]] and 'tench' in found[0]
  with pytest.raises(UserError, match='n01440764'):
    match_classes(folder, ('cat', 'dog'))
