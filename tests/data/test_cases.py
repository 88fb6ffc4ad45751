"""Folders as people have them, each with its right answer.

The cases are those that users of this and neighboring projects met: every kind of layout, name and
file once. Images are noise around a gray of their class.
"""

import os

import cv2
import numpy as np
import pytest
from made_up_folders import picture, write
from PIL import Image

from vit_jax.config import Eval, ImageData
from vit_jax.data.found import found
from vit_jax.data.pixels import Pixels
from vit_jax.data.sources import open_listing, open_source
from vit_jax.errors import UserError
from vit_jax.evaluate.sets import open_evals


def listed(folder, judged=False, **keys):
  return open_listing(ImageData(name='folder', dir=str(folder), **keys), judged)


def sizes(listing):
  return {split: len(index_n) for split, index_n in listing.parts.items()}


def files(folder, split, **keys):
  source = open_source(ImageData(name='folder', dir=str(folder), **keys), split)
  return {source.where(i) for i in range(len(source))}


@pytest.mark.parametrize('train', ['train', 'Train', 'TRAINING'])
@pytest.mark.parametrize(
  'held_out', ['test', 'Test', 'testing', 'val', 'valid', 'VALIDATION', 'dev']
)
def test_splits_in_any_spelling_are_no_classes(tmp_path, train, held_out):
  write(tmp_path / train, {'cat': 10, 'dog': 10})
  write(tmp_path / held_out, {'cat': 5, 'dog': 5}, seed=50)
  listing = listed(tmp_path)
  assert listing.class_names == ('cat', 'dog')
  assert sorted(sizes(listing).values()) == [10, 20] and sizes(listing)['train'] == 20
  data = ImageData(name='folder', dir=str(tmp_path))
  for name in ('test', 'val', 'validation', 'dev', 'testing', 'valid'):
    assert len(open_source(data, name)) == 10
  assert len(open_source(data, 'training[:50%]')) == 10


def test_splits_without_train_can_be_judged_and_not_trained_on(tmp_path):
  write(tmp_path / 'val', {'cat': 10, 'dog': 10})
  write(tmp_path / 'test', {'cat': 5, 'dog': 5}, seed=50)
  assert sizes(listed(tmp_path, judged=True)) == {'test': 10, 'validation': 20}
  with pytest.raises(UserError, match="no split 'train': it has 'test'.*a split called train"):
    files(tmp_path, 'train')


def test_a_class_may_be_called_train(tmp_path):
  write(tmp_path, {'bus': 10, 'car': 10, 'train': 10})
  assert listed(tmp_path).class_names == ('bus', 'car', 'train')


def test_folders_of_which_one_could_be_a_split_are_refused_until_it_is_said(tmp_path):
  write(tmp_path, {'bus/x': 10, 'car/x': 10, 'train/steam': 10, 'train/electric': 10})
  with pytest.raises(
    UserError, match='train, which names a split, beside bus; car.*layout=classes'
  ):
    listed(tmp_path)
  assert listed(tmp_path, layout='classes').class_names == ('bus', 'car', 'train')
  splits = listed(tmp_path, layout='splits')
  assert splits.class_names == ('electric', 'steam') and len(splits.left_out) == 1


def test_other_folders_beside_splits_are_left_out_and_said(tmp_path):
  write(tmp_path, {'train/a': 4, 'train/b': 4, 'test/a': 2, 'test/b': 2, 'unlabeled': 3})
  (tmp_path / 'annotations').mkdir()
  listing = listed(tmp_path)
  assert sizes(listing) == {'train': 8, 'test': 4}
  assert len(listing.left_out['outside of class folders']) == 3
  assert '3 outside of class folders' in found(listing).line


def test_the_same_split_twice_is_refused(tmp_path):
  write(tmp_path, {'train/a': 4, 'train/b': 4, 'val/a': 2, 'valid/a': 2})
  with pytest.raises(UserError, match='both name the split'):
    listed(tmp_path)


def test_a_folder_one_too_high_is_refused_with_the_likely_one(tmp_path):
  likely = tmp_path / 'a' / 'data'
  write(likely, {'train/cat': 10, 'train/dog': 10, 'test/cat': 5, 'test/dog': 5})
  for judged in (False, True):
    with pytest.raises(UserError, match=f'probably {likely}'):
      listed(tmp_path, judged)
  classes = write(tmp_path / 'b', {'images/cat': 3, 'images/dog': 3})
  with pytest.raises(UserError, match=f'one class folder.*probably {classes}/images'):
    listed(classes)


def test_splits_below_the_classes_are_refused(tmp_path):
  write(tmp_path, {'cat/train': 3, 'cat/test': 3, 'dog/train': 3, 'dog/test': 3})
  with pytest.raises(UserError, match='put the split above the class, as test/cat'):
    listed(tmp_path)


def test_one_class_cannot_be_learned_but_judged(tmp_path):
  write(tmp_path, {'cat': 3})
  with pytest.raises(UserError, match='one class folder, cat; two or more'):
    listed(tmp_path)
  assert len(listed(tmp_path, judged=True).keys) == 3


def test_links_are_followed_and_circles_and_broken_ones_are_said(tmp_path):
  more = write(tmp_path / 'elsewhere', {'more': 20}, first=100) / 'more'
  folder = write(tmp_path / 'linked', {'cat': 10, 'dog': 10})
  os.symlink(more, folder / 'cat' / 'more')
  os.symlink(folder, folder / 'dog' / 'circle')
  os.symlink(tmp_path / 'gone', folder / 'dog' / 'gone.png')
  os.symlink(more / '100.png', folder / 'dog' / 'one.png')
  listing = listed(folder)
  assert len(listing.keys) == 41
  assert listing.left_out == {
    'links in a circle': ['dog/circle'],
    'broken links': ['dog/gone.png'],
  }
  assert listing.store.read('cat/more/101.png') == (more / '101.png').read_bytes()


def test_names_that_are_no_utf8(tmp_path):
  folder = write(tmp_path, {'cat': 10, 'dog': 10})
  os.rename(os.fsencode(folder / 'cat' / '000.png'), os.fsencode(folder) + b'/cat/caf\xe9.png')
  os.rename(os.fsencode(folder / 'dog'), os.fsencode(folder) + b'/dog\xe9')
  listing = listed(folder)
  assert listing.class_names == ('cat', 'dog\\xe9') and len(listing.keys) == 20
  (key,) = (key for key in listing.keys if 'caf' in key)
  assert listing.store.read(key) == picture(30, 0)
  for text in (listing.store.where(key), found(listing).line, *listing.class_names):
    assert text.encode()  # can be printed and written anywhere


def test_every_suffix_and_none_is_read_and_what_is_no_image_is_said(tmp_path):
  folder = write(tmp_path, {'cat': 10, 'dog': 10})
  write(folder, {'cat': 5}, '.tiff', first=50)
  for i in range(3):
    (folder / 'dog' / f'j{i}.jpe').write_bytes(picture(120, 90 + i, '.jpg'))
    (folder / 'dog' / f'no_suffix{i}').write_bytes(picture(120, 95 + i))
    (folder / 'dog' / f'0{i}.n0201').write_bytes(picture(120, 98 + i))
  (folder / 'dog' / 'readme.TXT').write_text('words')
  (folder / 'dog' / 'LICENSE').write_text('words')
  (folder / 'dog' / '._000.png').write_bytes(b'')
  listing = listed(folder)
  assert len(listing.keys) == 20 + 5 + 9
  assert {reason: len(names) for reason, names in listing.left_out.items()} == {
    '.txt files': 1,
    'files without a suffix that are no images': 1,
    'hidden': 1,
  }


def test_each_class_has_a_training_image_in_a_split_that_is_drawn(tmp_path):
  write(tmp_path, {f'c{k:02}': 2 for k in range(40)})
  listing = listed(tmp_path)
  train, test = (listing.labels_N[listing.parts[split]] for split in ('train', 'test'))
  assert set(train) == set(range(40)) and 0 < len(test) < 20
  assert 'test is drawn' in found(listing).line and 'test has no example of' in found(listing).line


def test_a_class_that_is_large_enough_has_a_test_image(tmp_path):
  write(tmp_path, {f'c{k}': 10 for k in range(12)})
  listing = listed(tmp_path, test_fraction=0.1)
  test = listing.labels_N[listing.parts['test']]
  assert set(test) == set(range(12)) and 12 <= len(test) <= 30


def test_a_video_is_on_one_side(tmp_path):
  for v in range(20):
    write(tmp_path, {f'cat/video{v:02}': 10, f'dog/video{v:02}': 10}, seed=100 * v)
  train, test = (files(tmp_path, split) for split in ('train', 'test'))
  assert len(train) + len(test) == 400 and len(test) >= 40
  assert not {os.path.dirname(file) for file in train} & {os.path.dirname(file) for file in test}
  listing = listed(tmp_path)
  assert '40 groups' in found(listing).line
  assert len(np.unique(listing.groups_N)) == 40
  held, kept = (files(tmp_path, f'train:{part}') for part in ('held', 'kept'))
  assert held and kept
  assert not {os.path.dirname(file) for file in held} & {os.path.dirname(file) for file in kept}
  apart = files(tmp_path, 'test', group_by='file')
  assert {os.path.dirname(file) for file in apart} & {
    os.path.dirname(file) for file in files(tmp_path, 'train', group_by='file')
  }


def test_a_folder_that_holds_all_of_a_class_is_no_group(tmp_path):
  write(tmp_path, {'cat/images': 30, 'dog/images': 30})
  assert len(np.unique(listed(tmp_path).groups_N)) == 60
  assert sizes(listed(tmp_path))['test'] > 2


def test_a_split_that_lacks_a_class_is_said(tmp_path):
  write(tmp_path, {'train/a': 5, 'train/b': 5, 'train/c': 5, 'val/a': 4, 'val/c': 3})
  listing = listed(tmp_path)
  source = listing.split('val')
  assert source.class_names == ('a', 'b', 'c') and np.bincount(source.labels).tolist() == [4, 0, 3]
  assert 'validation has no example of 1 of the classes: b' in found(listing).line


def test_a_folder_without_splits_is_judged_whole(tmp_path):
  classes = {'apple': 50, 'banana': 50, 'cherry': 50}
  trained = write(tmp_path / 'trained', classes)
  judged = write(tmp_path / 'judged', classes, seed=500)
  data = ImageData(name='folder', dir=str(trained))
  lines = {
    'other': Eval(data=f'folder:{judged}'),
    'same': Eval(data=f'folder:{trained}/'),
    'own': Eval(),
  }
  opened = open_evals(lines, data, tuple(classes), tmp_path)
  counts = {name: len(line.tests[0].source) for name, line in opened.items()}
  assert counts == {'other': 150, 'same': counts['own'], 'own': counts['own']}
  assert counts['own'] < 60


def test_images_that_are_in_two_splits_are_counted(tmp_path):
  write(tmp_path / 'train', {'a': 10, 'b': 10})
  write(tmp_path / 'test', {'a': 5, 'b': 5}, seed=50)
  assert not found(listed(tmp_path)).duplicates
  for i in range(3):
    (tmp_path / 'test' / 'a' / f'copy{i}.png').write_bytes(
      (tmp_path / 'train' / 'b' / f'00{i}.png').read_bytes()
    )
  (tmp_path / 'test' / 'b' / 'twice.png').write_bytes(
    (tmp_path / 'test' / 'b' / '000.png').read_bytes()
  )
  said = found(listed(tmp_path))
  assert list(said.duplicates) == [('train', 'test')]
  pairs = said.duplicates['train', 'test']
  assert {(os.path.basename(one), os.path.basename(other)) for one, other in pairs} == {
    (f'00{i}.png', f'copy{i}.png') for i in range(3)
  }
  assert '3 images of test are in train' in said.line and '\n' not in said.line
  details = said.details()
  assert details['examples'] == {'train': 20, 'test': 14}
  assert details['classes']['a'] == {'train': 10, 'test': 8}
  assert len(details['duplicates']) == 3


def test_what_is_decided_about_pixels_is_said(tmp_path):
  folder = write(tmp_path, {'a': 4, 'b': 4})
  assert not found(listed(folder)).pixels
  ramp_HW = np.linspace(0, 4095, 400).reshape(20, 20).astype(np.uint16)
  cv2.imwrite(str(folder / 'a' / 'deep.png'), ramp_HW)
  np.save(folder / 'b' / 'floats.npy', np.zeros((8, 8, 3), np.float32))
  exif = Image.Exif()
  exif[0x0112] = 6
  for i in range(3):
    Image.new('RGB', (20, 10)).save(folder / 'a' / f'turned{i}.jpg', exif=exif)
  said = found(listed(folder))
  assert sorted(said.pixels.values()) == [1, 1, 3]
  for words in ('turned upright', 'uint16', 'float32', 'data.white'):
    assert words in said.line
  as_told = found(listed(folder), Pixels(upright=False, white=4095.0)).line
  assert 'turned upright' not in as_told and '4095 as white' in as_told


def test_names_with_spaces_and_umlauts(tmp_path):
  folder = tmp_path / 'umlauts 100%'
  write(folder / 'train', {'a b': 5, 'ü': 5})
  write(folder / 'test', {'a b': 5, 'ü': 5}, seed=9)
  assert listed(folder).class_names == ('a b', 'ü') and len(files(folder, 'test')) == 10


def test_many_classes_take_no_quadratic_time(tmp_path):
  """20,000 classes took 16 s: each image looked its class up in a list."""
  from vit_jax.data import listing
  from vit_jax.data.stores import Files

  class Counted(str):
    compared = 0

    __hash__ = str.__hash__

    def __eq__(self, other):
      Counted.compared += 1
      return str.__eq__(self, other)

  K = 2000
  rows = [listing.Row(f'{k}/{i}.png', (Counted(f'class {k}'),)) for k in range(K) for i in range(2)]
  made = listing.make('made up', Files(tmp_path), rows, test_fraction=0.2)
  assert len(made.class_names) == K and len(made.parts['train']) > K
  assert Counted.compared < 20 * K
