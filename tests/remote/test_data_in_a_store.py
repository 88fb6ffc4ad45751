"""Prepared data sets at an address: copied once, a split when it is read, and read the same."""

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest

from vit_jax import commands
from vit_jax.config import ImageData
from vit_jax.data import datasets
from vit_jax.data.sources import open_source
from vit_jax.errors import UserError
from vit_jax.remote import data, transfers
from vit_jax.remote.data import data_folder

ADDRESS = 'memory://bucket/data'


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """`digits`, prepared on a disk and in a store."""
  folder = tmp_path_factory.mktemp('data')
  datasets.prepare('digits', folder)
  memory = fsspec.filesystem('memory')
  memory.put(str(folder) + '/', '/bucket/data/', recursive=True)
  yield folder
  memory.rm('/bucket', recursive=True)


def files(folder) -> dict[str, str]:
  return {
    path.name: hashlib.sha256(path.read_bytes()).hexdigest()
    for path in folder.glob('digits/*/*')
    if path.is_file()
  }


def shards(folder) -> list[str]:
  return [name for name in files(folder) if '.array_record' in name]


def opened(folder, split):
  return open_source(ImageData(name='digits'), split, folder)


def test_it_is_copied_once_and_reads_the_same(prepared, cache, caplog, monkeypatch):
  caplog.set_level('INFO')
  folder = data_folder(ADDRESS)
  assert folder == data_folder(f'{ADDRESS}/') and folder.is_relative_to(cache)
  source, there = opened(folder, 'train'), opened(prepared, 'train')
  assert len(source) == len(there) and source.class_names == there.class_names
  assert files(folder) and not shards(folder)
  source.read([0])
  (line,) = [message for message in caplog.messages if message.startswith('data: fetching')]
  assert (
    line.startswith('data: fetching 1 of 1 files of digits, train ') and f'from {ADDRESS}/' in line
  )
  assert ' GB left' in line
  assert not [name for name in files(folder) if '-test.' in name]  # which nobody asked for
  for index in (0, len(there) - 1):
    (image, label), (its, its_label) = source.read([index])[0], there.read([index])[0]
    np.testing.assert_array_equal(np.frombuffer(image, np.uint8), np.frombuffer(its, np.uint8))
    assert label == its_label
  assert source.digest() == there.digest()
  opened(folder, 'test').read([0])
  assert files(folder) == files(prepared)
  monkeypatch.setattr(data, 'fetch_to', lambda *where: pytest.fail('it was copied already'))
  opened(folder, 'train').read([0])


def test_what_is_cut_short_is_copied_again(prepared, cache):
  folder = data_folder(ADDRESS)
  opened(folder, 'test').read([0])
  (path,) = folder.glob('digits/*/*-test.array_record*')
  whole = path.read_bytes()
  path.write_bytes(whole[:100])
  opened(folder, 'test').read([0])
  assert path.read_bytes() == whole


def test_a_disk_without_room(prepared, cache, tmp_path, monkeypatch):
  usage = shutil.disk_usage(tmp_path)
  monkeypatch.setattr(transfers.shutil, 'disk_usage', lambda path: usage._replace(free=10))
  with pytest.raises(UserError, match=f'{ADDRESS}/digits/.* needs .* set VIT_JAX_CACHE_DIR'):
    opened(data_folder(ADDRESS), 'train').read([0])


def test_threads_that_read_at_once_copy_once(prepared, cache, monkeypatch):
  copied, fetch_to = [], data.fetch_to

  def counted(address, path):
    copied.append(path.name)
    fetch_to(address, path)

  source = opened(data_folder(ADDRESS), 'test')
  monkeypatch.setattr(data, 'fetch_to', counted)
  with ThreadPoolExecutor(8) as threads:
    found = list(threads.map(lambda index: source.read([index])[0][1], range(8)))
  assert found == [label for _, label in opened(prepared, 'test').read(range(8))]
  assert len(copied) == 1


def test_a_dry_run_copies_no_examples(prepared, cache, lenet_recipe, capsys):
  """It says how long the run is, from what describes the data."""
  keys = ('data.name=digits', 'data.dir=', 'data.channels=1', 'epochs=2', 'steps=0')
  flags = [f'--config.{key}' for key in keys]
  argv = ['train', f'--config={lenet_recipe}', '--dry_run', f'--data_dir={ADDRESS}', *flags]
  assert commands.main(argv) == 0
  count = len(opened(prepared, 'train'))
  assert f'2.00 epochs of {count:,}' in capsys.readouterr().out
  folder = data_folder(ADDRESS)
  assert files(folder) and not shards(folder) and len(shards(prepared)) == 2


def test_by_a_command(prepared, cache, capsys):
  assert commands.main(['stats', 'digits', f'--data_dir={ADDRESS}']) == 0
  assert 'data: fetching' in capsys.readouterr().out
  assert commands.main(['prepare', 'digits', f'--data_dir={ADDRESS}']) == 2
  assert 'is an address' in capsys.readouterr().err
