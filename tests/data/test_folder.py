"""Image folders: classes, splits, content, and one sentence for each mistake."""

import os
import shutil

import numpy as np
import pytest
from made_up_source import picture

from vit_jax.config import ImageData
from vit_jax.data.loader import Loader
from vit_jax.data.sources import MappedSource, open_source
from vit_jax.errors import UserError


def fill(folder, classes, count=30):
  for k, name in enumerate(classes):
    (folder / name).mkdir(parents=True)
    for i in range(count):
      (folder / name / f'{i}.png').write_bytes(picture(50 * k + i))
  return folder


def folder_data(directory, **options):
  return ImageData(name='folder', dir=str(directory), **options)


@pytest.fixture(scope='module')
def bare(tmp_path_factory):
  """90 images in 3 classes, no test part."""
  return fill(tmp_path_factory.mktemp('bare'), ['ant', 'bee', 'cat'])


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
  for i in range(40):
    (grown / 'ant' / f'deep{i}' / 'er').mkdir(parents=True)
    (grown / 'ant' / f'deep{i}' / 'er' / 'new.PNG').write_bytes(picture(i))
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
  data = ImageData(name=f'folder:{tmp_path}')
  assert len(open_source(data, 'train')) == 18
  for split in ('test', 'val', 'validation'):
    source = open_source(data, split)
    assert len(source) == 8 and source.class_names == ('a', 'b', 'c')
    assert sorted(source.labels.tolist()) == [0] * 4 + [2] * 4


def test_two_held_out_parts_keep_their_names(tmp_path):
  fill(tmp_path / 'train', ['a', 'b'], 6)
  fill(tmp_path / 'val', ['a'], 2)
  fill(tmp_path / 'test', ['a'], 3)
  sizes = [len(open_source(folder_data(tmp_path), split)) for split in ('train', 'val', 'test')]
  assert sizes == [12, 2, 3]


def test_the_content_of_a_folder_is_another_when_an_image_or_a_label_is(tmp_path):
  def contents():
    source = open_source(folder_data(tmp_path), 'train')
    some = [MappedSource(source, 'some', indices_N=np.array(few)) for few in ([0, 1], [0, 2])]
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


def test_the_digest_of_a_folder_survives_a_copy_and_no_other_change(tmp_path):
  def digests(folder):
    source = open_source(folder_data(folder), 'train')
    return [
      source.digest(),
      *(MappedSource(source, f'{few}', indices_N=np.array(few)).digest() for few in ([0], [1])),
    ]

  first = fill(tmp_path / 'first' / 'train', ['a', 'b'], 3).parent
  fill(first / 'test', ['a', 'b'], 1)
  before = digests(first)
  assert len(set(before)) == 3
  for path in first.rglob('*.png'):
    os.utime(path, ns=(0, 7))
  assert digests(first) == before == digests(shutil.copytree(first, tmp_path / 'second'))

  def changed(change):
    copy = shutil.copytree(first, tmp_path / change.__name__)
    change(copy / 'train')
    return digests(copy)[0]

  def other_pixels(train):  # and no other name or size
    image = train / 'a' / '1.png'
    data = bytearray(image.read_bytes())
    data[-20] ^= 1
    image.write_bytes(data)

  def another_image(train):
    (train / 'a' / 'new.png').write_bytes(picture(9))

  def another_label(train):
    (train / 'a' / '1.png').rename(train / 'b' / 'new.png')

  def another_class_name(train):
    (train / 'a').rename(train / 'A')
    (train.parent / 'test' / 'a').rename(train.parent / 'test' / 'A')

  changes = (other_pixels, another_image, another_label, another_class_name)
  assert len({before[0], *(changed(change) for change in changes)}) == 5


def test_an_empty_class_folder(tmp_path):
  fill(tmp_path, ['a', 'b'], 3)
  (tmp_path / 'c').mkdir()
  (tmp_path / 'c' / 'readme.txt').write_text('no image')
  with pytest.raises(UserError, match=f'class folder {tmp_path}/c has no image'):
    open_source(folder_data(tmp_path), 'train')


def test_a_folder_without_classes(tmp_path):
  (tmp_path / '1.png').write_bytes(picture(1))
  with pytest.raises(UserError, match='has no class folders'):
    open_source(folder_data(tmp_path), 'train')


def test_a_class_that_training_does_not_know(tmp_path):
  fill(tmp_path / 'train', ['a', 'b'], 3)
  fill(tmp_path / 'test', ['a', 'd'], 3)
  with pytest.raises(UserError, match="test/d.* is of class 'd'.*not have: it has a; b"):
    open_source(folder_data(tmp_path), 'train')


def test_a_missing_folder(tmp_path):
  with pytest.raises(UserError, match='nonesuch.*is not a folder'):
    open_source(folder_data(tmp_path / 'nonesuch'), 'train')
  with pytest.raises(UserError, match='config.data.dir is missing'):
    open_source(folder_data(''), 'train')


@pytest.mark.parametrize('fault', ['cut', 'gone'])
def test_an_unreadable_image_of_a_folder(tmp_path, fault):
  fill(tmp_path / 'train', ['a', 'b'], 5)
  bad = tmp_path / 'train' / 'b' / '3.png'
  options = dict(image_size=(8, 8), eval_crop=1.0, cache='never')
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
