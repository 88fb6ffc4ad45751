"""A folder in each kind of store: the same contract, also where requests fail."""

import os
import threading

import fsspec
import pytest

from tests.remote.proxy import Fault
from vit_jax.errors import UserError, verdict
from vit_jax.remote import faults as retries
from vit_jax.remote.faults import StoreFault
from vit_jax.remote.folder import RemoteFolder

KINDS = ('memory', 'file', 'gs', 's3')
EMULATED = ('gs', 's3')
every_kind = pytest.mark.parametrize('address', KINDS, indirect=True)
emulated = pytest.mark.parametrize('address', EMULATED, indirect=True)


@every_kind
def test_what_is_written_is_there(address, tmp_path):
  there, path = RemoteFolder(address), tmp_path / 'file'
  path.write_bytes(os.urandom(300_000))
  assert there.names() == [] and there.read('a') is None and there.read_object('a') == {}
  there.put(path, 'deep/er/file')
  there.write('a.json', b'{"x": 1}')
  assert there.names() == ['a.json', 'deep'] and there.names('deep/er') == ['file']
  assert there.read_object('a.json') == {'x': 1}
  there.get('deep/er/file', tmp_path / 'new' / 'copy')
  assert (tmp_path / 'new' / 'copy').read_bytes() == path.read_bytes()
  first = there.modified('a.json')
  there.write('a.json', b'{"x": 2}')
  assert there.read_object('a.json') == {'x': 2} and there.modified('a.json') >= first
  with pytest.raises(FileNotFoundError):
    there.get('nothing', tmp_path / 'nothing')
  with pytest.raises(FileNotFoundError):
    there.modified('nothing')
  assert sorted(os.listdir(tmp_path / 'new')) == ['copy'] and not (tmp_path / 'nothing').exists()
  there.remove(['a.json', 'a.json', 'nothing'])
  there.remove_folder('deep')
  there.remove_folder('deep')
  assert there.names() == []


@every_kind
def test_one_of_several_creates_an_object(address):
  there = RemoteFolder(address)
  assert there.create('lock.json', b'first')
  assert not there.create('lock.json', b'second') and there.read('lock.json') == b'first'
  assert there.create('lock.json', b'first')  # the answer to the first time was lost


@pytest.mark.parametrize('address', ['s3'], indirect=True)
def test_one_of_several_at_once_creates_an_object(address, monkeypatch):
  """By the store's own condition: here all look before any writes."""
  there, won = RemoteFolder(address), []
  monkeypatch.setattr(there._files, 'exists', lambda path: False)
  start = threading.Barrier(4)

  def race(data: bytes) -> None:
    start.wait()
    if there.create('lock.json', data):
      won.append(data)

  threads = [threading.Thread(target=race, args=(b'%d' % i,)) for i in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(won) == 1 and there.read('lock.json') == won[0]


@pytest.fixture
def at_once(monkeypatch):
  monkeypatch.setattr(retries, 'WAIT', 0.01)


@emulated
@pytest.mark.parametrize('kind', ['refuse', 'cut', 'lose', 'slow'])
def test_a_write_that_fails_is_made_again(address, kind, faults, at_once, tmp_path):
  there, path = RemoteFolder(address), tmp_path / 'file'
  path.write_bytes(os.urandom(100_000))
  method = 'POST' if address.startswith('gs') else 'PUT'
  faults.inject(Fault(kind, method))
  there.put(path, 'file')
  assert faults.happened and there.read('file') == path.read_bytes()


@emulated
@pytest.mark.parametrize('kind', ['refuse', 'short'])
def test_a_read_that_fails_is_made_again(address, kind, faults, at_once, tmp_path):
  there, data = RemoteFolder(address), os.urandom(100_000)
  there.write('file', data)
  faults.inject(Fault(kind, 'GET', 'file'))
  there.get('file', tmp_path / 'file')
  assert faults.happened and (tmp_path / 'file').read_bytes() == data


@pytest.mark.parametrize('address', ['s3'], indirect=True)
def test_what_keeps_failing_is_one_sentence(address, faults, at_once, tmp_path, caplog):
  there = RemoteFolder(address)
  faults.inject(Fault('refuse', 'PUT', times=1000))
  with pytest.raises(StoreFault) as error:
    there.write('metrics.jsonl', b'x')
  code, sentence = verdict(error.value)
  assert code == 1 and sentence and '\n' not in sentence
  assert sentence.startswith(f'writing {address}/metrics.jsonl failed {retries.TRIES} times (')
  assert f'writing {address}/metrics.jsonl' in caplog.messages[0]


@emulated
def test_a_bucket_that_is_not_there(address):
  wrong = address.replace('bucket1', 'bucket2')
  with pytest.raises(UserError, match=f'{wrong}/a cannot be written: there is no such bucket'):
    RemoteFolder(wrong).write('a', b'')
  assert RemoteFolder(wrong).names() == [] and RemoteFolder(wrong).read('a') is None


def test_no_permission_is_the_users_matter(address='s3://bucket1/x'):
  class Forbidden(OSError):
    code = 403

  for error in (PermissionError('Access Denied'), Forbidden('no'), NoCredentialsError('none')):

    def refuse(error=error):
      raise error

    with pytest.raises(UserError, match='writing s3://bucket1/x is not allowed .*credentials'):
      retries.retried(address, 'writing', refuse)


class NoCredentialsError(Exception):
  """Of botocore, by its name."""


def test_a_full_disk_is_not_the_stores_fault():
  def full():
    raise OSError(28, 'No space left on device', '/cache/x')

  with pytest.raises(OSError) as error:
    retries.retried('gs://bucket/x', 'reading', full)
  assert verdict(error.value)[0] == 2


def test_a_kind_of_address_that_nobody_knows(monkeypatch):
  with pytest.raises(UserError, match='zzz://bucket/x is no address of a storage'):
    RemoteFolder('zzz://bucket/x')

  def no_package(address, **options):
    raise ImportError('Please install s3fs')

  monkeypatch.setattr(fsspec.core, 'url_to_fs', no_package)
  with pytest.raises(UserError, match=r"s3://bucket/x needs .* install 'vit-jax\[stores\]'"):
    RemoteFolder('s3://bucket/x')
