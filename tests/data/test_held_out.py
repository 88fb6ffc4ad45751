"""Groups as data sets declare them, and parts held out by them: no twin on both sides."""

from pathlib import Path

import numpy as np
import pytest

from vit_jax.config import ImageData
from vit_jax.data.held_out import hold_out
from vit_jax.data.prepared import PreparedSource
from vit_jax.data.sources import MappedSource, open_source
from vit_jax.errors import UserError

PATCH = 32


class Columns(PreparedSource):
  """Nothing but metadata and columns."""

  def column(self, name):
    return self.features.get(name)


def declared(count: int, metadata: dict, **columns: np.ndarray) -> Columns:
  keys = dict(directory=Path(), pieces=[], image_key='', label_key='', class_names=())
  return Columns(
    'made_up', 'train', metadata=metadata, records=range(count), features=columns, **keys
  )


def patches() -> tuple[Columns, np.ndarray, np.ndarray]:
  """Patches of a picture that overlap, as in earth_climate: cells of 90 pixels in 5400."""
  row_N, col_N = (grid.ravel() for grid in np.mgrid[0:1000:12, 0:1500:12])
  metadata = dict(group_cells=90, raster_size=[2700, 5400], patch_size=PATCH)
  return declared(len(row_N), metadata, row=row_N, col=col_N), row_N, col_N


def test_no_pixel_of_a_held_patch_is_in_a_kept_one():
  source, row_N, col_N = patches()
  held, kept = hold_out(source)
  seen_HW = np.zeros((2, 1100, 1600), bool)
  for side, indices in enumerate((held, kept)):
    for n in indices:
      seen_HW[side, row_N[n] : row_N[n] + PATCH, col_N[n] : col_N[n] + PATCH] = True
  assert seen_HW[0].any() and seen_HW[1].any()
  assert not (seen_HW[0] & seen_HW[1]).any()
  assert 0.05 < len(held) / len(source) < 0.25 and len(kept) > len(source) / 2


def test_the_first_group_of_a_patch_is_the_cell_of_its_first_pixel():
  source, row_N, col_N = patches()
  first_N = source.groups()[:, 0]
  cells = np.stack([row_N // 90, col_N // 90])
  assert len(np.unique(first_N)) == len(np.unique(cells, axis=1).T)
  for group in np.unique(first_N):
    assert np.ptp(cells[:, first_N == group], axis=1).max() == 0


def test_images_of_one_thing_stay_together_if_the_data_set_declares_it():
  things_N = np.array([b'a', b'b', b'c', b'd', b'e', b'f', b'g', b'h', b'i', b'j'] * 4)
  source = declared(40, {'group': 'thing'}, thing=things_N)
  held, kept = hold_out(source)
  assert len(held) == 8 and len(kept) == 32
  assert not set(things_N[held]) & set(things_N[kept])
  part = MappedSource(source, 'every other', indices_N=np.arange(0, 40, 2))
  assert len(np.unique(part.groups())) == 5
  assert len(hold_out(declared(40, {}, thing=things_N))[0]) == 8  # each is a group of its own
  assert len(np.unique(declared(40, {}, thing=things_N).groups())) == 40


def test_a_declared_column_that_is_missing():
  with pytest.raises(UserError, match="'made_up' name a feature 'thing'"):
    declared(40, {'group': 'thing'}).groups()


def test_the_parts_of_a_folder(tiny_folder):
  data = ImageData(name='folder', dir=str(tiny_folder))
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
  with pytest.raises(UserError, match="'made_up'.* 4 groups"):
    hold_out(declared(8, {'group': 'thing'}, thing=np.array([1, 2, 3, 4] * 2)))
