"""Hybrids: published counts, composition of two references, patches of the feature map."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from reference_resnet import plain_hybrid_map, random_variables

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.models import flops

# At 1000 classes and 224 pixels: google-research/vision_transformer, vit_jax/models_test.py.
COUNTS = {
  'R+Ti/16': 6_337_704,
  'R26+S/32': 36_431_912,
  'R26+B/32': 101_383_976,
  'R50+B/16': 98_659_112,
  'R50+L/32': 328_994_856,
}
TINY = dict(stages=(1, 1), resnet_width=32, width=32, depth=2, heads=2, mlp=64)
IMAGES = np.random.default_rng(0).normal(size=(2, 32, 48, 3)).astype(np.float32)


@pytest.mark.parametrize('name', COUNTS)
def test_published_counts(name):
  assert flops.count_parameters(models.build(name, 1000), (224, 224, 3)) == COUNTS[name]


@pytest.mark.parametrize(
  'name, size, grid',
  [
    ('R+Ti/16', 224, (7, 7)),
    ('R26+S/32', 384, (12, 12)),
    ('R50+B/16', 224, (14, 14)),
    ('R50+B/32', 224, (7, 7)),
    ('R50+L/32', 224, (7, 7)),
  ],
)
def test_tokens_of_an_image(name, size, grid):
  assert models.build(name, 10).grid((size, size)) == grid


@pytest.mark.parametrize(
  'name, options',
  [
    ('R26+S/8', {}),
    ('R26+S/16', {}),
    ('R26+S/8', dict(stages=(), pool='mean')),
    ('R26+S/4', dict(stages=[2], posemb='sincos2d')),
  ],
  ids=str,
)
def test_parity_with_a_resnet_and_a_vit(name, options):
  """Logits of both references, one after the other; images are rectangles."""
  options = TINY | options
  model = models.build(name, 5, **options)
  params = random_variables(model, IMAGES)['params']
  out = jax.jit(functools.partial(model.apply, train=False))({'params': params}, IMAGES)
  embedding = params['embedding']
  below = plain_hybrid_map(embedding['resnet'], np.float64(IMAGES), options['stages'])
  positions = None
  if options.get('posemb') == 'sincos2d':
    from vit_jax.models.embedding import sincos2d

    positions = sincos2d(*model.grid((32, 48)), 32)
  expected, _ = reference.vit(
    {**params, 'embedding': {name: embedding[name] for name in ('kernel', 'bias')}},
    jnp.asarray(below, jnp.float32),
    patch=embedding['kernel'].shape[0],
    pool=options.get('pool', 'cls'),
    positions=positions,
  )
  assert np.std(expected) > 0.05
  np.testing.assert_allclose(out.logits_BK, expected, atol=5e-5)
  rows, columns = model.grid((32, 48))
  assert out.tokens_BND.shape == (2, rows * columns + ('pool' not in options), 32)


def test_the_two_epsilons():
  """They differ where kernels are small, as after long training with weight decay."""
  ours, timms = (
    models.build('R26+S/8', 5, **TINY, weight_epsilon=kind) for kind in ('std', 'variance')
  )
  variables = random_variables(ours, IMAGES)
  small = jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaf * 1e-3 if 'resnet' in str(path) and leaf.ndim == 4 else leaf, variables
  )
  for tree, low, high in ((variables, 0, 1e-4), (small, 5e-4, 1)):
    out = [
      jax.jit(functools.partial(model.apply, train=False))(tree, IMAGES).features_BD
      for model in (ours, timms)
    ]
    assert low < np.abs(out[0] - out[1]).max() < high


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_strict_promotion_forward_and_backward(dtype):
  model = models.build('R26+S/16', 5, **TINY, dtype=dtype, dropout=0.1)
  variables = random_variables(model, IMAGES)

  def loss(params):
    out = model.apply({'params': params}, IMAGES, train=True, rngs={'dropout': jax.random.key(0)})
    assert out.tokens_BND.dtype == dtype and out.logits_BK.dtype == jnp.float32
    return jnp.sum(jnp.sin(out.logits_BK))

  with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
    grads = jax.eval_shape(jax.grad(loss), variables['params'])
  assert all(grad.dtype == jnp.float32 for grad in jax.tree.leaves(grads))


@pytest.mark.parametrize(
  'name, options, words',
  [
    ('R50+B/8', {}, 'patch is 8, which does not fit a ResNet of 3 stages.* is 16'),
    ('R50+B/24', {}, 'the nearest patch that does is 32'),
    ('R50+B', {}, 'lacks a patch size in pixels, as in R50\\+B/16'),
    ('R26+M/32', {}, "did you mean .*'R26\\+"),
    ('R26+S/32', dict(resnet_width=48), 'resnet_width is 48; it must be a multiple of 32'),
    ('R26+S/32', dict(stages=(2, 0)), r'stages\[1\] is 0; it must be at least 1'),
    ('R26+S/32', dict(weight_epsilon='timm'), 'it must be one of: std, variance'),
    ('R26+S/32', dict(stage=(2,)), "model.stage is not a key; did you mean 'stages'"),
  ],
)
def test_wrong_names_and_options(name, options, words):
  with pytest.raises(UserError, match=words):
    models.build(name, 10, **options)


def test_image_that_patches_do_not_tile():
  model = models.build('R26+S/16', 10, **TINY)  # 2x2 places of a map of stride 8
  with pytest.raises(
    UserError,
    match='40x32 pixels give a feature map of 5x4, which does not '
    'divide into patches of 2x2; 32x32 would',
  ):
    model.init(jax.random.key(0), jnp.zeros((1, 40, 32, 3)), train=False)
