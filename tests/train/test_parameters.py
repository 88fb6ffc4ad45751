"""What optimizers read off the paths of parameters, in every family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import config, models
from vit_jax.config import Augment, Group, Loss, Optim
from vit_jax.errors import UserError
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.train.optim import make_optimizer, trained
from vit_jax.train.parameters import factors, is_hidden_matrix, matrix, unit_axes
from vit_jax.train.task import Classification
from vit_jax.trees import flatten

SMALL = dict(width=32, depth=2, heads=2, mlp=64)


def params_of(name: str, size: int = 32, channels: int = 3, **keys):
  model = models.build(name, 5, **keys)
  image = jnp.zeros((1, size, size, channels))
  return jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))['params']


VIT = params_of('Ti/8', **SMALL | {'depth': 12})


def test_layer_decay_is_beits_table():
  """get_num_layer_for_vit and LayerDecayValueAssigner of BEiT's optim_factory.py, 12 blocks."""
  decay = 0.65
  values = [decay ** (12 + 1 - i) for i in range(12 + 2)]
  found = {name: factor.lr for name, factor in factors(Optim(layer_decay=decay), VIT).items()}
  for name in ('cls', 'pos_embedding', 'embedding/kernel', 'embedding/bias'):
    assert found[name] == pytest.approx(values[0])
  for name in ('mlp/up/kernel', 'attention/qkv/bias', 'norm1/scale'):
    multiplier = found[f'encoder/blocks/{name}']
    assert multiplier.shape[0] == 12 and multiplier.size == 12
    np.testing.assert_allclose(np.ravel(multiplier), values[1:13], rtol=1e-6)
  for name in ('encoder/norm/scale', 'head/kernel', 'head/bias'):
    assert found[name] == 1 == values[13]


@pytest.mark.parametrize(
  'name, keys, layers',
  [
    ('DeiT-Ti/8-distilled', SMALL, {'dist': 0, 'encoder/blocks/norm1/bias': (1, 2), 'head': 3}),
    ('DINOv2-S/8-reg4', SMALL, {'registers': 0, 'encoder/norm': 3}),
    (
      'CaiT-XXS24',
      SMALL | dict(patch=8),
      {'cls': 0, 'encoder/blocks/scale1': (1, 2), 'class_blocks/scale1': (3, 4), 'norm': 5},
    ),
    (
      'R26+S/8',
      SMALL | dict(stages=(1, 1), resnet_width=32),
      {'embedding/resnet': 0, 'embedding/kernel': 0, 'encoder/blocks/mlp/up/kernel': (1, 2)},
    ),
  ],
)
def test_layers_of_the_families(name, keys, layers):
  params = params_of(name, **keys)
  found = factors(Optim(layer_decay=0.5), params)
  last = max(np.max(layer) for layer in layers.values()) if 'norm' in layers else 3
  for prefix, layer in layers.items():
    names = [name for name in found if name.startswith(prefix)]
    assert names
    for name in names:
      np.testing.assert_allclose(np.ravel(found[name].lr), 0.5 ** (last - np.ravel(layer)))


def test_layer_decay_needs_blocks():
  for name, keys in (('ResNet-18', dict(stages=(1,), width=8)), ('LeNet-5', {})):
    params = params_of(name, channels=1 if name == 'LeNet-5' else 3, **keys)
    with pytest.raises(UserError, match='config.optim.layer_decay'):
      factors(Optim(layer_decay=0.5), params)


def test_groups_multiply_and_name_near_paths():
  groups = {
    'a': Group(match='mlp/', lr=0.5),
    'b': Group(match='up/kernel$', lr=0.1, weight_decay=2.0),
    'c': Group(match='bias$', weight_decay=3.0),
  }
  found = factors(Optim(weight_decay=0.1, groups=groups), VIT)
  up, bias = (found[f'encoder/blocks/mlp/up/{name}'] for name in ('kernel', 'bias'))
  assert (up.lr, up.weight_decay) == pytest.approx((0.05, 0.2))
  assert (bias.lr, bias.weight_decay) == (0.5, 0.0)  # no matrix decays
  with pytest.raises(UserError, match='config.optim.groups.x.match.*encoder/blocks/mlp'):
    factors(Optim(groups={'x': Group(match='encoder/blocks/mpl')}), VIT)
  with pytest.raises(UserError, match='freeze every parameter'):
    factors(Optim(groups={'x': Group(match='.', freeze=True)}), VIT)


def test_matrices_of_stored_kernels():
  assert matrix('encoder/blocks/attention/qkv/kernel', 5) == ((1,), (3, 4))  # L D 3 A E
  assert matrix('encoder/blocks/attention/out/kernel', 4) == ((1, 2), (3,))  # L A E D
  assert matrix('map_head/attention/query/kernel', 4) == ((0,), (2, 3))  # D 1 A E
  assert matrix('stage1/unit1/conv1/kernel', 4) == ((0, 1, 2), (3,))  # H W C D
  assert matrix('encoder/forward/input_kernel', 3) == ((0,), (2,))  # D G H
  assert matrix('encoder/blocks/norm1/scale', 2) is None
  assert unit_axes('encoder/blocks/attention/qkv/bias', 3) == (1, 2)
  assert unit_axes('pos_embedding', 3) == (0, 1, 2)


def test_muon_is_for_hidden_matrices():
  hybrid = flatten(params_of('R26+S/8', **SMALL | dict(stages=(1, 1), resnet_width=32)))
  kernels = {name for name in hybrid if name.endswith('kernel')}
  hidden = {name for name in hybrid if is_hidden_matrix(name)}
  assert kernels - hidden == {
    'embedding/kernel',
    'embedding/resnet/stem/conv/kernel',
    'head/kernel',
  }


@pytest.mark.parametrize('name', ['adamw', 'sgd', 'lamb', 'adafactor', 'lion', 'muon'])
@pytest.mark.parametrize('family', ['ViT', 'ResNet'])
def test_every_optimizer_has_a_state_that_can_be_sharded(name, family):
  params = {
    'ViT': params_of('Ti/8', **SMALL),
    'ResNet': params_of('ResNet-18', stages=(1, 1), width=32),
  }[family]
  optim = Optim(name=name, mu_dtype='bfloat16', clip_agc=0.1, weight_decay=0.1)
  tx = make_optimizer(optim, lambda step: 0.1)
  state = jax.eval_shape(tx.init, params)
  mesh = meshes.make_mesh(config.Mesh(2, 2, 2))
  rules.shardings({'opt_state': state, 'params': params}, mesh)
  updates, after = jax.eval_shape(lambda g, s, p: tx.update(g, s, p, step=0), params, state, params)
  assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(updates))
  moments = [leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.bfloat16]
  assert len(moments) == len(jax.tree.leaves(params))
  assert all(jax.tree.leaves(trained(optim, params)))


def test_class_weights_are_one_per_class():
  with pytest.raises(UserError, match='config.loss.class_weights has 2 numbers.*5 classes'):
    Classification(5, Loss(class_weights=(1.0, 2.0)), Augment(), (0.5,) * 3, (0.5,) * 3)
