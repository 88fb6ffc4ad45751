"""The whole ViT: parity with a plain reference, and options that must or must not matter."""

import functools
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


def params_of(model):
  """Random, so that no parameter is 0 or 1, without compiling the initializers."""
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES[:1], train=False)['params'])
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(0.1, 0.2, leaf.shape), jnp.float32), shapes
  )


@functools.partial(jax.jit, static_argnums=(0, 2))
def run(model, params, train=False, seed=0):
  return model.apply(
    {'params': params}, IMAGES, train=train, rngs={'dropout': jax.random.key(seed)}
  )


@functools.cache
def lowered(train=False, **options):
  """(loss, gradients) as a function of the parameters, lowered and not yet compiled."""
  model = build(**options)
  return jax.jit(
    jax.value_and_grad(
      lambda params: jnp.sum(
        jnp.sin(
          model.apply(
            {'params': params}, IMAGES, train=train, rngs={'dropout': jax.random.key(0)}
          ).logits_BK
        )
      )
    )
  ).lower(params_of(model))


@functools.cache
def loss_and_grad(train=False, **options):
  return lowered(train, **options).compile()(params_of(build(**options)))


def distance(a, b):
  """The largest difference of two trees of gradients, in units of their leaf's largest value.

  A leaf far below the others counts as 1 % of the largest: the gradient of k_norm/bias is zero
  (the softmax ignores a shift common to all keys), and what is computed of it is noise.
  """
  floor = 0.01 * max(np.abs(leaf).max() for leaf in jax.tree.leaves(b))
  rows = jax.tree.map(lambda x, y: np.abs(x - y).max() / max(floor, np.abs(y).max()), a, b)
  return max(jax.tree.leaves(rows))


@pytest.mark.parametrize(
  'options',
  [
    dict(pool='cls', **ALL),
    dict(pool='cls', posemb='sincos2d'),
    dict(pool='map', fused_qkv=False, registers=1),
    dict(pool='mean', posemb='none', exact_gelu=True, unroll=False, remat='names'),
  ],
  ids=str,
)
def test_parity_with_the_equations(options):
  """Logits, every gradient and the attention weights, on rectangular images."""
  model = build(**options)
  params = params_of(model)
  positions = sincos2d(2, 3, 32) if options.get('posemb') == 'sincos2d' else None

  @jax.jit
  def plain(params):
    def loss(params):
      logits_BK, weights = reference.vit(
        params,
        IMAGES,
        patch=8,
        pool=options['pool'],
        positions=positions,
        registers=options.get('registers', 0),
        exact='exact_gelu' in options,
        qk_norm=options.get('qk_norm', False),
      )
      return jnp.sum(jnp.sin(logits_BK)), (logits_BK, jnp.stack(weights))

    return jax.grad(loss, has_aux=True)(params)

  @jax.jit
  def ours(params):
    out, sown = model.apply({'params': params}, IMAGES, train=False, mutable=['intermediates'])
    blocks = sown['intermediates']['encoder']['blocks']
    return out, blocks['attention']['weights_BANT'][0]

  grads, (expected_BK, weights) = plain(params)
  out, attention = ours(params)
  np.testing.assert_allclose(out.logits_BK, expected_BK, atol=1e-5, rtol=1e-5)
  np.testing.assert_allclose(attention, weights, atol=1e-6, rtol=1e-5)
  assert distance(loss_and_grad(**options)[1], grads) < 5e-6
  extra = (options['pool'] == 'cls') + options.get('registers', 0)
  assert out.tokens_BND.shape == (4, 6 + extra, 32)


def test_no_classes_no_head():
  model, headless = build(), models.build('Ti/8', 0, width=32, depth=2, heads=2, mlp=64)
  params = params_of(model)
  out = run(headless, {name: leaf for name, leaf in params.items() if name != 'head'})
  assert out.logits_BK is None
  np.testing.assert_allclose(out.features_BD, run(model, params).features_BD, rtol=1e-6)


@pytest.mark.parametrize(
  'options',
  [
    dict(unroll=False, fused_qkv=False),
    dict(remat='names'),
    *(
      pytest.param(options, marks=pytest.mark.slow)
      for options in (
        dict(unroll=False),
        dict(fused_qkv=False),
        dict(remat='full'),
        dict(remat='dots'),
        dict(remat='full', unroll=False),
      )
    ),
  ],
  ids=str,
)
def test_execution_changes_no_number(options):
  """Dropout included; the programs differ."""
  chance = dict(dropout=0.2, stochastic_depth=0.3)
  assert lowered(True, **chance).as_text() != lowered(True, **chance, **options).as_text()
  shapes = [jax.tree.map(jnp.shape, params_of(build(**keys))) for keys in ({}, options)]
  assert shapes[0] == shapes[1]
  loss, grads = loss_and_grad(True, **chance)
  other_loss, other_grads = loss_and_grad(True, **chance, **options)
  assert float(loss) == pytest.approx(float(other_loss), rel=1e-6)
  assert distance(other_grads, grads) < 5e-6


def test_training_computes_of_the_last_layer_what_the_heads_read():
  """With the numbers of a loop over the layers, which computes all."""
  options = dict(distilled=True, registers=2, layerscale=0.1, qk_norm=True, fused_qkv=False)
  options |= dict(depth=3, dropout=0.2, stochastic_depth=0.3)
  loss, grads = loss_and_grad(True, **options)
  other_loss, other_grads = loss_and_grad(True, unroll=False, **options)
  assert abs(float(loss) - float(other_loss)) < 5e-6  # a sum of 20 sines
  assert distance(other_grads, grads) < 5e-6
  model, rngs = build(**options), {'dropout': jax.random.key(0)}

  def tokens(**keys):
    variables = {'params': params_of(model)}
    return jax.eval_shape(lambda: model.apply(variables, IMAGES, train=True, rngs=rngs, **keys))

  assert tokens().tokens_BND.shape == (4, 2, 32)
  _, sown = tokens(mutable=['intermediates'])  # to look at attention, all is computed
  [weights_LBANT] = sown['intermediates']['encoder']['blocks']['attention']['weights_BANT']
  assert weights_LBANT.shape == (3, 4, 2, 10, 10)


def test_remat_policies_compute_again_what_they_say():
  none, dots, names, full = (
    lowered(remat=remat).as_text().count('stablehlo.dot_general')
    for remat in ('none', 'dots', 'names', 'full')
  )
  assert none < dots < full and none < names < full


def test_rolled_layers_are_a_loop():
  assert 'stablehlo.while' not in lowered().as_text()
  assert 'stablehlo.while' in lowered(unroll=False).as_text()


@pytest.mark.parametrize('options', [dict(dropout=0.5), dict(stochastic_depth=0.5)], ids=str)
def test_chance_acts_in_training_only(options):
  model = build(**options)
  params = params_of(model)
  logits = lambda *a: np.asarray(run(model, params, *a).logits_BK)  # noqa: E731
  assert np.abs(logits(True) - logits(False)).max() > 1e-3
  assert np.abs(logits(True) - logits(True, 1)).max() > 1e-3
  np.testing.assert_array_equal(logits(False), logits(False, 1))
  np.testing.assert_array_equal(logits(False), run(build(), params).logits_BK)


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
    out = [run(model, params, train).logits_BK for train in (True, False)]
    assert (np.abs(out[0] - out[1]).max() < 1e-5) == same


def test_initial_values():
  model = build(width=64, mlp=256, registers=4, layerscale=0.01, head_bias=-3.0)
  init = lambda: model.init(jax.random.key(0), IMAGES[:1], train=False)['params']  # noqa: E731
  params = jax.jit(init)()
  blocks = params['encoder']['blocks']
  attention, mlp = blocks['attention'], blocks['mlp']
  for kernel, fan_in, fan_out in (  # Xavier uniform reaches, and does not pass, its bound
    (attention['qkv']['kernel'], 64, 64),
    (attention['out']['kernel'], 64, 64),
    (mlp['up']['kernel'], 64, 256),
    (mlp['down']['kernel'], 256, 64),
  ):
    bound = math.sqrt(6 / (fan_in + fan_out))
    assert 0.98 * bound < np.abs(kernel).max() <= bound
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1 * bound
  assert np.std(params['embedding']['kernel']) == pytest.approx((8 * 8 * 3) ** -0.5, rel=0.03)
  assert np.std(params['pos_embedding']) == pytest.approx(0.02, rel=0.2)
  assert np.std(mlp['up']['bias']) == pytest.approx(1e-6, rel=0.2)
  assert not np.any(params['cls']) and not np.any(params['head']['kernel'])
  assert np.all(params['head']['bias'] == -3.0) and np.all(blocks['scale1'] == np.float32(0.01))


def test_one_constraint_a_block_under_a_mesh():
  mesh = jax.make_mesh(
    (2, 4, 1, 1), ('replica', 'fsdp', 'tensor', 'sequence'), axis_types=(AxisType.Auto,) * 4
  )
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
  np.testing.assert_allclose(
    jax.jit(sharded)(replicated), jax.jit(forward)(params), atol=2e-5, rtol=1e-5
  )
