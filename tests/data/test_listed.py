"""Tables, Hugging Face data sets, WebDataset shards and ImageNet's archives: read, and prepared."""

import gzip
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from made_up_archives import (
  CLASSES,
  KINDS,
  SPLITS,
  WNIDS,
  add,
  csv_table,
  examples,
  huggingface_parquet,
  ilsvrc,
  webdataset,
)
from made_up_folders import picture, write
from PIL import Image

from vit_jax import commands
from vit_jax.config import Eval, ImageData
from vit_jax.data import decode
from vit_jax.data.arrow import ArrowFile
from vit_jax.data.found import found
from vit_jax.data.loader import Loader
from vit_jax.data.sources import open_listing, open_source
from vit_jax.errors import UserError
from vit_jax.evaluate.sets import open_evals


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def name(request, tmp_path):
  (tmp_path / 'stored').mkdir()
  return request.param(tmp_path / 'stored')


def expected(split, name):
  classes = WNIDS if name.startswith('ilsvrc') else {each: each for each in CLASSES}
  return sorted((image, classes[label]) for part, _, label, image in examples() if part == split)


def held(source):
  return sorted(
    (record, source.class_names[label]) for record, label in source.read(range(len(source)))
  )


def test_each_kind_has_its_examples_and_classes_once(name):
  for split in SPLITS:
    source = open_source(ImageData(name=name), split)
    assert held(source) == expected(split, name)
    assert source.digest() == open_source(ImageData(name=name), split).digest()
    assert len({source.where(i) for i in range(len(source))}) == len(source)
  assert len(set(source.class_names)) == 3


def check_epochs(source, data):
  """Each of two epochs shows each example once, and a resume goes on with the same batches."""
  loader = Loader(source, data, seed=3, batch_size=4, train=True)
  shown = np.concatenate([loader.batch(step)['index'] for step in range(6)])
  assert sorted(shown[:12]) == sorted(shown[12:]) == list(range(12))
  again = Loader(source, data, seed=3, batch_size=4, train=True).batch(4)
  np.testing.assert_array_equal(again['image'], loader.batch(4)['image'])
  assert again['image'].std() > 10


def test_each_kind_is_read_as_it_is(name):
  data = ImageData(name=name, image_size=(20, 20), crop='none', flip=False, eval_crop=1.0)
  check_epochs(open_source(data, 'train'), data)


def test_each_kind_is_prepared_and_an_epoch_shows_each_example_once(name, tmp_path, capsys):
  place = ['--to=mine', f'--data_dir={tmp_path / "data"}']
  assert commands.main(['prepare', name, *place]) == 0
  said = capsys.readouterr().out
  assert '3 classes' in said and 'train 12, validation 6' in said
  data = ImageData(name='mine', image_size=(20, 20), crop='none', flip=False, eval_crop=1.0)
  assert held(open_source(data, 'validation', tmp_path / 'data')) == expected('val', name)
  source = open_source(data, 'train', tmp_path / 'data')
  assert held(source) == expected('train', name)
  check_epochs(source, data)
  assert commands.main(['prepare', name, *place]) == 2  # there already
  assert 'there already' in capsys.readouterr().err


def test_images_are_made_smaller_as_they_are_prepared(tmp_path, capsys):
  folder = tmp_path / 'images'
  write(folder, {'a': 4, 'b': 4})
  wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8))
  exif = Image.Exif()
  exif[0x0112] = 6
  wide.save(folder / 'a' / 'wide.jpg', exif=exif)
  (folder / 'b' / 'bad.png').write_bytes(b'\x89PNG\r\n and no more')
  argv = ['prepare', f'folder:{folder}', '--to=mine', f'--data_dir={tmp_path}', '--shorter_side=30']
  assert commands.main([*argv, '--config.data.test_fraction=0.5']) == 0
  assert 'bad.png' in capsys.readouterr().out
  sizes = set()
  for split in ('train', 'test'):
    source = open_source(ImageData(name='mine'), split, tmp_path)
    sizes |= {decode.decode(record, 3).shape for record, _ in source.read(range(len(source)))}
  assert sizes == {(20, 20, 3), (45, 30, 3)}  # upright


def test_groups_are_prepared_too(tmp_path):
  csv_table(tmp_path)
  argv = ['prepare', f'table:{tmp_path}/all.csv', '--to=mine', f'--data_dir={tmp_path}']
  assert commands.main([*argv, '--config.data.group_by=patient']) == 0
  source = open_source(ImageData(name='mine'), 'train', tmp_path)
  assert len(np.unique(source.groups())) == 6


def test_a_group_of_a_table_is_on_one_side(tmp_path):
  csv_table(tmp_path)
  text = (tmp_path / 'all.csv').read_text().splitlines()
  (tmp_path / 'unsplit.csv').write_text(
    '\n'.join(','.join(np.array(line.split(','))[[0, 1, 3]]) for line in text)
  )
  data = ImageData(name=f'table:{tmp_path}/unsplit.csv', group_by='patient', test_fraction=0.4)
  listing = open_listing(data)
  train, test = (set(listing.groups_N[listing.parts[split]]) for split in ('train', 'test'))
  assert train and test and not train & test and len(train | test) == 6


@pytest.mark.parametrize('form', ['separator', 'columns', 'lists'])
def test_several_classes(tmp_path, form):
  sets = [(), ('ant',), ('ant', 'cat'), ('bee', 'cat'), ('ant', 'bee', 'cat')]
  for i in range(len(sets)):
    (tmp_path / f'{i}.png').write_bytes(picture(100, i))
  keys = {}
  if form == 'lists':
    place = tmp_path / 'some.jsonl'
    place.write_text(
      '\n'.join(
        json.dumps({'path': f'{i}.png', 'labels': each, 'split': 'train'})
        for i, each in enumerate(sets)
      )
    )
  elif form == 'separator':
    place, keys = tmp_path / 'some.csv', {'label_separator': '|', 'label': 'findings'}
    place.write_text(
      'path,findings,split\n'
      + '\n'.join(f'{i}.png,{"|".join(each)},train' for i, each in enumerate(sets))
    )
  else:
    place, keys = tmp_path / 'some.csv', {'label': 'ant,bee,cat'}
    place.write_text(
      'path,ant,bee,cat,split\n'
      + '\n'.join(
        f'{i}.png,{",".join(str(int(name in each)) for name in CLASSES)},train'
        for i, each in enumerate(sets)
      )
    )
  data = ImageData(name=f'table:{place}', **keys)
  source = open_source(data, 'train')
  assert source.class_names == CLASSES
  right_NK = source.label_sets()
  for i, file in enumerate(source.files):
    assert tuple(np.array(CLASSES)[right_NK[i]]) == sets[int(Path(file).stem)]
  assert (
    commands.main(
      [
        'prepare',
        data.name,
        '--to=mine',
        f'--data_dir={tmp_path}',
        *(f'--config.data.{key}={value}' for key, value in keys.items()),
      ]
    )
    == 0
  )
  prepared = open_source(ImageData(name='mine'), 'train', tmp_path)
  by_image = {
    record: tuple(right_K)
    for (record, _), right_K in zip(source.read(range(5)), right_NK, strict=True)
  }
  stored = {
    record: tuple(right_K)
    for (record, _), right_K in zip(prepared.read(range(5)), prepared.label_sets(), strict=True)
  }
  assert stored == by_image


def test_a_group_in_two_splits_is_said(tmp_path):
  csv_table(tmp_path)  # whose patients are numbered in each split alike
  data = ImageData(name=f'table:{tmp_path}/all.csv', group_by='patient')
  assert '3 groups of images are in several splits' in found(open_listing(data)).line
  assert 'groups' not in found(open_listing(ImageData(name=data.name))).line


def test_another_table_is_judged_as_the_one_that_is_trained_on(tmp_path):
  for name in ('one', 'two'):
    (tmp_path / f'{name}.csv').write_text('file,kind\n' + '\n'.join(
      f'{i}.png,{"|".join(CLASSES[: i % 3 + 1])}' for i in range(6)
    ))  # fmt: skip
  for i in range(6):
    (tmp_path / f'{i}.png').write_bytes(picture(100, i))
  keys = dict(label='kind', label_separator='|')
  data = ImageData(name='table', dir=f'{tmp_path}/one.csv', **keys)
  line = Eval(data=f'table:{tmp_path}/two.csv')
  (part,) = open_evals({'other': line}, data, CLASSES, tmp_path)['other'].tests
  assert len(part.source) == 6 and part.right_NK.sum() == 12


def test_numbers_are_classes_in_their_order(tmp_path):
  lines = ['path,label,split']
  for i in range(12):
    (tmp_path / f'{i}.png').write_bytes(picture(100, i))
    lines.append(f'{i}.png,{i},train')
  (tmp_path / 'some.csv').write_text('\n'.join(lines))
  source = open_source(ImageData(name=f'table:{tmp_path}/some.csv'), 'train')
  assert source.class_names == tuple(map(str, range(12)))


@pytest.mark.parametrize(
  'text, keys, words',
  [
    ('picture,label\na.png,x\n', {}, 'config.data.image=picture: its columns are picture, label'),
    ('path,kind\na.png,x\n', {}, 'config.data.label=path'),
    ('path,file,label\na.png,b.png,x\n', {}, r'several that could be meant \(path, file\)'),
    ('path,label\na.png,x\n', {'label': 'kind'}, "label is 'kind', but.*path, label"),
    ('path,label\na.png,x,y\n', {}, 'more or fewer cells'),
    ('path,label\n', {}, 'has no rows'),
    ('path,label\na.png,x\na.png,y\n', {}, 'a.png twice'),
    ('path,label\ngone.png,x\n', {}, 'no example; left out: 1 missing files'),
    ('path,x,y\na.png,1,maybe\n', {'label': 'x,y'}, "'maybe' in column 'y'"),
  ],
)
def test_a_table_that_is_not_clear_is_refused(tmp_path, text, keys, words):
  (tmp_path / 'a.png').write_bytes(picture(100, 0))
  (tmp_path / 'some.csv').write_text(text)
  with pytest.raises(UserError, match=words):
    open_source(ImageData(name=f'table:{tmp_path}/some.csv', **keys), 'train')


def test_what_has_no_random_access_or_no_class_is_refused(tmp_path):
  webdataset(tmp_path)
  shard = next(tmp_path.glob('*.tar'))
  json_data = ImageData(name=f'webdataset:{tmp_path}', label='kind')
  assert open_source(json_data, 'train').class_names == CLASSES
  with pytest.raises(UserError, match="has no 'size2'.*kind; size"):
    open_source(ImageData(name=f'webdataset:{tmp_path}', label='size2'), 'train')
  packed = gzip.compress(shard.read_bytes())
  shard.write_bytes(packed)
  with pytest.raises(UserError, match='gunzip'):
    open_source(ImageData(name=f'webdataset:{tmp_path}'), 'train')
  shard.write_bytes(b'no archive' * 100)
  with pytest.raises(UserError, match='damaged'):
    open_source(ImageData(name=f'webdataset:{tmp_path}'), 'train')


def test_validation_without_its_classes_is_refused(tmp_path):
  ilsvrc(tmp_path)
  (tmp_path / 'ILSVRC2012_devkit_t12.tar.gz').unlink()
  with pytest.raises(UserError, match='6 images.*put ILSVRC2012_devkit_t12.tar.gz beside it'):
    open_source(ImageData(name=f'ilsvrc:{tmp_path}'), 'train')


def test_a_moved_archive_has_the_same_digest_and_another_image_does_not(tmp_path):
  (tmp_path / 'one').mkdir()
  webdataset(tmp_path / 'one')
  shutil.copytree(tmp_path / 'one', tmp_path / 'two')
  digests = [
    open_source(ImageData(name=f'webdataset:{tmp_path / place}'), 'train').digest()
    for place in ('one', 'two')
  ]
  assert digests[0] == digests[1]
  shard = tmp_path / 'two' / 'train-000000.tar'
  data = bytearray(shard.read_bytes())
  data[700] ^= 1  # within the first image
  shard.write_bytes(data)
  os.utime(shard)
  assert (
    open_source(ImageData(name=f'webdataset:{tmp_path / "two"}'), 'train').digest() != digests[0]
  )


def test_without_pyarrow_the_sentence_says_what_to_install(tmp_path, monkeypatch):
  huggingface_parquet(tmp_path)
  monkeypatch.setitem(__import__('sys').modules, 'pyarrow', None)
  monkeypatch.setitem(__import__('sys').modules, 'pyarrow.parquet', None)
  with pytest.raises(UserError, match=r"pip install 'vit-jax\[data\]'"):
    open_source(ImageData(name=f'huggingface:{tmp_path}'), 'train')


def test_parquet_is_prepared_in_order_and_not_read_through_at_the_start(tmp_path, monkeypatch):
  name = huggingface_parquet(tmp_path)
  read = []
  chunk = ArrowFile._read_chunk

  def counted(file, at, column):
    read.append((file.path, at))
    return chunk(file, at, column)

  monkeypatch.setattr(ArrowFile, '_read_chunk', counted)
  assert found(open_listing(ImageData(name=name))).unread == 18
  read.clear()
  assert commands.main(['prepare', name, '--to=mine', f'--data_dir={tmp_path}']) == 0
  sampled = 16  # whose pixels are looked at
  assert len(set(read)) == 6 and len(read) <= 6 + sampled


def test_images_of_two_splits_are_compared_within_archives(tmp_path):
  webdataset(tmp_path)
  with tarfile.open(tmp_path / 'val-000009.tar', 'w') as archive:
    add(archive, 'again.png', picture(40, 0))
    add(archive, 'again.cls', b'ant')
  said = found(open_listing(ImageData(name=f'webdataset:{tmp_path}')))
  assert [len(pairs) for pairs in said.duplicates.values()] == [1]


def test_a_preparation_that_was_killed_is_begun_again(tmp_path, capsys):
  write(tmp_path / 'images', {'a': 4, 'b': 4})
  left = tmp_path / 'mine' / 'incomplete.ABC123_1.0.0'
  left.mkdir(parents=True)
  (left / 'part').write_text('half')
  argv = ['prepare', f'folder:{tmp_path}/images', '--to=mine', f'--data_dir={tmp_path}']
  assert commands.main(argv) == 0
  assert len(open_source(ImageData(name='mine'), 'train', tmp_path)) > 0
  assert commands.main(argv) == 2
  assert 'there already' in capsys.readouterr().err
