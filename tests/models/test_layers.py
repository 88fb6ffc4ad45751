"""Each written-out gradient against automatic differentiation; dtypes; attention's routes."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from vit_jax import models
from vit_jax.models import constraints, dense, dot_product, layers


def random(*shape, seed=0):
  return jnp.asarray(np.random.default_rng([seed, *shape]).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(
  'a, b, dims, letters',
  [
    ((5, 6), (6, 7), (((1,), (0,)), ((), ())), 'mk,kn->mn'),
    ((5, 7), (6, 7), (((1,), (1,)), ((), ())), 'mk,nk->mn'),
    ((34, 6), (34, 3, 2, 4), (((0,), (0,)), ((), ())), 'km,kxyz->mxyz'),
    ((34, 2, 4), (34, 6), (((0,), (0,)), ((), ())), 'kxy,kn->xyn'),
    ((5, 2, 4), (2, 4, 6), (((1, 2), (0, 1)), ((), ())), 'mxy,xyn->mn'),
    ((5, 3, 2, 4), (6, 3, 2, 4), (((1, 2, 3), (1, 2, 3)), ((), ())), 'mxyz,nxyz->mn'),
    ((2, 5, 3, 4), (2, 6, 3, 4), (((3,), (3,)), ((0, 2), (0, 2))), 'bnae,btae->bant'),
    ((2, 3, 5, 6), (2, 6, 3, 4), (((3,), (1,)), ((0, 1), (0, 2))), 'bant,btae->bane'),
    ((2, 3, 5, 6), (2, 5, 3, 4), (((2,), (1,)), ((0, 1), (0, 2))), 'bant,bnae->bate'),
    ((3, 2, 5, 6), (2, 5, 3, 4), (((2,), (1,)), ((0, 1), (2, 0))), 'abnt,bnae->abte'),
  ],
)
def test_products_of_a_cpu_with_bfloat16_units(a, b, dims, letters, monkeypatch):
  monkeypatch.setattr(constraints, 'has_bfloat16_units', lambda: True)
  a, b = (random(*shape).astype(jnp.bfloat16) for shape in (a, b))
  # Compiled with the transpose that a caller may have before it, which XLA would put into the dot.
  y = jax.jit(lambda a_T, b: dense.dot(a_T.T, b, dims, jnp.float32))(a.T, b)
  expected = np.einsum(letters, *(np.asarray(x, np.float64) for x in (a, b)))
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)  # exact products, summed in float32


def assert_same_gradients(ours, plain, *args):
  out = plain(*args)
  ct = random(*out.shape, seed=9)
  (y, pull), (expected, plain_pull) = jax.vjp(ours, *args), jax.vjp(plain, *args)
  np.testing.assert_allclose(y, expected, atol=1e-5, rtol=1e-5)
  for grad, expected in zip(pull(ct), plain_pull(ct), strict=True):
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(grad, expected, atol=2e-5 * np.abs(expected).max(), rtol=1e-4)


@pytest.mark.parametrize(
  'rank, x, kernel, letters',
  [
    (1, (2, 5, 6), (6, 7), 'bnd,df->bnf'),
    (1, (2, 5, 6), (6, 3, 2, 4), 'bnd,dsae->bnsae'),
    (2, (2, 5, 2, 4), (2, 4, 6), 'bnae,aed->bnd'),
  ],
)
def test_affine(rank, x, kernel, letters):
  assert_same_gradients(
    lambda x, k, b: dense.affine(x, k, b, rank=rank),
    lambda x, k, b: jnp.einsum(letters, x, k) + b,
    random(*x),
    random(*kernel),
    random(*kernel[rank:]),
  )


def test_layer_norm():
  assert_same_gradients(
    layers.layer_norm,
    lambda x, s, b: reference.layer_norm(x, {'scale': s, 'bias': b}),
    3 * random(2, 5, 16) + 1,
    random(16),
    random(16, seed=1),
  )


@pytest.mark.parametrize('exact', [False, True])
def test_gelu(exact):
  x = 3 * random(40, 5)
  assert np.abs(layers.gelu(x, exact) - layers.gelu(x, not exact)).max() > 1e-4
  assert_same_gradients(
    lambda x: layers.gelu(x, exact), lambda x: jax.nn.gelu(x, approximate=not exact), x
  )


@pytest.mark.parametrize('queries', [7, 1])
def test_xla_attention(queries):
  q, k, v = random(2, queries, 3, 8), random(2, 7, 3, 8, seed=1), random(2, 7, 3, 8, seed=2)
  assert_same_gradients(
    dot_product.xla_attention, lambda q, k, v: reference.attention(q, k, v)[0], 2 * q, k, v
  )


def test_xla_attention_of_extreme_logits():
  q, k, v = 1e3 * random(1, 6, 2, 8), random(1, 6, 2, 8, seed=1), random(1, 6, 2, 8, seed=2)
  grads = jax.grad(lambda *a: dot_product.xla_attention(*a).sum(), argnums=(0, 1, 2))(q, k, v)
  assert all(np.isfinite(grad).all() for grad in grads)


def test_dropped_examples():
  x = jnp.ones((4000, 2, 3))
  y = layers.drop_examples(jax.random.key(0), x, jnp.float32(0.25))
  kept = np.asarray(y).reshape(4000, -1)
  assert np.all(kept == kept[:, :1])  # a whole example at a time
  np.testing.assert_allclose(np.unique(kept), [0, 1 / 0.75], rtol=1e-6)
  assert kept.mean() == pytest.approx(1, abs=0.03)


IMAGES = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
EVERYTHING = dict(
  pool='map',
  registers=1,
  qk_norm=True,
  layerscale=0.1,
  representation=True,
  dropout=0.1,
  stochastic_depth=0.1,
)


def gradient_of(**options):
  model = models.build('Ti/8', 5, **(dict(width=32, depth=2, heads=2, mlp=64) | options))
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, train=False)['params'])
  rng = np.random.default_rng(1)
  params = jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(0.1, 0.2, leaf.shape), jnp.float32), shapes
  )

  def loss(params):
    out = model.apply({'params': params}, IMAGES, train=True, rngs={'dropout': jax.random.key(1)})
    return jnp.sum(jnp.cos(out.logits_BK)) + jnp.sum(out.features_BD)

  return jax.jit(jax.grad(loss)), params


def dot_operands(**options):
  """The element types of all operands of all dots, forward and backward."""
  f, params = gradient_of(**options)
  text = f.lower(params).as_text()
  pairs = re.findall(r'stablehlo\.dot_general.*: \(tensor<([^>]*)>, tensor<([^>]*)>\)', text)
  # At least: stem forward and kernel gradient, a block's 6 and 12 (equal layers are lowered once),
  # the head's 3.
  assert len(pairs) >= 2 + 18 + 3
  return {shape.split('x')[-1] for pair in pairs for shape in pair}


@pytest.mark.parametrize('platform', ['tpu', 'gpu'])
@pytest.mark.parametrize('options', [dict(pool='cls'), EVERYTHING], ids=['plain', 'everything'])
def test_bfloat16_reaches_every_dot_of_an_accelerator(platform, options, trace_for):
  trace_for(platform)
  assert dot_operands(dtype='bfloat16', attention='xla', **options) == {'bf16'}
  assert dot_operands(dtype='float32', **options) == {'f32'}


@pytest.mark.parametrize('units, operands', [(True, 'bf16'), (False, 'f32')])
def test_a_cpu_multiplies_bfloat16_as_its_units_do(units, operands, monkeypatch):
  monkeypatch.setattr(constraints, 'has_bfloat16_units', lambda: units)
  assert dot_operands(dtype='bfloat16') == {operands}
  assert dot_operands(dtype='float32') == {'f32'}


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_strict_promotion_forward_and_backward(dtype):
  with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
    f, params = gradient_of(dtype=dtype, **EVERYTHING)
    grads = jax.eval_shape(f, params)
  assert all(grad.dtype == jnp.float32 for grad in jax.tree.leaves(grads))


@pytest.mark.parametrize('units', [True, False])
def test_bfloat16_is_near_float32_and_not_equal(units, monkeypatch):
  monkeypatch.setattr(constraints, 'has_bfloat16_units', lambda: units)
  outs = {}
  for dtype in ('float32', 'bfloat16'):
    f, params = gradient_of(dtype=dtype, pool='cls')
    outs[dtype] = np.concatenate([np.ravel(x) for x in jax.tree.leaves(f(params))])
  error = np.linalg.norm(outs['bfloat16'] - outs['float32']) / np.linalg.norm(outs['float32'])
  assert 1e-4 < error < 0.03


@pytest.mark.parametrize(
  'tokens, dtype, option, route',
  [
    (16, 'bfloat16', 'auto', 'cudnn'),
    (17, 'bfloat16', 'auto', 'cudnn with lengths'),
    (17, 'float16', 'auto', 'cudnn with lengths'),
    (17, 'float32', 'auto', 'xla'),
    (17, 'bfloat16', 'xla', 'xla'),
    (64, 'bfloat16', 'auto', 'xla'),
    (192, 'bfloat16', 'auto', 'xla'),
    (192, 'bfloat16', 'cudnn', 'cudnn with lengths'),
    (128, 'bfloat16', 'cudnn', 'cudnn'),
  ],
)
def test_routes_on_a_gpu(monkeypatch, tokens, dtype, option, route):
  """cuDNN takes no odd lengths, and those of 64 more than 128 n can give NaN on Hopper."""
  taken = []

  def fake(q, k, v, *, implementation, **lengths):
    assert set(lengths) in (set(), {'query_seq_lengths', 'key_value_seq_lengths'})
    assert q.shape[1] == k.shape[1] == v.shape[1] == tokens + tokens % 2
    if lengths:
      assert (lengths['query_seq_lengths'] == q.shape[1]).all()
      assert (lengths['key_value_seq_lengths'] == tokens).all()
    taken.append(implementation + (' with lengths' if lengths else ''))
    return q

  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  monkeypatch.setattr(jax.nn, 'dot_product_attention', fake)
  monkeypatch.setattr(dot_product, 'cudnn_works', lambda *shape: True)
  q = jnp.ones((1, tokens, 1, 8), dtype)
  dot_product.attend(q, q, q, option)
  assert (taken or ['xla']) == [route]


def test_cudnn_that_fails_is_said_once_and_replaced(monkeypatch, capsys):
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  dot_product.cudnn_works.cache_clear()
  q = random(1, 5, 1, 8).astype(jnp.bfloat16)
  run = jax.jit(lambda q: dot_product.attend(q, q, q, 'auto'))
  expected = jax.jit(lambda q: dot_product.xla_attention(q, q, q))(q)
  np.testing.assert_array_equal(run(q), expected)
  dot_product.attend(q, q, q, 'auto')
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 1 and '5 tokens of 8 in bfloat16: XLA' in lines[0]
  dot_product.cudnn_works.cache_clear()
