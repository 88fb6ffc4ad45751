"""CaiT: parity with a plain second writing, published counts, execution that changes nothing."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from vit_jax import models
from vit_jax.config import Mesh
from vit_jax.errors import UserError
from vit_jax.models import flops
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.trees import flatten

# At 1000 classes: huggingface/pytorch-image-models cait.py; it has no S48, whose millions are in
# arXiv:2103.17239 Table 5.
COUNTS = {
    ('CaiT-XXS24', 224): 11_956_264, ('CaiT-XXS36', 224): 17_299_720,
    ('CaiT-XS24', 384): 26_670_088, ('CaiT-S24', 224): 46_916_200, ('CaiT-S36', 384): 68_366_632,
    ('CaiT-S48', 384): 89_671_144, ('CaiT-M36', 384): 271_221_352, ('CaiT-M48', 448): 356_460_520,
}  # fmt: skip
IMAGES = np.random.default_rng(0).normal(size=(2, 16, 24, 3)).astype(np.float32)
HEADS = 3


def build(**options):
  sizes = dict(width=36, depth=2, heads=HEADS, mlp=64, patch=8)
  return models.build('CaiT-XXS24', 5, **(sizes | options))


def params_of(model):
  """Random, so that no parameter is 0 or 1."""
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES[:1], train=False)['params'])
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(0.1, 0.3, leaf.shape), jnp.float32), shapes
  )


def plain(params, images):
  """(logits, softmax of each layer with talking heads, of each with class attention)."""

  def merge(x, p):
    return jnp.einsum('bnae,aed->bnd', x, p['kernel']) + p['bias']

  def unstacked(tree):
    depth = len(tree['scale1'])
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(depth)]

  def talking_heads(x, p):
    q, k, v = jnp.moveaxis(reference.to_heads(x, p['qkv']), 2, 0)
    scores = jnp.einsum('bnae,btae->bnta', q / np.sqrt(q.shape[-1]), k)
    softmax = jax.nn.softmax(scores @ p['proj_logits']['kernel'] + p['proj_logits']['bias'], axis=2)
    weights = softmax @ p['proj_weights']['kernel'] + p['proj_weights']['bias']
    out = jnp.einsum('bnta,btae->bnae', weights, v)
    return merge(out, p['out']), jnp.moveaxis(softmax, 3, 1)

  def class_attention(x, p):
    q = reference.to_heads(x[:, :1], p['query'])[:, :, 0]
    k, v = jnp.moveaxis(reference.to_heads(x, p['kv']), 2, 0)
    out, weights = reference.attention(q, k, v)
    return merge(out, p['out']), weights

  x = jax.lax.conv_general_dilated(
    images,
    params['embedding']['kernel'],
    (8, 8),
    'VALID',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  x = (x + params['embedding']['bias']).reshape(len(images), -1, x.shape[-1])
  x = x + params['pos_embedding']
  talked, asked = [], []
  for p in unstacked(params['encoder']['blocks']):
    y, weights = talking_heads(reference.layer_norm(x, p['norm1']), p['attention'])
    x = x + p['scale1'] * y
    x = x + p['scale2'] * reference.mlp(reference.layer_norm(x, p['norm2']), p['mlp'], True)
    talked.append(weights)
  c = jnp.tile(params['cls'], (len(images), 1, 1))
  for p in unstacked(params['class_blocks']):
    both = reference.layer_norm(jnp.concatenate([c, x], axis=1), p['norm1'])
    y, weights = class_attention(both, p['attention'])
    c = c + p['scale1'] * y
    c = c + p['scale2'] * reference.mlp(reference.layer_norm(c, p['norm2']), p['mlp'], True)
    asked.append(weights)
  c = reference.layer_norm(c, params['norm'])[:, 0]
  return c @ params['head']['kernel'] + params['head']['bias'], jnp.stack(talked), jnp.stack(asked)


def loss_of(model, train=False):
  def loss(params):
    out = model.apply({'params': params}, IMAGES, train=train, rngs={'dropout': jax.random.key(0)})
    return jnp.sum(jnp.sin(out.logits_BK))

  return loss


@functools.cache
def lowered(train=False, **options):
  model = build(**options)
  return jax.jit(jax.value_and_grad(loss_of(model, train))).lower(params_of(model))


@functools.cache
def loss_and_grad(train=False, **options):
  return lowered(train, **options).compile()(params_of(build(**options)))


def distance(a, b):
  """The largest difference of two trees, in units of their leaf's largest value.

  A leaf far below the others counts as 1 % of the largest: keys' biases change nothing in a class
  attention, and what is computed of their gradient is noise.
  """
  floor = 0.01 * max(np.abs(leaf).max() for leaf in jax.tree.leaves(b))
  rows = jax.tree.map(lambda x, y: np.abs(x - y).max() / max(floor, np.abs(y).max()), a, b)
  return max(jax.tree.leaves(rows))


def test_parity_with_the_equations():
  """Logits, every gradient and the weights of both attentions, on rectangular images."""
  model = build()
  params = params_of(model)
  logits_BK, talked, asked = jax.jit(plain)(params, IMAGES)
  out, sown = jax.jit(
    lambda params: model.apply({'params': params}, IMAGES, train=False, mutable=['intermediates'])
  )(params)
  np.testing.assert_allclose(out.logits_BK, logits_BK, atol=1e-5, rtol=1e-5)
  assert out.tokens_BND.shape == (2, 1 + 6, 36) and model.grid((16, 24)) == (2, 3)
  sown = sown['intermediates']
  weights = sown['encoder']['blocks']['attention']['weights_BANT'][0]
  np.testing.assert_allclose(weights, talked, atol=1e-6, rtol=1e-5)
  weights = sown['class_blocks']['attention']['weights_BANT'][0]
  assert weights.shape == (2, 2, HEADS, 1, 7)
  np.testing.assert_allclose(weights, asked, atol=1e-6, rtol=1e-5)
  grads = jax.jit(jax.grad(lambda params: jnp.sum(jnp.sin(plain(params, IMAGES)[0]))))(params)
  assert distance(loss_and_grad()[1], grads) < 5e-6


@pytest.mark.slow
@pytest.mark.parametrize(
  'options',
  [dict(unroll=False, fused_qkv=False), dict(remat='full'), dict(remat='names', unroll=False)],
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


def test_remat_computes_again():
  none, names, full = (
    lowered(remat=remat).as_text().count('stablehlo.dot_general')
    for remat in ('none', 'names', 'full')
  )
  assert none < names < full


def test_rolled_layers_are_two_loops():
  assert 'stablehlo.while' not in lowered().as_text()
  forward = jax.jit(
    lambda params: build(unroll=False).apply({'params': params}, IMAGES, train=False).logits_BK
  ).lower(params_of(build()))
  assert forward.as_text().count('stablehlo.while') == 2


def test_stochastic_depth_drops_patches_alike_at_every_depth_and_the_class_token_never():
  params = params_of(build())

  @jax.jit
  def logits(params):
    return [
      build(stochastic_depth=rate)
      .apply({'params': params}, IMAGES, train=True, rngs={'dropout': jax.random.key(3)})
      .logits_BK
      for rate in (0.9, 0.0)
    ]

  def differs(params):
    dropped, whole = logits(params)
    return np.abs(dropped - whole).max() > 1e-3

  def silenced(layers):
    blocks = dict(params['encoder']['blocks'])
    for name in ('scale1', 'scale2'):
      blocks[name] = blocks[name].at[jnp.array(layers)].set(0)
    return params | {'encoder': {'blocks': blocks}}

  assert differs(silenced([0])) and differs(silenced([1])) and not differs(silenced([0, 1]))


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_strict_promotion_forward_and_backward(dtype):
  with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
    model = build(dtype=dtype, dropout=0.1, stochastic_depth=0.1)
    grads = jax.eval_shape(jax.grad(loss_of(model, train=True)), params_of(model))
  assert all(grad.dtype == jnp.float32 for grad in jax.tree.leaves(grads))


@pytest.mark.parametrize('platform', ['tpu', 'gpu'])
def test_bfloat16_reaches_every_dot_of_an_accelerator_but_those_between_logits(platform, trace_for):
  trace_for(platform)
  model = build(dtype='bfloat16')
  f = jax.jit(jax.grad(loss_of(model, train=True)))
  text = f.lower(params_of(model)).as_text()
  pairs = re.findall(r'stablehlo\.dot_general.*: \(tensor<([^>]*)>, tensor<([^>]*)>\)', text)
  assert len(pairs) > 30
  wide = [pair for pair in pairs if any(shape.endswith('f32') for shape in pair)]
  # The logits are mixed before the softmax, once forward and twice backward: (A, A) and (A, BNT).
  mixes = {f'{HEADS}x{HEADS}xf32', f'{HEADS}x{2 * 6 * 6}xf32'}
  assert wide and {shape for pair in wide for shape in pair} == mixes


def test_bfloat16_is_near_float32_and_not_equal():
  params = params_of(build())
  outs = [
    jax.jit(build(dtype=dtype, unroll=False).apply, static_argnames='train')(
      {'params': params}, IMAGES, train=False
    ).logits_BK
    for dtype in ('float32', 'bfloat16')
  ]
  assert 1e-4 < np.linalg.norm(outs[1] - outs[0]) / np.linalg.norm(outs[0]) < 0.05


@pytest.mark.parametrize('name, pixels', COUNTS)
def test_published_counts(name, pixels):
  model = models.build(name, 1000)
  assert flops.count_parameters(model, (pixels, pixels, 3)) == COUNTS[name, pixels]
  layers = int(name[-2:])
  o = model.options
  assert (o.depth, o.class_depth, o.width // o.heads) == (layers, 2, 48)
  # arXiv:2103.17239; for XXS36 its code, facebookresearch/deit cait_models.py.
  assert o.layerscale == (1e-5 if layers == 24 or name == 'CaiT-XXS36' else 1e-6)


def test_every_cait_is_in_the_table():
  assert {name for name, _ in COUNTS} == {name for name in models.MODELS if 'CaiT' in name}


def test_every_large_leaf_is_sharded():
  mesh = meshes.make_mesh(Mesh(2, 2, 2))
  model = models.build('CaiT-M36', 1000)
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), jnp.zeros((1, 384, 384, 3)), train=False)['params']
  )
  specs = {name: sharding.spec for name, sharding in flatten(rules.shardings(shapes, mesh)).items()}
  ways = {
    name: leaf.size // np.prod(specs_shape(specs[name], leaf.shape, mesh))
    for name, leaf in flatten(shapes).items()
    if leaf.size > 1 << 18
  }
  assert len(ways) >= 11 and set(ways.values()) <= {2, 4}
  assert ways['class_blocks/attention/query/kernel'] == ways['class_blocks/mlp/down/kernel'] == 4


def specs_shape(spec, shape, mesh):
  return jax.sharding.NamedSharding(mesh, spec).shard_shape(shape)


@pytest.mark.parametrize(
  'name, options, words',
  [
    ('CaiT-XXS42', {}, "did you mean 'CaiT-XXS24'"),
    ('CaiT-XXS24/16', {}, 'is unknown'),
    ('CaiT-S24', dict(pool='mean'), 'model.pool is not a key'),
    ('CaiT-S24', dict(heads=7), 'heads is 7, which does not divide width 384'),
    ('CaiT-S24', dict(layerscale=0.0), 'layerscale is 0.0; it must be at least 1e-09'),
  ],
)
def test_wrong_names_and_options(name, options, words):
  with pytest.raises(UserError, match=words):
    models.build(name, 10, **options)
