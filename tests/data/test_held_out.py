"""Held-out parts: no twin of a held image is kept."""

from __future__ import annotations

import numpy as np
import pytest

from vit_jax.config import Data
from vit_jax.data import held_out
from vit_jax.data.sources import open_source
from vit_jax.errors import UserError

PATCH = 32


class Columns:
  """A source of nothing but columns."""

  name, split = 'made_up', 'train'

  def __init__(self, count: int, metadata=None, **columns):
    self._count, self._columns, self.metadata = count, columns, metadata or {}

  def __len__(self):
    return self._count

  def column(self, name):
    return self._columns.get(name)


def patches() -> tuple[Columns, np.ndarray, np.ndarray]:
  """Patches of a picture that overlap, as in earth_climate: cells of 90 pixels in 5400."""
  row_N, col_N = (grid.ravel() for grid in np.mgrid[0:1000:12, 0:1500:12])
  metadata = dict(raster_size=[2700, 5400], patch_size=PATCH)
  return Columns(len(row_N), metadata, row=row_N, col=col_N), row_N, col_N


def test_no_pixel_of_a_held_patch_is_in_a_kept_one():
  source, row_N, col_N = patches()
  held, kept = held_out.hold_out(source)
  seen_HW = np.zeros((2, 1100, 1600), bool)
  for side, indices in enumerate((held, kept)):
    for n in indices:
      seen_HW[side, row_N[n] : row_N[n] + PATCH, col_N[n] : col_N[n] + PATCH] = True
  assert seen_HW[0].any() and seen_HW[1].any()
  assert not (seen_HW[0] & seen_HW[1]).any()
  assert 0.05 < len(held) / len(source) < 0.25 and len(kept) > len(source) / 2


def test_the_first_group_of_a_patch_is_the_cell_of_its_first_pixel():
  source, row_N, col_N = patches()
  first_N = held_out.groups(source)[:, 0]
  cells = np.stack([row_N // 90, col_N // 90])
  assert len(np.unique(first_N)) == len(np.unique(cells, axis=1).T)
  for group in np.unique(first_N):
    assert np.ptp(cells[:, first_N == group], axis=1).max() == 0


@pytest.mark.parametrize('column', ['emoji', 'code_point'])
def test_images_of_one_thing_stay_together(column):
  things_N = np.array([b'a', b'b', b'c', b'd', b'e', b'f', b'g', b'h', b'i', b'j'] * 4)
  held, kept = held_out.hold_out(Columns(40, **{column: things_N}))
  assert len(held) == 8 and len(kept) == 32
  assert not set(things_N[held]) & set(things_N[kept])


def test_the_parts_of_a_folder(tiny_folder):
  data = Data(name='folder', dir=str(tiny_folder))
  whole, held, kept = (open_source(data, f'train{part}') for part in ('', ':held', ':kept'))
  assert (len(whole), len(held), len(kept)) == (75, 15, 60)
  files = [source.where(i) for source in (held, kept) for i in range(len(source))]
  assert sorted(files) == sorted(whole.where(i) for i in range(len(whole)))
  assert (
    held.read([3])[0][1]
    == whole.read([[whole.where(i) for i in range(75)].index(held.where(3))])[0][1]
  )
  again = open_source(data, 'train:held')
  assert [again.where(i) for i in range(15)] == files[:15]
  assert len(open_source(data, 'train[:40]:kept')) == 32


def test_too_few_groups():
  with pytest.raises(UserError, match='has 4 groups of images that belong together'):
    held_out.hold_out(Columns(8, code_point=np.array([1, 2, 3, 4] * 2)))
