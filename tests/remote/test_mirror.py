"""The local copy of a run folder: what is in the store at each moment, and what a new host gets."""

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vit_jax import config
from vit_jax.errors import RunFault, UserError
from vit_jax.parallel.processes import Processes
from vit_jax.remote import transfers
from vit_jax.remote.folder import RemoteFolder
from vit_jax.remote.mirror import Mirror
from vit_jax.remote.runs import find_run, run_folder
from vit_jax.run import uploads
from vit_jax.run.uploads import Uploads

in_memory = pytest.mark.parametrize('address', ['memory'], indirect=True)


class Saved:
  """A save that is on the disk at once."""

  def on_complete(self, call) -> None:
    call(True)


class Together:
  """Some of the processes of a run, as threads."""

  def __init__(self, count: int):
    self.count, self._barrier = count, threading.Barrier(count)
    self._values: dict[str, list] = {}

  def of(self, index: int) -> Processes:
    here = Processes(config.Limits(), index=index, count=self.count)
    numbers = iter(range(1000))

    def gather(value, name='', limit=None):
      name = name or f'gather-{next(numbers)}'
      self._values.setdefault(name, [None] * self.count)[index] = json.loads(json.dumps(value))
      self._barrier.wait(timeout=30)
      return self._values[name]

    here.gather = gather
    here.share = lambda make: gather(make() if index == 0 else None)[0]
    return here


def alone() -> Processes:
  return Processes(config.Limits())


def save(mirror: Mirror, step: int, **files: str) -> None:
  folder = mirror.folder / 'checkpoints' / str(step)
  for name, text in ({'_CHECKPOINT_METADATA': 'm'} | files).items():
    path = folder / name.replace('__', '/')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def drop(mirror: Mirror, step: int) -> None:
  shutil.rmtree(mirror.folder / 'checkpoints' / str(step))


def stored(address: str) -> dict:
  return RemoteFolder(address).read_object('index.json')


def upload(copies: Uploads, step: int) -> None:
  copies.begin(step)
  copies.save(step, (), Saved())
  copies.settle()


def another_host(cache: Path) -> None:
  """An empty disk."""
  shutil.rmtree(cache)


@in_memory
def test_a_new_host_gets_what_was_saved(address, cache):
  mirror = Mirror.at(address, 0)
  with Uploads(mirror, alone(), config.Checkpoint(), 10) as copies:
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
  with Uploads(mirror, alone(), config.Checkpoint(), 10) as copies:
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
    with Uploads(mirror, alone(), config.Checkpoint(), 10) as copies:
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
  with Uploads(mirror, alone(), config.Checkpoint(), 10) as copies:  # what was cut short is removed
    assert RemoteFolder(address).names('checkpoints') == list(
      stored(address)['checkpoints'].values()
    )


@in_memory
def test_what_retention_dropped_is_removed_after_its_successor(address, cache):
  mirror = Mirror.at(address, 0)
  with Uploads(mirror, alone(), config.Checkpoint(), 10) as copies:
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
  with Uploads(mirror, alone(), config.Checkpoint(), 10) as copies:
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
def test_what_could_not_be_uploaded_is_kept_and_uploaded_by_the_next_start(
  address, cache, monkeypatch
):
  mirror = Mirror.at(address, 0)
  with Uploads(mirror, alone(), config.Checkpoint(), 10) as copies:
    save(mirror, 5)
    upload(copies, 5)

  def down(self, path, name):
    raise RunFault('the store is down')

  with monkeypatch.context() as patch, pytest.raises(RunFault, match='the store is down'):
    with Uploads(mirror, alone(), config.Checkpoint(), 10) as copies:
      patch.setattr(RemoteFolder, 'put', down)
      save(mirror, 9)
      (mirror.folder / 'metrics.jsonl').write_text('{"step": 9}\n')
      upload(copies, 9)
  assert list(stored(address)['checkpoints']) == ['5']
  with Uploads(Mirror.at(address, 0), alone(), config.Checkpoint(), 10):
    assert list(stored(address)['checkpoints']) == ['5', '9']
    assert RemoteFolder(address).read('metrics.jsonl') == b'{"step": 9}\n'


@in_memory
def test_the_host_that_went_on_last_is_right(address, cache, tmp_path, monkeypatch):
  """A host comes back to a run that another one went on with: what only it had is lost work."""
  with Uploads(mirror := Mirror.at(address, 0), alone(), config.Checkpoint(), 10) as copies:
    save(mirror, 5)
    upload(copies, 5)
  save(mirror, 6)  # never uploaded
  (mirror.folder / 'events.jsonl').write_text('here\n')
  with monkeypatch.context() as patch:
    patch.setenv('VIT_JAX_CACHE_DIR', str(tmp_path / 'elsewhere'))
    with Uploads(other := Mirror.at(address, 0), alone(), config.Checkpoint(), 10) as copies:
      save(other, 7)
      (other.folder / 'events.jsonl').write_text('there\n')
      upload(copies, 7)
  with Uploads(mirror := Mirror.at(address, 0), alone(), config.Checkpoint(), 10):
    assert mirror.steps() == [5, 7]
    assert (mirror.folder / 'events.jsonl').read_text() == 'there\n'


@in_memory
def test_a_run_that_was_taken_over_writes_no_more(address, cache, tmp_path, monkeypatch):
  with pytest.raises(RunFault, match='was taken over'):
    with Uploads(mirror := Mirror.at(address, 0), alone(), config.Checkpoint(), 10) as copies:
      with monkeypatch.context() as patch:
        patch.setenv('VIT_JAX_CACHE_DIR', str(tmp_path / 'elsewhere'))
        with Uploads(Mirror.at(address, 0), alone(), config.Checkpoint(), 10):
          pass
      save(mirror, 5)
      upload(copies, 5)
  assert stored(address)['checkpoints'] == {}


@in_memory
def test_files_are_uploaded_without_a_save(address, cache, monkeypatch):
  monkeypatch.setattr(uploads, 'EVERY', 0.05)
  with Uploads(mirror := Mirror.at(address, 0), alone(), config.Checkpoint(), 10):
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


@in_memory
def test_several_processes_without_a_shared_disk(address, cache, tmp_path):
  """Each has its own folder, and uploads a part; a file that both have is uploaded once."""
  together = Together(2)
  mirrors = [Mirror.at(address, index) for index in range(2)]
  assert mirrors[0].folder != mirrors[1].folder

  def life(index: int) -> list[str]:
    with Uploads(mirrors[index], together.of(index), config.Checkpoint(), 10) as copies:
      if index == 0:
        (mirrors[0].folder / 'config.json').write_text('{}')
      save(mirrors[index], 5, state__c__0=f'shard {index}', **{f'state__x__{index}': 'own'})
      (mirrors[index].folder / 'checkpoints/5/state/c/0').write_text('both')
      upload(copies, 5)
      copies.complete(5)
      return sorted(mirrors[index].files_of(5))

  with ThreadPoolExecutor(2) as threads:
    first, second = threads.map(life, range(2))
  assert first == second == ['_CHECKPOINT_METADATA', 'state/c/0', 'state/x/0', 'state/x/1']
  another_host(cache)
  with ThreadPoolExecutor(2) as threads:  # both come back on new hosts
    fresh = [Mirror.at(address, index) for index in range(2)]
    again = Together(2)

    def come_back(index: int) -> list[int]:
      with Uploads(fresh[index], again.of(index), config.Checkpoint(), 10):
        return fresh[index].steps()

    assert list(threads.map(come_back, range(2))) == [[5], [5]]
  assert all((mirror.folder / 'config.json').exists() for mirror in fresh)


@in_memory
def test_damage_in_the_store_is_found(address, cache):
  with Uploads(mirror := Mirror.at(address, 0), alone(), config.Checkpoint(), 10) as copies:
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
  with Uploads(mirror := Mirror.at(address, 0), alone(), config.Checkpoint(), 10) as copies:
    save(mirror, 5)
    upload(copies, 5)
  RemoteFolder(address).write('index.json', b'{"id"')
  with pytest.raises(RunFault, match=f'{address}/index.json is damaged'):
    Uploads(Mirror.at(address, 0), alone(), config.Checkpoint(), 10).__enter__()
  assert mirror.steps() == [5]


@in_memory
@pytest.mark.parametrize('name', ['../outside', '/outside', 'a/../../outside', ''])
def test_names_that_leave_the_folder_are_refused(address, cache, name):
  with Uploads(mirror := Mirror.at(address, 0), alone(), config.Checkpoint(), 10) as copies:
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
  with Uploads(mirror := Mirror.at(address, 0), alone(), config.Checkpoint(), 10) as copies:
    save(mirror, 5, state__d__0a='x' * 1000)
    upload(copies, 5)
  another_host(cache)
  usage = shutil.disk_usage(os.curdir)
  monkeypatch.setattr(transfers.shutil, 'disk_usage', lambda path: usage._replace(free=10))
  with pytest.raises(UserError, match=f'{address} needs .* set VIT_JAX_CACHE_DIR'):
    copy = Mirror.of(run_folder(address))
    assert copy
    copy.complete(5)
