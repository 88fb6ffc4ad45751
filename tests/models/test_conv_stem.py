"""The convolutional stem of a ViT."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.trees import flatten

KEYS = dict(width=32, depth=1, heads=2, mlp=64)


def build(name: str = 'Ti/8', **options):
  return models.build(name, 3, **KEYS, **options)


def test_parameters_and_tokens():
  model = build(conv_stem=(4, 6))
  assert model.grid((24, 40)) == (3, 5)
  shapes = flatten(models.variable_shapes(model, (24, 40, 3))['params'])
  embedding = {
    name.removeprefix('embedding/'): leaf.shape
    for name, leaf in shapes.items()
    if name.startswith('embedding/')
  }
  assert embedding == {
    'conv1/kernel': (3, 3, 3, 4),
    'conv1/bias': (4,),
    'conv2/kernel': (3, 3, 4, 6),
    'conv2/bias': (6,),
    'kernel': (2, 2, 6, 32),
    'bias': (32,),
  }
  assert shapes['pos_embedding'].shape == (1, 1 + 15, 32)


def test_parity_with_convolutions_written_out():
  """By loops over places: 3x3 pixels around every second one, a GELU, then the patch."""
  stem = build(conv_stem=(4,)).make_stem()
  images_BHWC = jax.random.normal(jax.random.key(0), (1, 16, 16, 3))
  params = jax.tree.map(lambda leaf: leaf + 0.1, stem.init(jax.random.key(1), images_BHWC, True))
  tree = params['params']
  padded = np.pad(images_BHWC[0], ((1, 1), (1, 1), (0, 0)))
  map_HWC = np.zeros((8, 8, 4), np.float32)
  for i, j in np.ndindex(8, 8):
    window = padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
    map_HWC[i, j] = np.einsum('hwc,hwcd->d', window, tree['conv1']['kernel'])
  map_HWC = np.asarray(jax.nn.gelu(map_HWC + tree['conv1']['bias'][None, None]))
  tokens = [
    np.einsum('hwc,hwcd->d', map_HWC[i : i + 4, j : j + 4], tree['kernel']) + tree['bias']
    for i in (0, 4)
    for j in (0, 4)
  ]
  np.testing.assert_allclose(
    stem.apply(params, images_BHWC, True).reshape(4, 32), tokens, atol=1e-5
  )


def test_bfloat16_reaches_the_convolutions():
  model = build(conv_stem=(4, 6, 8), dtype='bfloat16')
  shapes = models.variable_shapes(model, (16, 16, 3))
  images_BHWC = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
  jaxpr = jax.make_jaxpr(lambda variables, images: model.apply(variables, images, train=False))(
    shapes, images_BHWC
  )
  convolutions = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == 'conv_general_dilated']
  assert len(convolutions) == 3
  assert all(var.aval.dtype == jnp.bfloat16 for eqn in convolutions for var in eqn.invars)


@pytest.mark.parametrize(
  'name, options, words',
  [
    ('Ti/6', dict(conv_stem=(4, 6)), 'a multiple of 4, not 6'),
    ('Ti/8', dict(conv_stem=(0,)), 'conv_stem[0] is 0; it must be at least 1'),
    ('Ti/8', dict(conv_stem=4), 'conv_stem is 4; it must be several numbers'),
    ('R+Ti/4', dict(conv_stem=(4,)), 'model.conv_stem is not a key'),
  ],
)
def test_mistakes_get_a_sentence(name, options, words):
  with pytest.raises(UserError) as error:
    build(name, **options)
  assert words in str(error.value)


def test_images_that_patches_do_not_tile():
  with pytest.raises(UserError, match='20x16 pixels do not divide into patches of 8x8'):
    build(conv_stem=(4,)).grid((20, 16))
