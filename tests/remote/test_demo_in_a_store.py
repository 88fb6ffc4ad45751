"""A short form of the demo, with run folder and data in emulated GCS and S3.

About two minutes: `pytest -m stores -n 0 -s tests/remote/test_demo_in_a_store.py`.
"""

import pytest

from vit_jax.data import datasets
from vit_jax.remote.folder import RemoteFolder
from vit_jax.run import Run

pytestmark = pytest.mark.stores


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  datasets.prepare('earth_climate', folder)
  return folder


@pytest.mark.parametrize('kind', ['gs', 's3'])
@pytest.mark.parametrize('count', [1, 2])
def test_the_demo(world, prepared, count):
  """Its parameters and metrics are those of a disk to the bit, and its report opens."""
  there = RemoteFolder(f'{world.server.kind}://bucket1/data')
  for path in prepared.rglob('*'):
    if path.is_file():
      there.put(path, path.relative_to(prepared).as_posix())
  world.recipe, world.data, world.whole = 'earth_climate', (prepared, there.address), True
  world.keys = ('--config.checkpoint.every.steps=10',)
  life = world.life(count=count)
  assert life.codes(500) == [0] * count, life.logs()
  assert f'from {there.address}/earth_climate' in life.log(0)  # what it fetched
  world.assert_same(count)
  page = RemoteFolder(world.address).read('report.html') or b''
  assert page.lower().startswith(b'<!doctype html') and page.rstrip().endswith(b'</html>')
  assert f'report: {world.address}/report.html' in life.log(0)
  assert Run(world.address).summary['test']
