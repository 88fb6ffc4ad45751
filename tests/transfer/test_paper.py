"""The suite `paper`: sets of right classes, ObjectNet's files, tests that share a training."""

import io
import json

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.evaluate.made_up import MadeUp
from vit_jax.data import imagenet
from vit_jax.errors import UserError
from vit_jax.evaluate import judge
from vit_jax.evaluate.backbone import Pulse
from vit_jax.evaluate.judge import FeatureStore
from vit_jax.evaluate.sets import EvalSet, Part
from vit_jax.transfer import paper, tasks

SETS = [[3], [], [5, 7], [999], [3, 4, 5]]


def picture(value: int, size: int = 8) -> io.BytesIO:
  return io.BytesIO(cv2.imencode('.png', np.full((size, size, 3), value, np.uint8))[1].tobytes())


class Real(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Features as in TFDS's imagenet2012_real."""

  VERSION = tfds.core.Version('1.0.0')
  url_infos = {}

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(),
          'original_label': tfds.features.ClassLabel(num_classes=1000),
          'real_label': tfds.features.Sequence(tfds.features.ClassLabel(num_classes=1000)),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    return {'validation': self._generate_examples()}

  def _generate_examples(self):
    for i, labels in enumerate(SETS):
      yield i, {'image': picture(i), 'original_label': i, 'real_label': labels}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp('tfds')
  Real(data_dir=path).download_and_prepare(file_format='array_record')
  return path


def test_real_labels_are_sets_and_empty_ones_do_not_count(data_dir):
  test = tasks.OtherTest('ReaL', 'real', 'validation', label='real_label')
  part = tasks._other(test, data_dir)
  originals = part.source.column('original_label')[part.keep_N]
  assert sorted(originals) == [0, 2, 3, 4] and part.right_NK.shape == (4, 1000)
  for original, right_K in zip(originals, part.right_NK, strict=True):
    assert np.flatnonzero(right_K).tolist() == SETS[original]


def objectnet(root, first: int = 0, names: list[str] | None = None):
  """A made-up ObjectNet: three folders, of which one has two of ImageNet's classes, one none."""
  names = imagenet.names() if names is None else names
  images = root / 'objectnet-1.0' / 'images'
  for i, folder in enumerate(('air_freshener', 'bike', 'pen')):
    (images / folder).mkdir(parents=True)
    for k in range(12):
      inner = np.full((12, 12, 3), 10 * i + k, np.uint8)
      red = cv2.copyMakeBorder(inner, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(0, 0, 255))
      cv2.imwrite(str(images / folder / f'{k}.png'), red)
  mappings = images.parent / 'mappings'
  mappings.mkdir()
  order = np.random.default_rng(0).permutation(1000)  # line of each class
  lines = [''] * 1000
  for k, line in enumerate(order):
    lines[line] = f'{names[k]}, known as {k}'
  (mappings / 'imagenet_to_label_2012_v2').write_text('\n'.join(lines) + '\n')
  for name, value in (
    (
      'folder_to_objectnet_label',
      {'air_freshener': 'Air freshener', 'bike': 'Bicycle', 'pen': 'Pen'},
    ),
    (
      'objectnet_to_imagenet_1k',
      {'Bicycle': f'{lines[order[444]]}; {lines[order[671]]}', 'Pen': lines[order[418]]},
    ),
    ('pytorch_to_imagenet_2012_id', {str(k): int(line) + first for k, line in enumerate(order)}),
  ):
    (mappings / f'{name}.json').write_text(json.dumps(value))
  return mappings


@pytest.mark.parametrize('first', [0, 1])
def test_objectnet_by_the_files_beside_its_images(first, tmp_path):
  objectnet(tmp_path, first)
  (test,) = [test for test in paper.TASKS[0].others if test.name == 'ObjectNet']
  part = tasks._other(test, tmp_path)
  assert len(part.keep_N) == 24  # those of air fresheners do not count
  for (image_HWC, label), right_K in zip(part.source.read(part.keep_N), part.right_NK, strict=True):
    assert image_HWC.shape == (12, 12, 3) and len(np.unique(image_HWC)) == 1  # no red
    assert np.flatnonzero(right_K).tolist() == {1: [444, 671], 2: [418]}[label]


def test_objectnet_mistakes_get_a_sentence(tmp_path):
  (test,) = [test for test in paper.TASKS[0].others if test.name == 'ObjectNet']
  with pytest.raises(UserError, match='ObjectNet is not in .*images: unpack'):
    tasks._other(test, tmp_path)
  mappings = objectnet(tmp_path, names=[*imagenet.names()[1:], 'tench'])
  with pytest.raises(UserError, match='in another order'):
    tasks._other(test, tmp_path)
  (mappings / 'folder_to_objectnet_label.json').unlink()
  with pytest.raises(UserError, match='unpack its archive again'):
    tasks._other(test, tmp_path)


class OneHot:
  """A backbone whose features are the class that the first pixel shows."""

  name = fingerprint = 'one hot'

  def features(self, source, pulse):
    return np.eye(3, dtype=np.float32)[source.images_NHWC[:, 0, 0, 0] // 20], source.labels_N


@pytest.mark.parametrize('kind', judge.METHODS)
def test_one_training_is_judged_by_labels_and_by_sets(kind):
  """Three tests: the same predictions are judged by what is right in each."""
  train, test, shifted = MadeUp(60), MadeUp(9), MadeUp(9)
  shifted.labels_N = (test.labels_N + 1) % 3
  shifted.split = 'shifted'
  right_NK = np.eye(3, dtype=bool)[test.labels_N] | np.eye(3, dtype=bool)[shifted.labels_N]
  right_NK[:3] = False
  parts = [Part('test', test), Part('shifted', shifted), Part('sets', test, right_NK=right_NK)]
  store = FeatureStore(OneHot(), Pulse())
  for found in judge.probe(EvalSet(kind, parts, Part('train', train)), store):
    if found.metric != '1-shot':
      assert [np.mean(top1s) for top1s in found.top1s] == pytest.approx([1, 0, 6 / 9])


def test_the_tasks():
  names = [paper.TASKS[0].name, *(test.name for test in paper.TASKS[0].others)]
  assert names == ['ImageNet', 'ImageNet ReaL', 'ImageNet v2', 'ObjectNet']
  known = tfds.list_builders(with_community_datasets=False)
  data = [task.data for task in paper.TASKS] + [test.data for test in paper.TASKS[0].others]
  assert {name.split('/')[0] for name in data if not name.startswith('folder:')} <= set(known)
