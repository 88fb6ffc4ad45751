"""Hosts that go on with a run of a store in turn, and several that write it together."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.remote.copies import Together, another_host, copying, in_memory, save, stored, upload
from vit_jax.errors import RunFault
from vit_jax.remote.folder import RemoteFolder
from vit_jax.remote.mirror import Mirror


@in_memory
def test_what_could_not_be_uploaded_is_kept_and_uploaded_by_the_next_start(
  address, cache, monkeypatch
):
  mirror = Mirror.at(address, 0)
  with copying(mirror) as copies:
    save(mirror, 5)
    upload(copies, 5)

  def down(self, path, name):
    raise RunFault('the store is down')

  with monkeypatch.context() as patch, pytest.raises(RunFault, match='the store is down'):
    with copying(mirror) as copies:
      patch.setattr(RemoteFolder, 'put', down)
      save(mirror, 9)
      (mirror.folder / 'metrics.jsonl').write_text('{"step": 9}\n')
      upload(copies, 9)
  assert list(stored(address)['checkpoints']) == ['5']
  with copying(Mirror.at(address, 0)):
    assert list(stored(address)['checkpoints']) == ['5', '9']
    assert RemoteFolder(address).read('metrics.jsonl') == b'{"step": 9}\n'


@in_memory
def test_the_host_that_went_on_last_is_right(address, cache, tmp_path, monkeypatch):
  """A host comes back to a run that another one went on with: what only it had is lost work."""
  with copying(mirror := Mirror.at(address, 0)) as copies:
    save(mirror, 5)
    upload(copies, 5)
  save(mirror, 6)  # never uploaded
  (mirror.folder / 'events.jsonl').write_text('here\n')
  with monkeypatch.context() as patch:
    patch.setenv('VIT_JAX_CACHE_DIR', str(tmp_path / 'elsewhere'))
    with copying(other := Mirror.at(address, 0)) as copies:
      save(other, 7)
      (other.folder / 'events.jsonl').write_text('there\n')
      upload(copies, 7)
  with copying(mirror := Mirror.at(address, 0)):
    assert mirror.steps() == [5, 7]
    assert (mirror.folder / 'events.jsonl').read_text() == 'there\n'


@in_memory
def test_a_run_that_was_taken_over_writes_no_more(address, cache, tmp_path, monkeypatch):
  with pytest.raises(RunFault, match='was taken over'):
    with copying(mirror := Mirror.at(address, 0)) as copies:
      with monkeypatch.context() as patch:
        patch.setenv('VIT_JAX_CACHE_DIR', str(tmp_path / 'elsewhere'))
        with copying(Mirror.at(address, 0)):
          pass
      save(mirror, 5)
      upload(copies, 5)
  assert stored(address)['checkpoints'] == {}


@in_memory
def test_several_processes_without_a_shared_disk(address, cache, tmp_path):
  """Each has its own folder, and uploads a part; a file that both have is uploaded once."""
  together = Together(2)
  mirrors = [Mirror.at(address, index) for index in range(2)]
  assert mirrors[0].folder != mirrors[1].folder

  def life(index: int) -> list[str]:
    with copying(mirrors[index], here=together.of(index)) as copies:
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
      with copying(fresh[index], here=again.of(index)):
        return fresh[index].steps()

    assert list(threads.map(come_back, range(2))) == [[5], [5]]
  assert all((mirror.folder / 'config.json').exists() for mirror in fresh)
