"""Run folders in stores: what is damaged or strange there, and a disk without room."""

import json
import os
import shutil

import pytest

from tests.remote.copies import another_host, copying, in_memory, save, stored, upload
from vit_jax.errors import RunFault, UserError
from vit_jax.remote import transfers
from vit_jax.remote.folder import RemoteFolder
from vit_jax.remote.mirror import Mirror
from vit_jax.remote.runs import run_folder


@in_memory
def test_damage_in_the_store_is_found(address, cache):
  with copying(mirror := Mirror.at(address, 0)) as copies:
    save(mirror, 5, state__d__0a='five')
    upload(copies, 5)
  name = stored(address)['checkpoints']['5']
  RemoteFolder(address).write(f'checkpoints/{name}/state/d/0a', b'fivf')
  copy = Mirror.of(run_folder(address))
  assert copy
  with pytest.raises(ValueError, match='not what was uploaded'):
    copy.complete(5)


@in_memory
def test_a_damaged_index_takes_nothing_for_old(address, cache):
  with copying(mirror := Mirror.at(address, 0)) as copies:
    save(mirror, 5)
    upload(copies, 5)
  RemoteFolder(address).write('index.json', b'{"id"')
  with pytest.raises(RunFault, match=f'{address}/index.json is damaged'):
    copying(Mirror.at(address, 0)).__enter__()
  assert mirror.steps() == [5]


@in_memory
@pytest.mark.parametrize('name', ['../outside', '/outside', 'a/../../outside', ''])
def test_names_that_leave_the_folder_are_refused(address, cache, name):
  with copying(mirror := Mirror.at(address, 0)) as copies:
    save(mirror, 5)
    upload(copies, 5)
  another_host(cache)
  there, index = RemoteFolder(address), stored(address)
  manifest = f'checkpoints/{index["checkpoints"]["5"]}/manifest.json'
  for file, value in (
    (manifest, {name: [1, 'x']}),
    ('index.json', {**index, 'files': {name: [1, 'x']}}),
  ):
    there.write(file, json.dumps(value).encode())
    with pytest.raises(RunFault, match=f'{file} names'):
      run_folder(address)
  assert not [*cache.rglob('outside')]


@in_memory
def test_a_disk_without_room_is_one_sentence(address, cache, monkeypatch):
  with copying(mirror := Mirror.at(address, 0)) as copies:
    save(mirror, 5, state__d__0a='x' * 1000)
    upload(copies, 5)
  another_host(cache)
  usage = shutil.disk_usage(os.curdir)
  monkeypatch.setattr(transfers.shutil, 'disk_usage', lambda path: usage._replace(free=10))
  with pytest.raises(UserError, match=f'{address} needs .* set VIT_JAX_CACHE_DIR'):
    copy = Mirror.of(run_folder(address))
    assert copy
    copy.complete(5)
