"""The whole ViT: parity with a plain reference, and options that must or must not matter."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.sharding import AxisType

from vit_jax import models
from vit_jax.models.blocks import drop_rates
from vit_jax.models.embedding import sincos2d

IMAGES = np.random.default_rng(0).normal(size=(4, 16, 24, 3)).astype(np.float32)
ALL = dict(registers=2, layerscale=0.1, qk_norm=True, representation=True)


def build(**options):
  sizes = dict(width=32, depth=2, heads=2, mlp=64)
  return models.build('Ti/8', 5, **(sizes | options))


def params_of(model, images=IMAGES):
  """Initialised, then moved, so that no parameter is 0 or 1."""
  init = lambda key: model.init(key, images[:1], train=False)['params']  # noqa: E731
  params = jax.jit(init)(jax.random.key(0))
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  return jax.tree.unflatten(tree, [leaf + 0.1 * jax.random.normal(key, leaf.shape)
                                   for leaf, key in zip(leaves, keys, strict=True)])


def loss_and_grad(model, params, images=IMAGES, train=False):
  def loss(params):
    out = model.apply({'params': params}, images, train=train,
                      rngs={'dropout': jax.random.key(2)} if train else {})
    return jnp.sum(jnp.sin(out.logits_BK))

  return jax.jit(jax.value_and_grad(loss))(params)


def distance(a, b):
  """The largest difference of two trees, relative to the largest value of the leaf."""
  rows = jax.tree.map(lambda x, y: np.abs(x - y).max() / (1e-3 + np.abs(y).max()), a, b)
  return max(jax.tree.leaves(rows))


@pytest.mark.parametrize('options', [
    dict(pool='cls'), dict(pool='cls', **ALL), dict(pool='mean', exact_gelu=True),
    dict(pool='map', fused_qkv=False, registers=1), dict(pool='cls', posemb='sincos2d'),
    dict(pool='mean', posemb='none', unroll=False, remat='names')], ids=str)
def test_parity_with_the_equations(options):
  """Logits, every gradient and the attention weights, on rectangular images."""
  model = build(**options)
  params = params_of(model)
  positions = sincos2d(2, 3, 32) if options.get('posemb') == 'sincos2d' else None

  def plain(params):
    return reference.vit(params, IMAGES, patch=8, pool=options['pool'], positions=positions,
                         registers=options.get('registers', 0), exact='exact_gelu' in options,
                         qk_norm=options.get('qk_norm', False))

  expected_BK, weights = plain(params)
  out, sown = model.apply({'params': params}, IMAGES, train=False, mutable=['intermediates'])
  np.testing.assert_allclose(out.logits_BK, expected_BK, atol=2e-5, rtol=1e-5)
  attention = sown['intermediates']['encoder']['blocks']['attention']['weights_BANT'][0]
  np.testing.assert_allclose(attention, np.stack(weights), atol=1e-6, rtol=1e-5)
  grads = jax.jit(jax.grad(lambda params: jnp.sum(jnp.sin(plain(params)[0]))))(params)
  assert distance(loss_and_grad(model, params)[1], grads) < 2e-5
  extra = (options['pool'] == 'cls') + options.get('registers', 0)
  assert out.tokens_BND.shape == (4, 6 + extra, 32)


def test_no_classes_no_head():
  model = build()
  headless = models.build('Ti/8', 0, width=32, depth=2, heads=2, mlp=64)
  params = params_of(model)
  body = {name: leaf for name, leaf in params.items() if name != 'head'}
  out = headless.apply({'params': body}, IMAGES, train=False)
  assert out.logits_BK is None
  np.testing.assert_array_equal(
      out.features_BD, model.apply({'params': params}, IMAGES, train=False).features_BD)


@pytest.mark.parametrize('options', [
    dict(unroll=False), dict(fused_qkv=False), dict(remat='full'), dict(remat='dots'),
    dict(remat='names'), dict(remat='full', unroll=False)], ids=str)
def test_execution_changes_no_number(options):
  """Dropout included. The programs differ: as many dots are not counted in both."""
  keys = dict(dropout=0.2, stochastic_depth=0.3)
  model, other = build(**keys), build(**keys, **options)
  params = params_of(model)
  assert jax.tree.structure(params) == jax.tree.structure(params_of(other))
  dots = [str(jax.make_jaxpr(jax.grad(lambda p, m=m: m.apply(
      {'params': p}, IMAGES, train=True, rngs={'dropout': jax.random.key(2)}
  ).logits_BK.sum()))(params)).count('dot_general') for m in (model, other)]
  if 'unroll' not in options or 'remat' in options:
    assert dots[0] != dots[1]
  else:
    text = [jax.jit(lambda p, m=m: m.apply({'params': p}, IMAGES, train=False)).lower(
        params).as_text() for m in (model, other)]
    assert 'stablehlo.while' not in text[0] and 'stablehlo.while' in text[1]
  (loss, grads), (other_loss, other_grads) = (
      loss_and_grad(m, params, train=True) for m in (model, other))
  assert loss == pytest.approx(other_loss, rel=1e-6)
  assert distance(other_grads, grads) < 1e-5


def test_remat_policies_compute_again_what_they_say():
  def compiled_flops(remat):
    model = build(remat=remat, attention='xla')
    params = params_of(model)
    f = jax.jit(jax.grad(lambda p: model.apply({'params': p}, IMAGES, train=False).logits_BK.sum()))
    return f.lower(params).as_text().count('stablehlo.dot_general')

  none, dots, names, full = (compiled_flops(remat) for remat in ('none', 'dots', 'names', 'full'))
  assert none < min(dots, names) and max(dots, names) < full


def test_dropout_and_stochastic_depth_act_in_training_only():
  for options in (dict(dropout=0.5), dict(stochastic_depth=0.5)):
    model = build(**options)
    params = params_of(model)
    run = lambda train, seed=0, m=model, p=params: m.apply(  # noqa: E731
        {'params': p}, IMAGES, train=train, rngs={'dropout': jax.random.key(seed)}).logits_BK
    assert np.abs(run(True) - run(False)).max() > 1e-3
    assert np.abs(run(True) - run(True, 1)).max() > 1e-3
    np.testing.assert_array_equal(run(False), run(False, 1))
    np.testing.assert_array_equal(run(False), build().apply(
        {'params': params}, IMAGES, train=False).logits_BK)


def test_stochastic_depth_over_depth():
  np.testing.assert_allclose(drop_rates(0.4, 'linear', 5), [0, 0.1, 0.2, 0.3, 0.4], rtol=1e-6)
  np.testing.assert_allclose(drop_rates(0.4, 'constant', 3), [0.4] * 3, rtol=1e-6)
  # With the last layer's branches silenced, only the first layer can show a difference.
  for rule, same in (('linear', True), ('constant', False)):
    model = build(stochastic_depth=0.9, stochastic_depth_rule=rule)
    params = params_of(model)
    for place in ('attention', 'mlp'):
      name = 'out' if place == 'attention' else 'down'
      leaves = params['encoder']['blocks'][place][name]
      for leaf in leaves:
        leaves[leaf] = leaves[leaf].at[1].set(0)
    out = [model.apply({'params': params}, IMAGES, train=train,
                       rngs={'dropout': jax.random.key(0)}).logits_BK for train in (True, False)]
    assert (np.abs(out[0] - out[1]).max() < 1e-5) == same


def test_initial_values():
  model = build(width=64, mlp=256, registers=4, layerscale=0.01, head_bias=-3.0)
  params = jax.jit(lambda: model.init(jax.random.key(0), IMAGES[:1], train=False)['params'])()
  blocks = params['encoder']['blocks']
  for kernel, fan_in, fan_out in (  # Xavier uniform reaches, and does not pass, its bound
      (blocks['attention']['qkv']['kernel'], 64, 64), (blocks['attention']['out']['kernel'], 64, 64),
      (blocks['mlp']['up']['kernel'], 64, 256), (blocks['mlp']['down']['kernel'], 256, 64)):
    bound = math.sqrt(6 / (fan_in + fan_out))
    assert 0.98 * bound < np.abs(kernel).max() <= bound
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1 * bound
  assert np.std(params['embedding']['kernel']) == pytest.approx((8 * 8 * 3) ** -0.5, rel=0.03)
  assert np.std(params['pos_embedding']) == pytest.approx(0.02, rel=0.2)
  assert np.std(blocks['mlp']['up']['bias']) == pytest.approx(1e-6, rel=0.2)
  assert not np.any(params['cls']) and not np.any(params['head']['kernel'])
  assert np.all(params['head']['bias'] == -3.0) and np.all(blocks['scale1'] == np.float32(0.01))


def test_one_constraint_a_block_under_a_mesh():
  mesh = jax.make_mesh((2, 4, 1), ('replica', 'fsdp', 'tensor'), axis_types=(AxisType.Auto,) * 3)
  images = np.concatenate([IMAGES, IMAGES])
  model = build()
  params = params_of(model)

  def forward(params):
    return model.apply({'params': params}, images, train=False).logits_BK

  def sharded(params):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return forward(params)

  def constraints(f):
    text = str(jax.make_jaxpr(f)(params))
    return text.count('sharding_constraint[')

  assert constraints(forward) == 0 and constraints(sharded) >= 1
  replicated = jax.device_put(params, jax.sharding.NamedSharding(mesh, jax.P()))
  np.testing.assert_allclose(jax.jit(sharded)(replicated), jax.jit(forward)(params),
                             atol=2e-5, rtol=1e-5)
