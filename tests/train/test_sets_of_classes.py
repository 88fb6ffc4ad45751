"""Training on labels that are sets of classes."""

from dataclasses import dataclass

import jax
import numpy as np
import pytest

from vit_jax import config
from vit_jax.errors import UserError
from vit_jax.parallel import mesh as meshes
from vit_jax.train.domain import Opened
from vit_jax.train.trainer import Trainer


@dataclass
class Sets:
  """Example i shows each class k with (i >> k) & 1, and may show none."""

  name: str = 'sets'
  split: str = 'train'
  class_names: tuple[str, ...] = ('red', 'green', 'blue')

  def __len__(self):
    return 8

  def read(self, indices):
    return [(np.full((8, 8, 3), 255 * self.label_sets()[i], np.uint8), i) for i in indices]

  def label_sets(self):
    return (np.arange(8)[:, None] >> np.arange(3)) & 1 == 1

  def column(self, name):
    return None


def trainer(loss, **keys):
  recipe = dict(
    steps=300,
    batch_size=8,
    model=dict(name='Ti/8', width=32, depth=1, heads=2, mlp=32),
    data=dict(name='sets', image_size=(8, 8), crop='none', flip=False, threads=1, label='colors'),
    loss=dict(name=loss),
    optim=dict(lr=1e-2),
    **keys,
  )
  mesh = meshes.make_mesh(config.Mesh(), jax.devices()[:1])
  return Trainer(config.resolve(recipe), mesh=mesh, opened=Opened(Sets(), {}))


def test_softmax_refuses_sets_of_classes():
  with pytest.raises(UserError, match="config.data.label is 'colors'.*sigmoid"):
    trainer('softmax')


def test_sigmoid_learns_them():
  t = trainer('sigmoid')
  assert t.abstract_batch['soft_label'].shape == (8, 3)
  state, rows = t.init(), []
  for batch in t.batches(0, 80):
    np.testing.assert_array_equal(batch['soft_label'], Sets().label_sets()[batch['index']])
    state, metrics = t.step(state, batch)
    rows.append(jax.device_get(metrics))
  assert rows[-1]['loss'] < 0.1 * rows[0]['loss']
  assert rows[-1]['top1'] == 7  # all but the empty set


def test_mixing_mixes_them():
  t = trainer('sigmoid', augment=dict(mixup=1.0))
  (batch,) = t.batches(0, 1)
  _, targets = t.task.inputs(t.task.drawn(batch, jax.random.key(0)))
  right_BK = Sets().label_sets()[batch['index']]
  mixed_BK = np.asarray(targets.labels_BK)
  assert not np.isin(mixed_BK, (0, 1)).all()
  np.testing.assert_allclose(mixed_BK.sum(0), right_BK.sum(0), atol=1e-5)
