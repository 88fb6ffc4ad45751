"""The local copy of a run folder: what is in the store at each moment, and what a new host gets."""

import threading

import pytest

from tests.remote.copies import another_host, copying, drop, in_memory, save, stored, upload
from vit_jax.remote.folder import RemoteFolder
from vit_jax.remote.mirror import Mirror
from vit_jax.remote.runs import find_run, run_folder
from vit_jax.run import uploads


@in_memory
def test_a_new_host_gets_what_was_saved(address, cache):
  mirror = Mirror.at(address, 0)
  with copying(mirror) as copies:
    (mirror.folder / 'config.json').write_text('{}')
    (mirror.folder / 'metrics.jsonl').write_text('{"step": 1}\n{"st')
    save(mirror, 5, state__d__0a='arrays', state___METADATA='tree')
    upload(copies, 5)
    assert list(stored(address)['checkpoints']) == ['5']
  another_host(cache)
  folder = run_folder(address)
  assert (folder / 'config.json').read_text() == '{}'
  assert (folder / 'metrics.jsonl').read_text() == '{"step": 1}\n'  # whole lines
  step = folder / 'checkpoints' / '5'
  assert (step / 'state/_METADATA').read_text() == 'tree'
  assert not (step / 'state/d/0a').exists()  # until it is read
  copy = Mirror.of(folder)
  assert copy is not None and copy.address == address
  copy.complete(5)
  assert (step / 'state/d/0a').read_text() == 'arrays'


@in_memory
def test_what_is_no_run(address, cache, tmp_path):
  assert find_run(address) is None and Mirror.of(tmp_path) is None
  assert not (run_folder(address) / 'config.json').exists()


@in_memory
@pytest.mark.parametrize('cut', range(1, 6))
def test_a_checkpoint_is_there_until_its_successor_is(address, cache, cut, monkeypatch):
  """The upload of a successor ends at each of its writes; a new host has the one before, whole."""
  mirror, writes = Mirror.at(address, 0), []
  with copying(mirror) as copies:
    save(mirror, 5, state__d__0a='five', state__d__0b='more')
    upload(copies, 5)

  def limited(call):
    def counted(self, name, *rest, **more):
      writes.append(name)
      if len(writes) >= cut:
        raise KeyboardInterrupt(f'killed at {name}')
      return call(self, name, *rest, **more)

    return counted

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    with copying(mirror) as copies:
      writes.clear()
      patch.setattr(RemoteFolder, 'write', limited(RemoteFolder.write))
      put = RemoteFolder.put
      patch.setattr(
        RemoteFolder,
        'put',
        lambda self, path, name: limited(lambda s, n: put(s, path, n))(self, name),
      )
      save(mirror, 9, state__d__0a='nine', state__d__0b='more')
      drop(mirror, 5)  # as retention does
      upload(copies, 9)
  another_host(cache)
  copy = Mirror.of(run_folder(address))
  assert copy and copy.steps() == [5]
  copy.complete(5)
  assert (copy.folder / 'checkpoints/5/state/d/0a').read_text() == 'five'
  mirror = Mirror.at(address, 0)
  with copying(mirror) as copies:  # what was cut short is removed
    assert RemoteFolder(address).names('checkpoints') == list(
      stored(address)['checkpoints'].values()
    )


@in_memory
def test_what_retention_dropped_is_removed_after_its_successor(address, cache):
  mirror = Mirror.at(address, 0)
  with copying(mirror) as copies:
    for step in (1, 2, 3):
      save(mirror, step, state__d__0a=str(step))
      if step == 3:
        drop(mirror, 1)
      upload(copies, step)
  assert list(stored(address)['checkpoints']) == ['2', '3']
  assert len(RemoteFolder(address).names('checkpoints')) == 2


@in_memory
def test_a_step_that_is_saved_again(address, cache):
  mirror = Mirror.at(address, 0)
  with copying(mirror) as copies:
    save(mirror, 5, state__d__0a='once')
    upload(copies, 5)
    before = stored(address)['checkpoints']['5']
    save(mirror, 5, state__d__0a='again')
    upload(copies, 5)
    assert stored(address)['checkpoints']['5'] != before
  another_host(cache)
  copy = Mirror.of(run_folder(address))
  assert copy
  copy.complete(5)
  assert (copy.folder / 'checkpoints/5/state/d/0a').read_text() == 'again'


@in_memory
def test_files_are_uploaded_without_a_save(address, cache, monkeypatch):
  monkeypatch.setattr(uploads, 'EVERY', 0.05)
  with copying(mirror := Mirror.at(address, 0)):
    (mirror.folder / 'config.json').write_text('{}')
    path = mirror.folder / 'predictions' / 'test.npz'
    path.parent.mkdir()
    path.write_text('p')
    there = threading.Event()
    for _ in range(200):
      if {'config.json', 'predictions/test.npz'} <= stored(address)['files'].keys():
        there.set()
        break
      there.wait(0.02)
    assert there.is_set()
    (mirror.folder / 'config.json').unlink()
  assert list(stored(address)['files']) == ['predictions/test.npz']
  assert RemoteFolder(address).read('config.json') is None
