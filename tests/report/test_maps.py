import json

import numpy as np
import pytest
from made_up_run import PALETTE, PATCH, RASTER, predictions
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from vit_jax.data.datasets.earth_climate import CLIMATES
from vit_jax.report import maps, plots
from vit_jax.run.folder import Run
from vit_jax.run.predictions import Raster


def raster_of(positions, patch=PATCH, size=RASTER, held_out=None) -> Raster:
  row_N, col_N = np.array(positions).T
  return Raster(row_N, col_N, *size, patch, held_out)


@pytest.mark.parametrize(
  'positions, patch, cell',
  [
    ([(0, 0), (20, 700), (340, 360)], 20, 20),  # tiles
    ([(12, 24), (36, 48), (48, 52)], 32, 4),  # overlapping: a later patch covers an earlier one
    ([(3, 7), (100, 201)], 20, 1),
    ([(320, 640)], 64, 64),  # cells that do not divide the picture, a patch that reaches over it
  ],
)
def test_each_patch_covers_its_own_pixels(positions, patch, cell):
  raster = raster_of(positions, patch)
  value_N = np.arange(len(positions)) + 5
  painted_HW = maps.paint(value_N, raster, blank=-1)
  assert maps.cell_size(raster) == cell
  expected_HW = np.full(RASTER, -1)
  for value, (row, col) in zip(value_N, positions, strict=True):
    for r in range(row, min(row + patch, RASTER[0])):
      for c in range(col, min(col + patch, RASTER[1])):
        expected_HW[r, c] = value
  pixels_HW = painted_HW.repeat(cell, 0).repeat(cell, 1)[: RASTER[0], : RASTER[1]]
  np.testing.assert_array_equal(pixels_HW, expected_HW)


# Latitude and longitude of places, the class predicted there, and the true one.
PLACES = [(35, -95, 0, 0), (-25, 135, 1, 2), (-75, 5, 2, 1), (65, 105, 1, -1)]


def world(write_run, held_out=None):
  """Predictions on the tiles of 10 degrees around PLACES."""
  tiles = [(int((90 - lat) / 10) * PATCH, int((lon + 180) / 10) * PATCH) for lat, lon, *_ in PLACES]
  arrays = predictions(len(PLACES), positions=tiles)
  arrays['prediction_N'] = np.array([place[2] for place in PLACES], np.int32)
  arrays['label_N'] = np.array([place[3] for place in PLACES], np.int32)
  if held_out is not None:
    arrays['held_out_N'] = np.array(held_out)
  return Run(write_run(files={'world': arrays})).predictions['world']


def draw(figure):
  """pixel(axes, lon, lat) -> the color drawn at a place, RGB in [0, 1] on white."""
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  rgba_HW4 = np.asarray(canvas.buffer_rgba()) / 255
  rgb_HW3 = rgba_HW4[..., :3] * rgba_HW4[..., 3:] + 1 - rgba_HW4[..., 3:]

  def pixel(axes, lon, lat):
    x, y = axes.transData.transform((lon, lat))
    return rgb_HW3[rgb_HW3.shape[0] - 1 - int(y), int(x)]

  return pixel


def assert_color(seen_3, color):
  np.testing.assert_allclose(seen_3, to_rgb(color), atol=0.02)


def test_colors_lie_at_their_latitude_and_longitude(write_run):
  colors = [color for color, _ in PALETTE.values()]
  figure = maps.map_figure(world(write_run))
  predicted, true, outcome, legend = figure.axes
  assert {words for _, words in PALETTE.values()} <= {text.get_text() for text in legend.texts}
  assert predicted.get_title(loc='left') == 'Predicted' and true.get_title(loc='left') == 'True'
  pixel = draw(figure)
  for lat, lon, guess, label in PLACES:
    assert_color(pixel(predicted, lon, lat), colors[guess])
    if label >= 0:
      assert_color(pixel(true, lon, lat), colors[label])
      assert_color(pixel(outcome, lon, lat), plots.RIGHT if guess == label else plots.WRONG)
    else:
      assert np.ptp(pixel(true, lon, lat)) < 0.06  # gray
  for axes in (predicted, true, outcome):
    ocean_3 = pixel(axes, -151, -33)
    assert ocean_3.min() > 0.9 and np.ptp(ocean_3) < 0.02


def test_places_without_a_class_count_neither_way(write_run):
  assert maps.agreement(world(write_run)) == '33.3% of 3 patches are right'


def test_held_out_regions_are_told_apart(write_run):
  predictions = world(write_run, held_out=[True, True, False, False])
  assert maps.agreement(predictions) == '33.3% of 3 patches are right, 50.0% in held-out regions'
  figure = maps.map_figure(predictions)
  lat, lon, *_ = PLACES[2]
  seen = draw(figure)(figure.axes[2], lon, lat)
  full = np.array(to_rgb(plots.WRONG))
  assert (seen > full + 0.02).any() and (seen >= full - 0.02).all()  # paler, the same hue


def test_climates_have_colors_of_their_own():
  assert len({climate.color for climate in CLIMATES.values()}) == len(CLIMATES) == 14


@pytest.mark.parametrize('count', [20, 50])
def test_classes_without_a_declared_palette_have_colors_of_their_own(count, write_run):
  names = tuple(f'class {k}' for k in range(count))
  run = Run(write_run(files={'val': predictions(9, names=names)}))
  assert len(set(maps.palette(run.predictions['val']))) == count


def test_another_picture_is_mapped_in_pixels(write_run):
  arrays = predictions(2, names=('cell', 'void'), positions=[(0, 0), (20, 40)])
  arrays['raster_size'] = np.array([100, 100])
  del arrays['extent']
  figure = maps.map_figure(Run(write_run(files={'world': arrays})).predictions['world'])
  assert figure.axes[0].get_xlim() == (0, 100) and figure.axes[0].get_ylim() == (-100, 0)
  assert '°' not in plots.to_svg(figure, 'a map')


def test_a_whole_planet_of_noise_is_a_small_file(write_run, tmp_path):
  tiles = [(r, c) for r in range(0, 2688, 32) for c in range(0, 5376, 32)][::3]
  arrays = predictions(len(tiles), names=tuple(CLIMATES), positions=tiles)
  arrays |= {'raster_size': np.array([2700, 5400]), 'patch_size': np.array(32)}
  palette = {name: [climate.color, climate.words] for name, climate in CLIMATES.items()}
  arrays['palette'] = np.array(json.dumps(palette))
  figure = maps.map_figure(Run(write_run(files={'world': arrays})).predictions['world'])
  plots.save_png(figure, tmp_path / 'world.png')
  assert 10_000 < (tmp_path / 'world.png').stat().st_size < 300_000
