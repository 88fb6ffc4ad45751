"""Runs in emulated GCS and S3 through kills, faults and lost disks: they end as on a quiet disk.

Minutes of it: `pytest -m stores -n 0 -s tests/remote`.
"""

import json
import random
import signal
import time

import pytest

from tests.remote.proxy import Fault
from vit_jax.remote.folder import RemoteFolder

pytestmark = pytest.mark.stores
KINDS = ('refuse', 'cut', 'lose', 'short', 'slow', 'lag')
each_store = pytest.mark.parametrize('kind', ['gs', 's3'])


@each_store
@pytest.mark.parametrize('count', [1, 2])
def test_as_on_a_disk(world, count):
  life = world.life(count=count)
  assert life.codes(500) == [0] * count, life.logs()
  world.assert_same(count)
  there = RemoteFolder(world.address)
  saves = there.read_object('index.json')['checkpoints'].values()
  assert there.names('checkpoints') == sorted(saves)  # nothing is left of other saves
  assert not [name for name in there.names() if name.startswith('lock')]


@each_store
def test_ten_kills_on_lost_disks(world):
  """kill -9 at a random request to the store, ten times; each next start is on an empty disk."""
  rng, kills, runs = random.Random(0), 0, 1
  world.undisturbed()
  while kills < 10:
    life, proxy = world.life(), world.server.proxy
    at = proxy.count + rng.randint(1, 400)
    life.until(lambda at=at, proxy=proxy: proxy.count >= at)
    time.sleep(rng.random() * 0.05)
    life.signal(signal.SIGKILL, 0)
    (code,) = life.codes(500)
    if code == 0:
      world.assert_same()
      runs += 1
      world.address = f'{world.address.rstrip("0123456789")}{runs}'
      world.lose_disks()
      continue
    assert code == -signal.SIGKILL, life.logs()
    kills += 1
    there = RemoteFolder(world.address).read_object('index.json').get('checkpoints', {})
    print(f'{world.server.kind}: kill {kills}, checkpoints {sorted(map(int, there))}', flush=True)
    world.lose_disks()
  world.ends_the_same()


@each_store
def test_ten_kills_on_one_disk(world):
  """The same host comes back: what it had not uploaded is not lost."""
  rng, proxy = random.Random(1), world.server.proxy
  for _ in range(10):
    life = world.life()
    at = proxy.count + rng.randint(20, 160)
    life.until(lambda at=at: proxy.count >= at)
    life.signal(signal.SIGKILL, 0)
    if life.codes(500) == [0]:
      break
  world.ends_the_same()


@each_store
def test_twenty_faults(world):
  """Faults that pass: the run does not end, and ends the same."""
  rng, proxy = random.Random(2), world.server.proxy
  life = world.life()
  for number in range(20):
    proxy.inject(Fault(KINDS[number % len(KINDS)], rng.choice(['', 'GET', 'POST', 'PUT'])))
    before = proxy.count + rng.randint(3, 12)
    if not life.until(lambda before=before: proxy.count >= before):
      break
  assert life.codes(500) == [0], life.logs()
  print(f'{world.server.kind}: {len(proxy.happened)} faults: {proxy.happened}', flush=True)
  assert len({kind for kind, _ in proxy.happened}) >= 4
  proxy.calm()
  world.assert_same()


@each_store
def test_a_store_that_is_gone(world):
  """The run ends within a bounded time by one sentence, and loses nothing: the next goes on."""
  proxy = world.server.proxy
  life = world.life()
  assert life.until(
    lambda: (
      '20' in RemoteFolder(world.address).read_object('index.json').get('checkpoints', {})
      or life.been(0, 'save', 20)
    )
  ), life.logs()
  proxy.inject(Fault('refuse', times=100_000))
  began = time.monotonic()
  codes = life.codes(600)
  proxy.calm()
  if codes == [0]:
    pytest.skip('the run had ended before the store went')
  assert codes == [1], life.logs()
  (sentence,) = [line for line in life.log(0).splitlines() if line.startswith('vit_jax: ')]
  assert world.address in sentence and ' failed ' in sentence, sentence
  print(f'{world.server.kind}: after {time.monotonic() - began:.0f} s: {sentence}', flush=True)
  world.ends_the_same()


@pytest.mark.parametrize('kind', ['s3', 'gs'])
@pytest.mark.parametrize('fault', ['bucket', 'permission', 'credentials'])
def test_what_is_wrong_is_said_before_the_first_step(world, fault, kind):
  place, env = world.address, {}
  if fault == 'bucket':
    place = place.replace('bucket1', 'bucket2')
  elif fault == 'permission':
    world.server.proxy.inject(Fault('forbid', times=1000))
  elif kind == 'gs':
    pytest.skip('the emulator of GCS asks for no credentials')
  else:
    env = {'AWS_ACCESS_KEY_ID': '', 'AWS_SECRET_ACCESS_KEY': '', 'HOME': str(world.disk(7))}
  life = world.life(place, env=env)
  assert life.codes(500) == [2], life.logs()
  (sentence,) = [line for line in life.log(0).splitlines() if line.startswith('vit_jax: ')]
  assert place in sentence, life.logs()
  assert {'bucket': 'no such bucket'}.get(fault, 'credentials') in sentence
  assert not life.been(0, 'compile')
  print(sentence, flush=True)


@each_store
def test_two_processes_on_lost_disks(world):
  """One is killed, the other ends; both come back on empty disks, and it is as without."""
  world.undisturbed(2)
  life = world.life(count=2)
  assert life.until(lambda: life.been(1, 'save', 15)), life.logs()
  life.signal(signal.SIGKILL, 1)
  codes = life.codes(500)
  assert codes[1] == -signal.SIGKILL and codes[0] in (1, -signal.SIGABRT), life.logs()
  assert RemoteFolder(world.address).read_object('index.json')['checkpoints']
  world.lose_disks()
  life = world.life(count=2)
  assert life.codes(500) == [0, 0], life.logs()
  assert 'start: checkpoint of step' in life.log(0)
  world.assert_same(2)
  rows = [
    json.loads(row)
    for row in (RemoteFolder(world.address).read('metrics.jsonl') or b'').splitlines()
  ]
  assert any('test/top1' in row for row in rows)
