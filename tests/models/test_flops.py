"""Multiply-accumulates counted from jaxprs, against closed forms and published figures."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from vit_jax import models
from vit_jax.models import flops

TINY = dict(width=32, depth=3, heads=2, mlp=64)


def closed_form(model, height: int, width: int, kept: float = 1.0, train: bool = False) -> int:
  """Of a ViT, from arXiv:2010.11929 equations 1 to 4.

  In training, the last layer computes only keys and values of tokens that the head does not read.
  """
  o = model.options
  P, D, F = o.patch, o.width, o.mlp
  patches = (height // P) * (width // P)
  macs = patches * P * P * 3 * D
  patches = round(kept * patches)
  N = patches + o.registers + (o.pool == 'cls')
  macs += o.depth * (N * (4 * D * D + 2 * D * F) + 2 * N * N * D)
  if train and o.pool == 'cls' and o.unroll:
    macs -= (N - 1) * (2 * D * D + 2 * D * F + 2 * N * D)
  if o.pool == 'map':  # keys and values of every patch; one query, one output, one MLP
    macs += 2 * patches * D * D + 2 * patches * D + 2 * D * D + 2 * D * F
  return macs + o.representation * D * D + D * model.num_classes


@pytest.mark.parametrize(
  'name, pixels', [('Ti/16', 224), ('B/16', 384), ('L/32', 384), ('H/14', 224), ('So400m/14', 224)]
)
def test_full_size(name, pixels):
  model = models.build(name, 1000)
  assert flops.forward_macs(model, (pixels, pixels, 3)) == closed_form(model, pixels, pixels)


@pytest.mark.parametrize(
  'options',
  [
    {},
    dict(pool='map'),
    dict(pool='mean', posemb='sincos2d'),
    dict(registers=4),
    dict(representation=True),
    dict(qk_norm=True, fused_qkv=False),
    dict(layerscale=1e-4),
    dict(unroll=True),
    dict(unroll=False),
    dict(remat='full'),
    dict(dtype='bfloat16'),
    dict(dtype='float16'),
    dict(attention='cudnn', dtype='bfloat16'),
  ],
  ids=str,
)
def test_options(options):
  model = models.build('Ti/8', 5, **TINY, **options)
  expected = closed_form(model, 32, 16)
  assert flops.forward_macs(model, (32, 16, 3)) == expected
  expected = closed_form(model, 32, 16, train=True)
  assert flops.forward_macs(model, (32, 16, 3), train=True) == expected


def test_patches_that_training_leaves_away():
  model = models.build('Ti/8', 5, **TINY, patch_dropout=0.5, stochastic_depth=0.1, dropout=0.1)
  assert flops.forward_macs(model, (32, 32, 3)) == closed_form(model, 32, 32)
  trained = flops.forward_macs(model, (32, 32, 3), train=True)
  assert trained == closed_form(model, 32, 32, kept=0.5, train=True)


def count(function, *shapes) -> int:
  arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
  return flops.jaxpr_macs(jax.make_jaxpr(function)(*arrays).jaxpr)


@pytest.mark.parametrize(
  'groups, stride, dilation, out',
  [(1, 1, 1, (10, 8)), (1, 2, 1, (5, 4)), (4, 1, 1, (10, 8)), (8, 2, 2, (5, 4))],
)
def test_convolutions(groups, stride, dilation, out):
  def convolve(x_BHWC, kernel):
    y = lax.conv_general_dilated(
      x_BHWC,
      kernel,
      (stride, stride),
      'SAME',
      rhs_dilation=(dilation, dilation),
      feature_group_count=groups,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    assert y.shape == (2, *out, 16)
    return y

  macs = count(convolve, (2, 10, 8, 8), (3, 5, 8 // groups, 16))
  assert macs == 2 * out[0] * out[1] * 16 * 3 * 5 * 8 // groups


def test_batched_products():
  assert (
    count(lambda a, b: jnp.einsum('bnae,btae->bant', a, b), (2, 7, 3, 5), (2, 9, 3, 5))
    == 2 * 3 * 7 * 9 * 5
  )


PRODUCT = 4 * 4 * 4


def square(x):
  return x @ x


def twice(x):
  return square(x) + x @ x.T


def with_rule():
  rule = jax.custom_vjp(square)
  rule.defvjp(lambda x: (square(x), x), lambda x, dy: (dy,))
  return rule


@pytest.mark.parametrize(
  'function, products',
  [
    (jax.jit(twice), 2),
    (jax.checkpoint(twice), 2),
    (with_rule(), 1),
    (jax.nn.relu, 0),  # a custom_jvp
    (lambda x: lax.scan(lambda x, _: (twice(x), None), x, length=5)[0], 10),
    (lambda x: lax.fori_loop(0, 3, lambda _, x: square(x), x), 3),
    (lambda x: lax.cond(x[0, 0] > 0, square, twice, x), 2),
    (lambda x: lax.platform_dependent(x, cpu=twice, default=square), 2),
    (lambda x: lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x + 1, x), 0),
    (lambda x: lax.scan(lambda x, _: (jax.jit(with_rule())(x), None), x, length=5)[0], 5),
  ],
  ids=[
    'jit',
    'remat',
    'custom_vjp',
    'custom_jvp',
    'scan',
    'fori_loop',
    'cond',
    'platform',
    'while',
    'nested',
  ],
)
def test_calls(function, products):
  assert count(function, (4, 4)) == products * PRODUCT


def test_a_loop_of_unknown_length_is_not_guessed():
  with pytest.raises(ValueError, match='unknown length'):
    count(lambda x: lax.while_loop(lambda x: x[0, 0] < 9, square, x), (4, 4))
