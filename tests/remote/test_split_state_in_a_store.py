"""State that is split over two processes, each with a disk of its own, in emulated GCS and S3.

14 minutes on a busy core: `pytest -m stores -n 0 -s tests/remote/test_split_state_in_a_store.py`.
"""

import re
import signal

import pytest

from vit_jax.remote.folder import RemoteFolder

pytestmark = [pytest.mark.stores, pytest.mark.parametrize('kind', ['gs', 's3'])]


@pytest.fixture
def split(world):
  """Half of each large parameter, and of its moments and average, is on either process."""
  world.keys = ('--config.mesh.fsdp=2',)
  return world


def shards(world) -> set[str]:
  """The arrays of the newest checkpoint of which the store has two parts."""
  there = RemoteFolder(world.address)
  saves = there.read_object('index.json')['checkpoints']
  files = there.read_object(f'checkpoints/{saves[max(saves, key=int)]}/manifest.json')
  found = (re.fullmatch(r'(.+)/c/([\d/]+)', name) for name in files)
  return {each[1] for each in found if each and {*each[2]} - {'0', '/'}}


def test_it_is_as_on_a_disk(split):
  life = split.life(count=2)
  assert life.codes(500) == [0, 0], life.logs()
  print(sorted(shards(split)))
  assert shards(split)
  split.assert_same(2)


@pytest.mark.parametrize('count', [2, 1])
def test_it_goes_on_from_the_store_alone(split, count):
  """Both are killed and their disks lost; then two come back, or one that has both devices."""
  split.undisturbed(2)
  life = split.life(count=2)
  assert life.until(lambda: life.been(1, 'save', 15)), life.logs()
  life.signal(signal.SIGKILL, 0, 1)
  assert life.codes(500) == [-signal.SIGKILL] * 2, life.logs()
  assert '10' in RemoteFolder(split.address).read_object('index.json')['checkpoints']
  assert shards(split)
  split.lose_disks()
  life = split.life(count=count, devices=2 // count)
  assert life.codes(500) == [0] * count, life.logs()
  assert 'start: checkpoint of step' in life.log(0)
  split.assert_same(2)
