"""LeNet-5 and AlexNet: published counts, plain second implementations, any image size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_resnet import conv, random_variables, relu

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.models import flops
from vit_jax.models.convnets import average_to


def noise(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_published_counts():
  # pytorch/vision models/alexnet.py; LeNet-5 as 156 + 2416 + 48120 + 10164 + 850.
  assert flops.count_parameters(models.build('AlexNet', 1000), (224, 224, 3)) == 61_100_840
  assert flops.count_parameters(models.build('LeNet-5', 10), (32, 32, 1)) == 61_706
  macs = flops.forward_macs(models.build('AlexNet', 1000), (224, 224, 3))
  assert macs / 1e9 == pytest.approx(0.714, abs=5e-4)


def biased(x, p, padding, stride=1):
  """With the zero border that a plain "half the kernel" convolution lacks or has too much."""
  half, size = p['kernel'].shape[0] // 2, p['kernel'].shape[0]
  rows, columns = ((side + 2 * padding - size) // stride + 1 for side in x.shape[1:3])
  full = conv(x, p['kernel'], 1)
  first = half - padding
  return full[:, first::stride, first::stride][:, :rows, :columns] + p['bias']


def plain_lenet(p, x):
  sides = [max(0, 32 - side) for side in x.shape[1:3]]
  x = np.pad(x, [(0, 0), *((n // 2, n - n // 2) for n in sides), (0, 0)])
  for name in ('c1', 'c3', 'c5'):
    x = np.tanh(biased(x, p[name], 0))
    if name != 'c5':
      rows, columns = (side // 2 * 2 for side in x.shape[1:3])
      x = sum(x[:, i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1)) / 4
  x = np.tanh(x.mean((1, 2)) @ p['f6']['kernel'] + p['f6']['bias'])
  return x @ p['head']['kernel'] + p['head']['bias']


@pytest.mark.parametrize('shape', [(28, 28, 1), (32, 32, 1), (45, 38, 3)])
def test_lenet(shape):
  model, images = models.build('LeNet-5', 7), noise(2, *shape)
  variables = random_variables(model, images)
  out = jax.jit(functools.partial(model.apply, train=False))(variables, images)
  expected = plain_lenet(variables['params'], np.float64(images))
  np.testing.assert_allclose(out.logits_BK, expected, atol=1e-5)
  rows, columns = model.grid(shape[:2])
  assert out.tokens_BND.shape == (2, rows * columns, 120) and out.features_BD.shape == (2, 84)


def max_pool(x):
  rows, columns = ((side - 1) // 2 for side in x.shape[1:3])
  return np.stack(
    [
      np.stack([x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2)) for j in range(columns)], 1)
      for i in range(rows)
    ],
    1,
  )


def plain_alexnet(p, x):
  for i, (stride, padding, pooled) in enumerate(
    ((4, 2, True), (1, 2, True), (1, 1, False), (1, 1, False), (1, 1, True)), 1
  ):
    x = relu(biased(x, p[f'conv{i}'], padding, stride))
    x = max_pool(x) if pooled else x
  bins = [
    [slice(i * side // 6, -(-(i + 1) * side // 6)) for i in range(6)] for side in x.shape[1:3]
  ]
  x = np.stack(
    [np.stack([x[:, rows, columns].mean((1, 2)) for columns in bins[1]], 1) for rows in bins[0]], 1
  )
  x = relu(np.tensordot(x, p['fc6']['kernel'], 3) + p['fc6']['bias'])
  x = relu(x @ p['fc7']['kernel'] + p['fc7']['bias'])
  return x @ p['head']['kernel'] + p['head']['bias']


def test_alexnet():
  model, images = models.build('AlexNet', 7), noise(1, 96, 75, 3)
  variables = random_variables(model, images)
  # Such kernels would let activations grow by a thousand in eight layers.
  variables = jax.tree.map(lambda leaf: leaf / 20, variables)
  out = jax.jit(functools.partial(model.apply, train=False))(variables, images)
  expected = plain_alexnet(variables['params'], np.float64(images))
  np.testing.assert_allclose(out.logits_BK, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
  assert model.grid((96, 75)) == (2, 1) and model.grid((224, 224)) == (6, 6)
  assert out.tokens_BND.shape == (1, 2, 256) and out.features_BD.shape == (1, 4096)


def test_average_to_bins():
  x = noise(2, 6, 13, 3)
  np.testing.assert_allclose(average_to(x, 6)[:, :, 1], x[:, :, 2:5].mean(2), rtol=1e-5)
  same = noise(2, 6, 6, 3)
  np.testing.assert_allclose(average_to(same, 6), same, rtol=1e-6)


def test_alexnets_dropout_acts_in_training_only():
  images = noise(2, 64, 64, 3)
  model, sober = models.build('AlexNet', 5), models.build('AlexNet', 5, dropout=0.0)
  variables = jax.tree.map(lambda leaf: leaf / 20, random_variables(model, images))

  def logits(model, train, seed):
    apply = jax.jit(functools.partial(model.apply, train=train))
    return apply(variables, images, rngs={'dropout': jax.random.key(seed)}).logits_BK

  spread = np.abs(logits(model, False, 0)).max()
  assert np.abs(logits(model, True, 0) - logits(model, True, 1)).max() > 1e-3 * spread
  np.testing.assert_array_equal(logits(model, False, 0), logits(model, False, 1))
  np.testing.assert_array_equal(logits(sober, True, 0), logits(model, False, 0))


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('name, shape', [('LeNet-5', (40, 32, 1)), ('AlexNet', (80, 64, 3))])
def test_strict_promotion_forward_and_backward(name, shape, dtype):
  model, images = models.build(name, 5, dtype=dtype), noise(2, *shape)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))

  def loss(params):
    out = model.apply({'params': params}, images, train=True, rngs={'dropout': jax.random.key(0)})
    assert out.tokens_BND.dtype == dtype and out.features_BD.dtype == jnp.float32
    return jnp.sum(out.logits_BK)

  with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
    grads = jax.eval_shape(jax.grad(loss), shapes['params'])
  assert all(grad.dtype == jnp.float32 for grad in jax.tree.leaves(grads))


def test_no_classes_no_head():
  for name in ('LeNet-5', 'AlexNet'):
    model = models.build(name, 0)
    out, variables = jax.eval_shape(
      lambda model=model: model.init_with_output(
        jax.random.key(0), noise(1, 64, 64, 3), train=False
      )
    )
    assert out.logits_BK is None and 'head' not in variables['params']


def test_what_cannot_be():
  with pytest.raises(UserError, match='62x80 pixels are too small for AlexNet; 63x63 are not'):
    jax.eval_shape(
      lambda: models.build('AlexNet', 5).init(jax.random.key(0), noise(1, 62, 80, 3), train=False)
    )
  jax.eval_shape(
    lambda: models.build('AlexNet', 5).init(jax.random.key(0), noise(1, 63, 63, 3), train=False)
  )
  with pytest.raises(UserError, match='model.width is not a key'):
    models.build('LeNet-5', 5, width=3)
  with pytest.raises(UserError, match="did you mean 'LeNet-5'"):
    models.build('LeNet5', 5)
