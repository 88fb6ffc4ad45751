"""Runs of several processes in an emulated store, beside the same ones on a quiet disk."""

import shutil
from pathlib import Path

import jax
import numpy as np

from tests.fleet import Life, Nursery, result
from vit_jax.paths import is_address

STEPS = 40


class World:
  """Runs of one store, each process of them on a disk of its own.

  Attributes:
    recipe: the file of it, or its name.
    keys: flags that change the recipe.
    data: folders of prepared data for runs on a disk and for those in the store, if it needs any.
    whole: whether processes also draw the report.
  """

  def __init__(self, server, nursery: Nursery, recipe: Path, folder: Path):
    self.server, self._nursery, self._folder = server, nursery, folder
    self.recipe: Path | str = recipe
    self.keys: tuple[str, ...] = ()
    self.data: tuple[Path, str] | None = None
    self.whole = False
    self.address = f'{server.kind}://bucket1/{folder.name}'

  def command(self, place: object, steps: int = STEPS) -> list[str]:
    # The clients of a store try again for longer than the recipe lets a save take.
    keys = (f'--config.steps={steps}', '--config.limits.save=600', *self.keys)
    if self.data:
      keys += (f'--data_dir={self.data[is_address(str(place))]}',)
    return ['train', f'--config={self.recipe}', f'--workdir={place}', *keys]

  def life(self, place: object = None, count: int = 1, devices: int = 1, **more) -> Life:
    plant = {
      index: {
        **({'whole': True} if self.whole else {}),
        'env': {
          **self.server.env,
          'VIT_JAX_CACHE_DIR': str(self.disk(index)),
          **more.get('env', {}),
        },
      }
      for index in range(count)
    }
    argv = self.command(place or self.address)
    return Life(self._nursery, self._folder / 'lives', argv, count, plant, devices)

  def disk(self, index: int) -> Path:
    return self._folder / f'disk-{index}'

  def lose_disks(self) -> None:
    for path in self._folder.glob('disk-*'):
      shutil.rmtree(path)

  def undisturbed(self, count: int = 1) -> tuple:
    place = self._folder / f'undisturbed-{count}'
    if not place.exists():
      life = self.life(place, count)
      assert life.codes(500) == [0] * count, life.logs()
    return result(place)

  def assert_same(self, count: int = 1) -> None:
    (state, rows, summary), expected = result(self.address), self.undisturbed(count)
    jax.tree.map(np.testing.assert_array_equal, state, expected[0])
    assert rows == expected[1] and summary['test'] == expected[2]['test']

  def ends_the_same(self) -> None:
    """The run goes on to its end."""
    life = self.life()
    assert life.codes(500) == [0], life.logs()
    self.assert_same()
