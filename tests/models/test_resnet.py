"""ResNet and BiT: published counts, a plain second implementation, BatchNorm's two lives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_resnet import IMAGES, conv, group_norm, plain_bit, plain_resnet, random_variables

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.models import flops
from vit_jax.models.norms import BatchNorm, Conv, GroupNorm, standardize

# Parameters at 1000 classes: pytorch/vision models/resnet.py; for BiT timm resnetv2.py.
COUNTS = {
  'ResNet-18': 11_689_512,
  'ResNet-34': 21_797_672,
  'ResNet-50': 25_557_032,
  'ResNet-101': 44_549_160,
  'ResNet-152': 60_192_808,
  'BiT-R50x1': 25_549_352,
  'BiT-R50x3': 217_319_080,
  'BiT-R101x1': 44_541_480,
  'BiT-R101x3': 387_934_888,
  'BiT-R152x2': 236_335_208,
  'BiT-R152x4': 936_533_224,
}
# Without normalization: pytorch/vision models/resnet.py, _ops of each entry.
GMACS = {
  'ResNet-18': 1.814,
  'ResNet-34': 3.664,
  'ResNet-50': 4.089,
  'ResNet-101': 7.801,
  'ResNet-152': 11.514,
}
TINY = dict(stages=(2, 1), width=32)


@pytest.mark.parametrize('name', COUNTS)
def test_published_counts(name):
  assert flops.count_parameters(models.build(name, 1000), (224, 224, 3)) == COUNTS[name]


@pytest.mark.parametrize('name', GMACS)
def test_published_macs(name):
  macs = flops.forward_macs(models.build(name, 1000), (224, 224, 3))
  assert macs / 1e9 == pytest.approx(GMACS[name], abs=5e-4)


@pytest.mark.parametrize('name', ['ResNet-18', 'ResNet-50', 'BiT-R50x1'])
def test_parity_with_a_plain_implementation(name):
  model = models.build(name, 5, **TINY)
  variables = random_variables(model)
  out = jax.jit(functools.partial(model.apply, train=False))(variables, IMAGES)
  if name.startswith('BiT'):
    expected = plain_bit(variables, IMAGES, TINY['stages'])
  else:
    expected = plain_resnet(variables, IMAGES, model.options.block, TINY['stages'])
  assert expected.std() > 0.1
  np.testing.assert_allclose(out.logits_BK, expected, atol=1e-4 * np.abs(expected).max())
  rows, columns = model.grid(IMAGES.shape[1:3])
  assert (rows, columns) == (5, 5) and out.tokens_BND.shape[:2] == (3, 25)
  np.testing.assert_allclose(out.features_BD, np.mean(out.tokens_BND, axis=1), atol=1e-5)


def test_running_statistics_follow_the_batches():
  """Against the moments of each batch by numpy; a masked row counts nowhere."""
  norm, rng = BatchNorm(1e-5), np.random.default_rng(0)
  variables = norm.init(jax.random.key(0), np.zeros((1, 4, 3, 6), np.float32), train=False)
  mean, var = np.zeros(6), np.ones(6)
  mask = np.array([True, True, False, True])
  for step in range(3):
    x = rng.normal(5 + step, 2, (4, 4, 3, 6)).astype(np.float32)
    counted = np.float64(x[mask]).reshape(-1, 6)
    x[~mask] = 1e6
    y, updated = norm.apply(variables, x, train=True, mask_B=mask, mutable=['batch_stats'])
    mean = 0.9 * mean + 0.1 * counted.mean(0)
    var = 0.9 * var + 0.1 * counted.var(0, ddof=1)
    expected = (x[mask] - counted.mean(0)) / np.sqrt(counted.var(0) + 1e-5)
    np.testing.assert_allclose(np.asarray(y)[mask], expected, atol=1e-5)
    variables = {**variables, **updated}
    np.testing.assert_allclose(variables['batch_stats']['mean'], mean, rtol=1e-5)
    np.testing.assert_allclose(variables['batch_stats']['var'], var, rtol=1e-5)
  y = norm.apply(variables, x, train=False)
  np.testing.assert_allclose(np.asarray(y)[mask], (x[mask] - mean) / np.sqrt(var + 1e-5), rtol=1e-4)
  unchanged = norm.apply(
    variables, x, train=True, mask_B=np.zeros(4, bool), mutable=['batch_stats']
  )[1]
  jax.tree.map(np.testing.assert_array_equal, unchanged['batch_stats'], variables['batch_stats'])


def test_moments_far_from_zero_keep_their_digits():
  """Once the running mean is near: a sum of plain squares would be wrong by its own size."""
  norm = BatchNorm(1e-5)
  x = np.random.default_rng(0).normal(1e4, 1, (8, 16, 16, 2)).astype(np.float32)
  variables = norm.init(jax.random.key(0), x[:1], train=False)
  near = {'batch_stats': {'mean': jnp.full(2, 9_999.0), 'var': jnp.ones(2)}}
  y = norm.apply({**variables, **near}, x, train=True)
  np.testing.assert_allclose(np.std(y, axis=(0, 1, 2)), 1, rtol=1e-3)


def test_gradient_of_a_masked_batch_is_that_of_the_short_one():
  model = models.build('ResNet-18', 5, **TINY)
  variables = random_variables(model)

  def grads(images, mask):
    def loss(params):
      out, _ = model.apply(
        {**variables, 'params': params}, images, train=True, mask_B=mask, mutable=['batch_stats']
      )
      return jnp.sum(jnp.where(mask[:, None], jnp.sin(out.logits_BK), 0))

    return jax.jit(jax.grad(loss))(variables['params'])

  padded = np.concatenate([IMAGES, 9 * IMAGES[:1]])
  full, masked = grads(IMAGES, np.ones(3, bool)), grads(padded, np.arange(4) < 3)
  for a, b in zip(jax.tree.leaves(full), jax.tree.leaves(masked), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-4 * max(1e-2, np.abs(a).max()))


@pytest.mark.parametrize('inside, outside', [(1e-8, 0.0), (0.0, 1e-5)])
def test_standardized_filters(inside, outside):
  """Mean 0 and variance 1; small kernels tell the two epsilons apart."""
  kernel = np.random.default_rng(0).normal(3, 2, (3, 3, 8, 5)).astype(np.float32)
  out = np.asarray(standardize(kernel, inside, outside))
  np.testing.assert_allclose(out.mean((0, 1, 2)), 0, atol=1e-6)
  np.testing.assert_allclose(out.std((0, 1, 2)), 1, rtol=1e-4)
  small = kernel * 1e-4 / kernel.std((0, 1, 2))
  expected = np.sqrt(1 / 2) if inside else 1 / 1.1
  np.testing.assert_allclose(
    np.asarray(standardize(small, inside, outside)).std((0, 1, 2)), expected, rtol=1e-3
  )


def test_same_padding_differs_from_symmetric_at_stride_2_only():
  x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
  for stride in (1, 2):
    outs = []
    for padding in (1, 'SAME'):
      layer = Conv(4, 3, stride, padding, jnp.float32, jax.nn.initializers.normal(1.0))
      variables = layer.init(jax.random.key(0), x)
      outs.append(layer.apply(variables, x))
      plain = conv(x, variables['params']['kernel'], stride, same=padding == 'SAME')
      np.testing.assert_allclose(outs[-1], plain, atol=1e-5)
    assert np.allclose(*outs, atol=1e-5) == (stride == 1)


def test_group_norm_is_by_example():
  norm = GroupNorm(1e-6)
  x = np.random.default_rng(0).normal(2, 3, (3, 4, 5, 64)).astype(np.float32)
  params = {'scale': np.linspace(0.5, 1.5, 64), 'bias': np.linspace(-1, 1, 64)}
  y = norm.apply({'params': jax.tree.map(np.float32, params)}, x, train=True)
  np.testing.assert_allclose(y, group_norm(np.float64(x), params, 1e-6), atol=1e-4)
  alone = norm.apply({'params': jax.tree.map(np.float32, params)}, x[:1], train=True)
  np.testing.assert_allclose(y[:1], alone, atol=1e-5)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('name', ['ResNet-18', 'ResNet-50', 'BiT-R50x1'])
def test_strict_promotion_forward_and_backward(name, dtype):
  model = models.build(name, 5, **TINY, dtype=dtype)
  variables = random_variables(model)

  def loss(params):
    out, _ = model.apply(
      {**variables, 'params': params},
      IMAGES,
      train=True,
      mask_B=jnp.ones(3, bool),
      mutable=['batch_stats'],
    )
    assert out.tokens_BND.dtype == dtype and out.features_BD.dtype == jnp.float32
    return jnp.sum(out.logits_BK) + jnp.sum(out.features_BD)

  with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
    grads = jax.eval_shape(jax.grad(loss), variables['params'])
    text = (
      jax.jit(jax.grad(loss))
      .trace(variables['params'])
      .lower(lowering_platforms=('tpu',))
      .as_text()
    )
  assert all(grad.dtype == jnp.float32 for grad in jax.tree.leaves(grads))
  element = {'float32': 'f32', 'bfloat16': 'bf16'}[dtype]
  convs = [line for line in text.splitlines() if 'stablehlo.convolution' in line]
  assert len(convs) > 20 and all(line.count(f'x{element}>') == 3 for line in convs)


def test_a_fresh_unit_is_the_identity_if_asked_for():
  """The last scale of each branch starts at 0 (arXiv:1706.02677 section 5.1)."""
  model = models.build('ResNet-50', 5, **TINY, zero_init=True)
  variables = jax.jit(lambda: model.init(jax.random.key(0), IMAGES, train=False))()
  unit = variables['params']['stage1']['unit2']
  assert not np.any(unit['norm3']['scale']) and np.all(unit['norm2']['scale'] == 1)
  np.testing.assert_allclose(np.std(unit['conv2']['kernel']), np.sqrt(2 / (9 * 32)), rtol=0.05)


def test_no_classes_no_head():
  model = models.build('ResNet-18', 0, **TINY)
  variables = random_variables(model)
  assert 'head' not in variables['params']
  out = jax.eval_shape(functools.partial(model.apply, train=False), variables, IMAGES)
  assert out.logits_BK is None and out.features_BD.shape == (3, 64)


@pytest.mark.parametrize(
  'name, options, words',
  [
    ('ResNet-50', dict(stages=(3, 0)), r'stages\[1\] is 0; it must be at least 1'),
    ('ResNet-50', dict(stages=3), 'stages is 3; it must be several numbers'),
    ('ResNet-50', dict(stages=(3, 1.5)), r'stages\[1\] is 1.5; it must be a whole number'),
    ('ResNet-50', dict(style=1), 'model.style is not a key'),
    ('ResNet-50', dict(block='wide'), "block is 'wide'; it must be one of: basic, bottleneck"),
    ('BiT-R50x1', dict(width=40), 'width is 40; it must be a multiple of 32, the groups'),
  ],
)
def test_wrong_options(name, options, words):
  with pytest.raises(UserError, match=words):
    models.build(name, 10, **options)


@pytest.mark.parametrize(
  'name, words',
  [
    ('resnet-50', "did you mean 'ResNet-50'"),
    ('ResNet50', "did you mean 'ResNet-50'"),
    ('ResNet-50/16', "'ResNet-50/16' is unknown"),
    ('BiT-R50', "did you mean 'BiT-R50x"),
  ],
)
def test_misspelled_names(name, words):
  with pytest.raises(UserError, match=words):
    models.build(name, 10)
