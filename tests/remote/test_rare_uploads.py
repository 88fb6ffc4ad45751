"""Runs that save often to their own disks and rarely to a store (config.checkpoint.upload_every).

About six minutes: `pytest -m stores -n 0 -s tests/remote/test_rare_uploads.py`.
"""

import re
import signal

import pytest

from tests.fleet import Life
from vit_jax.remote.folder import RemoteFolder

pytestmark = [pytest.mark.stores, pytest.mark.parametrize('kind', ['gs', 's3'])]


def began(life) -> int:
  """The step that a run went on from."""
  found = re.search(r'start: checkpoint of step (\d+)', life.log(0))
  assert found, life.logs()
  return int(found[1])


@pytest.mark.parametrize('fsdp', [1, 2])
@pytest.mark.parametrize('count', [1, 2])
def test_a_run_goes_on_from_its_disks_or_from_the_store(world, count, fsdp):
  """Killed, it goes on from what only its disks have; on other hosts from what the store has."""
  if fsdp > count:
    pytest.skip('a process has one device here')
  world.keys = mesh = (f'--config.mesh.fsdp={fsdp}',)
  world.undisturbed(count)

  def stored() -> int:
    """The newest step in the store."""
    index = RemoteFolder(world.address).read_object('index.json')
    return max(map(int, index.get('checkpoints', {})), default=0)

  def killed(upload_every: int, when) -> Life:
    world.keys = (*mesh, f'--config.checkpoint.upload_every={upload_every}')
    life = world.life(count=count)
    assert life.until(lambda: when(life)), life.logs()
    life.signal(signal.SIGKILL, *range(count))
    assert life.codes(500) == [-signal.SIGKILL] * count, life.logs()
    return life

  killed(100, lambda life: life.been(0, 'data', 16))
  assert stored() == 0
  life = killed(2, lambda life: stored() > 20)
  newest = stored()
  assert 10 <= began(life) <= 20 < newest
  world.lose_disks()
  life = world.life(count=count)
  assert life.codes(500) == [0] * count, life.logs()
  assert began(life) == newest
  world.assert_same(count)
