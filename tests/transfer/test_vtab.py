"""VTAB's labels from the features that TFDS has, and the mean over groups of tasks."""

import io

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from vit_jax.errors import UserError
from vit_jax.transfer import suite, tasks, vtab

FEATURES = tfds.features


def picture(value: int, size: int = 8) -> io.BytesIO:
  return io.BytesIO(cv2.imencode('.png', np.full((size, size, 1), value, np.uint8))[1].tobytes())


class Scenes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Features of CLEVR, KITTI, dSprites and smallNORB in one, ten examples a split."""

  VERSION = tfds.core.Version('1.0.0')
  url_infos = {}
  SIZES = {'train': 10, 'test': 10}

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=FEATURES.FeaturesDict(
        {
          'image': FEATURES.Image(shape=(None, None, 1)),
          'image2': FEATURES.Image(shape=(None, None, 1)),
          'objects': FEATURES.Sequence(
            {
              'size': FEATURES.ClassLabel(names=['small', 'large']),
              'type': FEATURES.ClassLabel(num_classes=8),
              'pixel_coords': FEATURES.Tensor(shape=(3,), dtype=np.float32),
              'location': FEATURES.Tensor(shape=(3,), dtype=np.float32),
            }
          ),
          'label_orientation': FEATURES.ClassLabel(num_classes=40),
          'label_x_position': FEATURES.ClassLabel(num_classes=32),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    return {name: self._generate_examples(count) for name, count in self.SIZES.items()}

  def _generate_examples(self, count):
    for i in range(count):
      yield (
        i,
        {
          'image': picture(i % 2),
          'image2': picture(9),
          'label_orientation': 4 * i,
          'label_x_position': 3 * i,
          # i objects: the last one is the nearest, and every third is no vehicle.
          'objects': [
            {
              'size': k % 2,
              'type': k % 3 * 2,
              'pixel_coords': (100, 100, 11 - 0.5 * k),
              'location': (0, 0, 40 - 4 * k),
            }
            for k in range(i)
          ],
        },
      )


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp('tfds')
  Scenes(data_dir=path).download_and_prepare(file_format='array_record')
  return path


def opened(data_dir, split='train', **keys):
  """(a source, the number i of each example: TFDS shuffles them)."""
  task = tasks.Task('x', 'scenes', split, split, **keys)
  source = tasks.open_task(task, data_dir).train.source
  return source, source.column('label_x_position') // 3


def labels(source) -> list[int]:
  return [label for _, label in source.read(range(len(source)))]


def test_labels_by_rule(data_dir):
  def by_number(rule):
    source, number_N = opened(data_dir, rule=rule)
    found = np.array(labels(source))
    assert source.class_names == tuple(map(str, range(found.max() + 1)))
    return found[np.argsort(number_N)].tolist()

  assert by_number(vtab.dsprites_x) == [0, 1, 3, 4, 6, 7, 9, 10, 12, 13]
  # floor(4 i / 2.5)
  assert by_number(vtab.dsprites_orientation) == [0, 1, 3, 4, 6, 8, 9, 11, 12, 14]
  # Types 0, 2, 4 in turn, at 40, 36, 32, ...: the nearest vehicle is at 40, 36, 36, 28, 24, 24,
  # 16, 12, 12.
  assert by_number(vtab.kitti_distance) == [3, 2, 2, 2, 2, 2, 2, 1, 1, 1]


def test_clevr(data_dir):
  source, number_N = opened(data_dir, rule=lambda source: np.zeros(len(source), int))
  prepared = source.source
  order = np.argsort(number_N)
  np.testing.assert_array_equal(vtab.clevr_count(prepared)[order], np.arange(10) - 3)

  class Full:  # an example without objects does not occur in CLEVR
    def values(self, name):
      return [value for value in prepared.values(name) if len(value)]

  found = vtab.clevr_distance(Full())[order[1:] - (order[1:] > order[0])]
  assert found.tolist() == [5, 5, 4, 3, 2, 1, 0, 0, 0]  # 11, 10.5, 10, ..., 7: an edge is below
  np.testing.assert_array_equal(vtab.binned([8, 8.01], (0, 8, 9)), [0, 1])


def test_pixels_are_multiplied_and_a_label_is_chosen(data_dir):
  source, number_N = opened(data_dir, gain=255, label='label_orientation', image='image')
  for (record, label), number in zip(source.read(range(10)), number_N, strict=True):
    assert label == 4 * number and (record == 255 * (number % 2)).all()


def test_the_tasks():
  groups = [task.group for task in vtab.TASKS]
  assert [groups.count(name) for name in (vtab.NATURAL, vtab.SPECIALIZED, vtab.STRUCTURED)] == [
    7,
    4,
    8,
  ]
  assert len({task.name for task in vtab.TASKS}) == 19
  known = tfds.list_builders(with_community_datasets=False)
  assert {task.data.split('/')[0] for task in vtab.TASKS} <= set(known)


def row(task: str, metric: str, top1: float) -> suite.TransferRow:
  return suite.TransferRow(
    'm', task, 'linear', metric, 'penalty 1', top1, 0.5, 'test', 1000, 100, 1.0
  )


def test_means_of_groups():
  some = [
    tasks.Task('a', 'x', group='natural'),
    tasks.Task('b', 'y', group='natural'),
    tasks.Task('c', 'z', group='structured'),
  ]
  rows = [
    row('a', 'linear', 50.0),
    row('b', 'linear', 70.0),
    row('c', 'linear', 30.0),
    row('a', '5-shot', 10.0),
    row('c', '5-shot', 20.0),
  ]
  assert suite.group_means(some, rows) == [
    ('m', 'natural', 'linear', 2, 60.0),
    ('m', 'structured', 'linear', 1, 30.0),
    ('m', 'all', 'linear', 3, 50.0),
    ('m', 'structured', '5-shot', 1, 20.0),
  ]
  assert suite.group_means([tasks.Task('a', 'x')], rows) == []


def test_data_that_is_not_prepared(data_dir):
  with pytest.raises(UserError, match='build caltech101'):
    tasks.open_task(vtab.TASKS[0], data_dir)
