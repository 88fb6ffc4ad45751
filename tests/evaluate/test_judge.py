"""Judging: which examples count, how often each is read, and what is kept of features."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.evaluate.made_up import FirstPixels, MadeUp
from tests.weights import made_up
from vit_jax.config import ImageData, Mesh
from vit_jax.data.view import View, inputs_of
from vit_jax.errors import UserError
from vit_jax.evaluate import judge
from vit_jax.evaluate.backbone import Backbone, Forward, Pulse
from vit_jax.evaluate.judge import FeatureStore
from vit_jax.evaluate.sets import EvalSet, Part
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.trees import unflatten_variables

HALF = (0.5, 0.5, 0.5)
KINDS = tuple(judge.METHODS)


def backbone(devices: int, batch_size: int = 16) -> Backbone:
  """A small ViT with weights of its own, on so many devices."""
  model, leaves = made_up.tiny('Ti/8', 3)
  variables = unflatten_variables(leaves)
  mesh = meshes.make_mesh(Mesh(), jax.devices()[:devices])
  variables = jax.device_put(variables, rules.shardings(variables, mesh))
  forward = Forward(model, variables, mean=HALF, std=HALF, loss='softmax', mesh=mesh)
  data = ImageData(image_size=(16, 16), eval_crop=1.0, cache='never')
  return Backbone(
    'made up',
    model,
    variables,
    forward,
    View.of(inputs_of(data)),
    data,
    mesh,
    batch_size,
    ('a', 'b', 'c'),
  )


def evals(kind: str, train: MadeUp, *tests: Part) -> EvalSet:
  return EvalSet(kind, list(tests), Part('train', train))


def test_each_of_1003_examples_once_and_in_order():
  source = MadeUp(1003)
  rows = backbone(8, 64).classify(source, Pulse())
  assert (source.times_read == 1).all()
  np.testing.assert_array_equal(rows['index'], np.arange(1003))
  np.testing.assert_array_equal(rows['label'], source.labels_N)


def test_features_are_kept_for_the_same_backbone_and_split_only(tmp_path):
  source, first = MadeUp(10), FirstPixels()
  found = FeatureStore(first, Pulse(), tmp_path).of(source)
  again = FeatureStore(first, Pulse(), tmp_path).of(source)
  assert first.asked == [10]
  np.testing.assert_array_equal(found[0], again[0])
  other = FirstPixels('b')
  FeatureStore(other, Pulse(), tmp_path).of(source)  # other weights
  assert other.asked == [10]
  source.labels_N[1] += 1  # a label corrected in place
  _, labels_N = FeatureStore(first, Pulse(), tmp_path).of(source)
  assert first.asked == [10, 10]
  np.testing.assert_array_equal(labels_N, source.labels_N)


def test_other_weights_and_another_view_have_another_fingerprint():
  one = backbone(1)
  scaled = jax.tree.map(lambda leaf: leaf * 2, one.variables)
  whole = dataclasses.replace(one, view=View.whole((16, 16), 3))
  other = dataclasses.replace(one, variables=scaled)
  assert len({one.fingerprint, whole.fingerprint, other.fingerprint}) == 3
  assert backbone(8).fingerprint == one.fingerprint


@pytest.mark.parametrize('kind', KINDS)
def test_one_and_eight_devices_agree_exactly(kind):
  source = MadeUp(301)
  found = []
  for devices in (8, 1):  # as many images at a time on each device
    store = FeatureStore(backbone(devices, 16 * devices), Pulse())
    found.append(list(judge.probe(evals(kind, source, Part('test', source)), store)))
  assert found[0] == found[1] and found[0]
  assert all(result.test_examples == [301] for result in found[0])


@pytest.mark.parametrize('kind', KINDS)
def test_examples_without_a_label_count_nowhere(kind):
  whole, holed = MadeUp(120), MadeUp(120)
  holed.labels_N[::5] = -1
  holed.split = 'holed'
  kept_N = np.flatnonzero(holed.labels_N >= 0)
  store = FeatureStore(FirstPixels(), Pulse())

  def results(train: Part, test: Part):
    return list(judge.probe(EvalSet(kind, [test], train), store))

  found = results(Part('train', holed), Part('test', holed))
  assert found == results(Part('train', whole, kept_N), Part('test', whole, kept_N)) and found
  assert {(one.train_examples, *one.test_examples) for one in found} == {(96, 96)}
  right_NK = np.eye(3, dtype=bool)[whole.labels_N]  # these say what is right, whatever the label is
  judged = [
    results(Part('train', whole), Part('test', test, right_NK=right_NK)) for test in (whole, holed)
  ]
  assert judged[0] == judged[1]
  none = MadeUp(120)
  none.labels_N[:] = -1
  none.split = 'none'
  for train, test in ((none, whole), (whole, none)):
    with pytest.raises(UserError, match='no example with a label'):
      results(Part('train', train), Part('test', test))


def test_a_penalty_is_chosen_by_whole_groups_or_by_the_validation_part():
  class Grouped(MadeUp):
    def groups(self):
      return (np.arange(len(self)) // 10)[:, None]

  position_N = np.arange(200)
  held, kept = Part('train', Grouped(200)).hold_out(position_N)
  assert len(held) == 40 and not set(held // 10) & set(kept // 10)
  held, kept = Part('train', MadeUp(200), held_N=np.arange(160, 200)).hold_out(position_N)
  np.testing.assert_array_equal(held, np.arange(160, 200))
  np.testing.assert_array_equal(kept, np.arange(160))


def test_where_several_classes_are_right_any_of_them_counts():
  source = MadeUp(50)
  one = backbone(1)
  rows = one.classify(source, Pulse())
  right_NK = np.eye(3, dtype=bool)[rows['prediction']]
  right_NK[:20] = np.eye(3, dtype=bool)[(rows['prediction'][:20] + 1) % 3]
  right_NK[20:30] = True
  keep_N = np.arange(10, 50)
  test = Part('real', source, keep_N, right_NK[keep_N])
  assert judge.classified(rows, test) == ({'top1': 30 / 40}, {})


def test_a_table_shares_features_and_keeps_the_rows_of_the_models_own_head():
  source, one = MadeUp(60), backbone(1)
  table = {
    **{kind: evals(kind, source, Part(kind, source)) for kind in KINDS},
    'test': EvalSet('classify', [Part('test', source)]),
    'all': EvalSet('predict', [Part('all', source)]),
  }
  judged = judge.judge(table, one, Pulse())
  assert (source.times_read == 3).all()  # features once, and its own head twice
  assert set(judged['few_shot'].metrics) == {'1-shot', '5-shot', '10-shot'}
  assert judged['test'].rows is not None and judged['all'].metrics == {}
  assert set(judged['test'].metrics) == {'top1', 'top5', 'loss', 'ece', 'class_top1'}
  few = evals('few_shot', MadeUp(2), Part('few', source))
  with pytest.raises(UserError, match='too few examples'):
    judge.judge({'few': few}, one, Pulse())
