"""DeiT, DeiT III and DINOv2: what their names stand for, against a plain second writing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.models import flops, layers
from vit_jax.models.names import IMAGENET_MEAN, IMAGENET_STD

# At 1000 classes and 224 pixels: huggingface/pytorch-image-models deit.py.
COUNTS = {
    'DeiT-Ti/16': 5_717_416, 'DeiT-S/16': 22_050_664, 'DeiT-B/16': 86_567_656,
    'DeiT-Ti/16-distilled': 5_910_800, 'DeiT-S/16-distilled': 22_436_432,
    'DeiT-B/16-distilled': 87_338_192, 'DeiT3-S/16': 22_059_496, 'DeiT3-M/16': 38_849_512,
    'DeiT3-B/16': 86_585_320, 'DeiT3-L/16': 304_374_760, 'DeiT3-H/14': 632_126_440,
}  # fmt: skip
# Without a head at 518 pixels: width, and the count of the files at huggingface.co/facebook
# (dinov2-small and so on), which hold a mask token of that width too, used in pretraining only.
DINOV2 = {
    'DINOv2-S/14': (384, 22_056_576), 'DINOv2-B/14': (768, 86_580_480),
    'DINOv2-L/14': (1024, 304_368_640), 'DINOv2-g/14': (1536, 1_136_480_768),
}  # fmt: skip
IMAGES = np.random.default_rng(0).normal(size=(2, 16, 24, 3)).astype(np.float32)
SMALL = dict(width=32, depth=2, heads=2, mlp=48)
FAMILIES = (
  'DeiT-S/8',
  'DeiT-S/8-distilled',
  'DeiT3-B/8',
  'DINOv2-S/8',
  'DINOv2-S/8-reg4',
  'DINOv2-g/8-reg4',
)
OFTEN = ('DeiT-S/8-distilled', 'DeiT3-B/8', 'DINOv2-g/8-reg4')  # all that the families have


def build(name, num_classes=5, **options):
  return models.build(name, num_classes, **(SMALL | options))


def params_of(model):
  """Random, so that no parameter is 0 or 1."""
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES[:1], train=False)['params'])
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(0.1, 0.2, leaf.shape), jnp.float32), shapes
  )


def plain(params, *, distilled, posemb_class, registers):
  """All tokens after the last LayerNorm, and the logits of each head."""

  def swiglu(x, p):
    h = jax.nn.silu(x @ p['gate']['kernel'] + p['gate']['bias'])
    h = h * (x @ p['up']['kernel'] + p['up']['bias'])
    return h @ p['down']['kernel'] + p['down']['bias']

  def block(x, p):
    if 'gate' not in p['mlp']:
      return reference.block(x, p, exact=True)[0]
    silent = p | {'mlp': jax.tree.map(jnp.zeros_like, p['mlp'])}
    x = reference.block(x, silent)[0]
    return x + p['scale2'] * swiglu(reference.layer_norm(x, p['norm2']), p['mlp'])

  x = jax.lax.conv_general_dilated(
    IMAGES,
    params['embedding']['kernel'],
    (8, 8),
    'VALID',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  x = (x + params['embedding']['bias']).reshape(len(IMAGES), -1, x.shape[-1])
  first = ['cls', 'dist'] if distilled else ['cls']
  tokens = [jnp.tile(params[name], (len(IMAGES), 1, 1)) for name in first]
  table = params['pos_embedding']
  assert table.shape[1] == 6 + (len(first) if posemb_class else 0)
  if posemb_class:
    x = jnp.concatenate([*tokens, x], axis=1) + table
  else:
    x = jnp.concatenate([*tokens, x + table], axis=1)
  if registers:
    extra = jnp.tile(params['registers'], (len(IMAGES), 1, 1))
    x = jnp.concatenate([x[:, : len(first)], extra, x[:, len(first) :]], axis=1)
  blocks = params['encoder']['blocks']
  for layer in range(2):
    x = block(x, jax.tree.map(lambda leaf, i=layer: leaf[i], blocks))
  x = reference.layer_norm(x, params['encoder']['norm'])
  heads = [params[name] for name in ('head', 'head_dist') if name in params]
  return x, [x[:, i] @ p['kernel'] + p['bias'] for i, p in enumerate(heads)]


@functools.cache
def loss_and_grad(name, **options):
  model = build(name, **options)

  def loss(params):
    out = model.apply({'params': params}, IMAGES, train=False)
    return jnp.sum(jnp.sin(out.logits_BK)), out

  return jax.jit(jax.value_and_grad(loss, has_aux=True))(params_of(model))


def assert_near(grads, expected, tolerance=5e-6):
  """Relative to each leaf's largest value, or to 1 % of the largest of all."""
  floor = 0.01 * max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(
      x, y, rtol=0, atol=tolerance * max(floor, np.abs(y).max())
    ),
    grads,
    expected,
  )


@pytest.mark.parametrize(
  'name',
  [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES],
)
def test_parity_with_the_equations(name):
  """Tokens, logits and every gradient, on rectangular images."""
  distilled, registers = 'distilled' in name, 4 if 'reg4' in name else 0
  posemb_class = name.startswith('DeiT-') or name == 'DINOv2-S/8'

  def reference_loss(params):
    tokens, logits = plain(
      params, distilled=distilled, posemb_class=posemb_class, registers=registers
    )
    assert len(logits) == 1 + distilled
    logits_BK = sum(logits) / len(logits)
    return jnp.sum(jnp.sin(logits_BK)), (tokens, logits_BK)

  params = params_of(build(name))
  grads, (tokens, logits_BK) = jax.jit(jax.grad(reference_loss, has_aux=True))(params)
  (_, out), our_grads = loss_and_grad(name)
  np.testing.assert_allclose(out.tokens_BND, tokens, atol=1e-5, rtol=1e-5)
  np.testing.assert_allclose(out.logits_BK, logits_BK, atol=1e-5, rtol=1e-5)
  assert out.distill_logits_BK is None
  seen = tokens[:, :2].mean(1) if distilled else tokens[:, 0]
  np.testing.assert_allclose(out.features_BD, seen, atol=1e-5, rtol=1e-5)
  assert_near(our_grads, grads)


@pytest.mark.parametrize('name', ['DeiT-S/8-distilled', 'DINOv2-g/8-reg4'])
@pytest.mark.parametrize(
  'options',
  [
    dict(unroll=False, remat='names'),
    *(
      pytest.param(options, marks=pytest.mark.slow)
      for options in (dict(unroll=False), dict(remat='full'), dict(remat='names'))
    ),
  ],
  ids=str,
)
def test_execution_changes_no_number(name, options):
  (loss, _), grads = loss_and_grad(name)
  (other_loss, _), other_grads = loss_and_grad(name, **options)
  assert float(loss) == pytest.approx(float(other_loss), rel=1e-6)
  assert_near(other_grads, grads)


def test_two_heads_in_training_and_their_mean_in_evaluation():
  model = build('DeiT-S/8-distilled')
  params = params_of(model)
  run = jax.jit(model.apply, static_argnames='train')
  train, judged = (run({'params': params}, IMAGES, train=train) for train in (True, False))
  assert np.abs(train.logits_BK - train.distill_logits_BK).max() > 0.1
  np.testing.assert_allclose(
    judged.logits_BK, (train.logits_BK + train.distill_logits_BK) / 2, rtol=1e-5, atol=1e-6
  )
  headless = {'params': {name: leaf for name, leaf in params.items() if 'head' not in name}}
  out = jax.eval_shape(lambda: build('DeiT-S/8-distilled', 0).apply(headless, IMAGES, train=True))
  assert out.logits_BK is out.distill_logits_BK is None and out.features_BD.shape == (2, 32)


@pytest.mark.parametrize('name', FAMILIES)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_strict_promotion_forward_and_backward(name, dtype):
  with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
    model = build(name, dtype=dtype, dropout=0.1, stochastic_depth=0.1)

    def loss(params):
      out = model.apply({'params': params}, IMAGES, train=True, rngs={'dropout': jax.random.key(0)})
      return jnp.sum(out.logits_BK) + jnp.sum(out.features_BD)

    grads = jax.eval_shape(jax.grad(loss), params_of(model))
  assert all(grad.dtype == jnp.float32 for grad in jax.tree.leaves(grads))


def test_swiglu_gradient():
  gate, up, ct = 2 * np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
  y, pull = jax.vjp(layers.swiglu, gate, up)
  expected, plain_pull = jax.vjp(lambda gate, up: jax.nn.silu(gate) * up, gate, up)
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
  for grad, wanted in zip(pull(ct), plain_pull(ct), strict=True):
    np.testing.assert_allclose(grad, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', COUNTS)
def test_published_counts(name):
  assert flops.count_parameters(models.build(name, 1000), (224, 224, 3)) == COUNTS[name]


@pytest.mark.parametrize('name', DINOV2)
def test_published_counts_of_dinov2(name):
  width, count = DINOV2[name]
  image = 518, 518, 3
  assert flops.count_parameters(models.build(name, 0), image) == count - width
  # Four registers, and no position for the class token.
  assert flops.count_parameters(models.build(f'{name}-reg4', 0), image) == count + 2 * width


def test_every_name_is_in_a_table():
  bases = {name for name in models.MODELS if name.startswith(('DeiT', 'DINO'))}
  assert {name.split('/')[0] for name in COUNTS | DINOV2} == bases


def test_what_the_names_stand_for():
  deit, deit3 = models.options_of('DeiT-S/16'), models.options_of('DeiT3-L/16')
  assert deit.exact_gelu and deit.posemb_class and not deit.layerscale and not deit.distilled
  assert deit3.exact_gelu and deit3.layerscale == 1e-4 and not deit3.posemb_class
  assert deit3.stochastic_depth_rule == 'constant' and deit.stochastic_depth_rule == 'linear'
  giant = models.options_of('DINOv2-g/14-reg4')
  assert (giant.width, giant.depth, giant.heads, giant.mlp) == (1536, 40, 24, 4096)
  assert (giant.mlp_kind, giant.registers, giant.layerscale) == ('swiglu', 4, 1e-5)
  assert models.build('DeiT3-S/16', 10, layerscale=0.1).options.layerscale == 0.1
  for base, size in (('DeiT-B', 224), ('DeiT3-H', 224), ('DINOv2-B', 518)):
    inputs = models.MODELS[base].inputs
    assert (inputs.size, inputs.mean, inputs.std) == ((size, size), IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize(
  'name, options, words',
  [
    ('DeiT-S/16-distiled', {}, "did you mean 'DeiT-S/16-distilled'"),
    ('DeiT3-S/16-distilled', {}, 'is unknown'),
    ('DINOv2-S', {}, 'as in DINOv2-S/14'),
    ('DeiT-S/16-distilled', dict(pool='mean'), "pool is 'mean', but a distilled model has 'cls'"),
    ('S/16', dict(distilled=True, representation=True), 'representation is True, but a distilled'),
    ('S/16', dict(mlp_kind='glu'), "mlp_kind is 'glu'; it must be one of: gelu, relu, swiglu"),
  ],
)
def test_wrong_names_and_options(name, options, words):
  with pytest.raises(UserError, match=words):
    models.build(name, 10, **options)
