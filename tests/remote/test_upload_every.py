"""Frequent saves on this disk, rare ones in the store (config.checkpoint.upload_every)."""

import shutil
import threading
import time
from pathlib import Path

import pytest

from tests.remote.copies import Saved, copying, drop, in_memory, save, stored, upload
from vit_jax import config
from vit_jax.errors import RunFault
from vit_jax.remote.folder import RemoteFolder
from vit_jax.remote.mirror import Mirror
from vit_jax.remote.runs import run_folder
from vit_jax.run import uploads
from vit_jax.run.uploads import Uploads

OPTIONS = config.Checkpoint(upload_every=3, keep_last=1)


def go(copies: Uploads, mirror: Mirror, step: int, best: tuple[int, ...] = ()) -> None:
  """A save, after which only this and the best are kept."""
  due = copies.begin(step)
  save(mirror, step, state__d__0a=str(step))
  for old in {*mirror.steps()} - {step, *best, *copies.held}:
    drop(mirror, old)
  if due:
    copies.save(step, best, Saved())


@in_memory
def test_every_third_save_and_the_last_are_uploaded(address, cache):
  with copying(mirror := Mirror.at(address, 0), OPTIONS) as copies:
    uploaded = []
    copies.done = lambda step, size, seconds: uploaded.append((step, size))
    for step in range(1, 8):
      go(copies, mirror, step)
    copies.settle()
    assert list(stored(address)['checkpoints']) == ['6']  # although it is not kept here
    copies.finish()
  assert list(stored(address)['checkpoints']) == [*map(str, mirror.steps())]
  assert [step for step, _ in uploaded] == [3, 6, 7]
  assert uploaded[0][1] == len('3') + len('m')


@in_memory
def test_training_goes_on_while_a_save_is_uploaded(address, cache, monkeypatch):
  """The disk keeps that save until it is in the store; the next one to be uploaded waits."""
  goes_on, put = threading.Event(), RemoteFolder.put
  monkeypatch.setattr(uploads, 'EVERY', 0.05)

  def slow(self, path: Path, name: str) -> None:
    goes_on.wait(30)
    put(self, path, name)

  with copying(mirror := Mirror.at(address, 0), OPTIONS) as copies:
    with monkeypatch.context() as patch:
      patch.setattr(RemoteFolder, 'put', slow)
      for step in range(1, 6):
        go(copies, mirror, step)
      assert copies.held == {3} and mirror.steps() == [3, 5]
      waits = threading.Thread(target=go, args=(copies, mirror, 6))
      waits.start()
      waits.join(0.1)
      assert waits.is_alive()
      (mirror.folder / 'metrics.jsonl').write_text('{"step": 5}\n')
      deadline = time.monotonic() + 30
      while 'metrics.jsonl' not in stored(address)['files'] and time.monotonic() < deadline:
        time.sleep(0.02)
      assert RemoteFolder(address).read('metrics.jsonl')  # small files do not wait
      goes_on.set()
      waits.join(30)
    copies.finish()
  assert list(stored(address)['checkpoints']) == ['6'] and mirror.steps() == [6]


@in_memory
def test_the_best_one_is_never_here_alone_behind_an_upload(address, cache):
  with copying(mirror := Mirror.at(address, 0), OPTIONS) as copies:
    for step in (1, 2, 3):
      go(copies, mirror, step, best=(2,) if step > 1 else ())
    copies.settle()
    assert sorted(stored(address)['checkpoints']) == ['2', '3']


@in_memory
def test_a_host_that_has_its_disk_goes_on_from_it(address, cache):
  with pytest.raises(KeyboardInterrupt):
    with copying(mirror := Mirror.at(address, 0), OPTIONS) as copies:
      for step in range(1, 6):
        go(copies, mirror, step)
      raise KeyboardInterrupt  # killed
  with copying(again := Mirror.at(address, 0), OPTIONS) as copies:
    assert again.steps() == [3, 5]
    assert list(stored(address)['checkpoints']) == ['3']  # nothing waits for an upload
  shutil.rmtree(cache)
  with copying(other := Mirror.at(address, 0), OPTIONS):
    assert other.steps() == [3]


@in_memory
def test_a_failed_upload_is_raised_by_the_next_save_at_the_latest(address, cache, monkeypatch):
  def down(self, path, name):
    raise OSError('the store is down')

  with pytest.raises(OSError, match='the store is down'):
    with copying(mirror := Mirror.at(address, 0), OPTIONS) as copies:
      monkeypatch.setattr(RemoteFolder, 'put', down)
      for step in range(1, 7):
        go(copies, mirror, step)


@in_memory
def test_a_checkpoint_that_is_gone_is_not_stored_as_an_empty_one(address, cache):
  with pytest.raises(RunFault, match='step 3 left'):
    with copying(mirror := Mirror.at(address, 0), OPTIONS) as copies:
      for step in (1, 2, 3):
        copies.begin(step)
      copies.save(3, (), Saved())
      copies.settle()
  assert stored(address)['checkpoints'] == {} and mirror.steps() == []


@in_memory
@pytest.mark.parametrize('data', [None, b'', b'{"a', b'[]', b'{}', b'{"a": 1}', b'{"a": ["x", 1]}'])
def test_a_damaged_manifest_costs_its_checkpoint_alone(address, cache, data, caplog):
  with copying(mirror := Mirror.at(address, 0)) as copies:
    for step in (5, 9):
      save(mirror, step)
      upload(copies, step)
  shutil.rmtree(cache)
  there, saves = RemoteFolder(address), stored(address)['checkpoints']

  def damage(step: str) -> None:
    manifest = f'checkpoints/{saves[step]}/manifest.json'
    there.remove([manifest]) if data is None else there.write(manifest, data)

  damage('9')
  assert Mirror.at(address).steps() == []
  assert (run_folder(address) / 'checkpoints' / '5').is_dir()
  with copying(mirror := Mirror.at(address, 0)) as copies:
    assert mirror.steps() == [5] and f'{address}/checkpoints/{saves["9"]}' in caplog.text
    save(mirror, 12)
    upload(copies, 12)
  assert list(stored(address)['checkpoints']) == ['5', '12']


@in_memory
def test_a_run_of_which_no_checkpoint_is_left_does_not_start_anew(address, cache):
  with copying(mirror := Mirror.at(address, 0)) as copies:
    save(mirror, 5)
    upload(copies, 5)
  shutil.rmtree(cache)
  name = stored(address)['checkpoints']['5']
  RemoteFolder(address).write(f'checkpoints/{name}/manifest.json', b'{')
  with pytest.raises(RunFault, match=f'no checkpoint in {address}/checkpoints is good'):
    copying(Mirror.at(address, 0)).__enter__()
