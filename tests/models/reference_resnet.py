"""ResNet, BiT and the stem of a hybrid in plain numpy, to compare ours with."""

import functools
import itertools

import jax
import numpy as np

IMAGES = np.random.default_rng(0).normal(size=(3, 40, 36, 3)).astype(np.float32)


def random_variables(model, images=IMAGES, seed=1):
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
  rng = np.random.default_rng(seed)

  def leaf(path, shape):
    value = rng.normal(0.1, 0.2, shape.shape).astype(np.float32)
    return 0.5 + np.abs(value) if path[-1].key == 'var' else value

  return jax.tree_util.tree_map_with_path(leaf, dict(shapes))


# A plain second implementation: loops over places of the image and numpy sums, in float64.


def conv(x, kernel, stride, same=False, outside=None, inside=None):
  kernel = np.float64(kernel)
  if outside is not None:
    kernel = kernel - kernel.mean((0, 1, 2))
    kernel = kernel / (np.sqrt((kernel**2).mean((0, 1, 2)) + inside) + outside)
  size, (_, rows, columns, _) = len(kernel), x.shape
  out = [-(-rows // stride), -(-columns // stride)]
  pad = [(size // 2, size // 2)] * 2
  if same:
    total = [
      max((n - 1) * stride + size - side, 0) for n, side in zip(out, (rows, columns), strict=True)
    ]
    pad = [(n // 2, n - n // 2) for n in total]
  x = np.pad(x, [(0, 0), *pad, (0, 0)])
  y = np.zeros((len(x), *out, kernel.shape[-1]))
  for i, j in itertools.product(*map(range, out)):
    patch = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
    y[:, i, j] = np.tensordot(patch, kernel, 3)
  return y


def pool(x, border, same=False):
  rows, columns = (-(-side // 2) for side in x.shape[1:3])
  first = [
    (max((n - 1) * 2 + 3 - side, 0)) // 2 if same else 1
    for n, side in zip((rows, columns), x.shape[1:3], strict=True)
  ]
  x = np.pad(x, [(0, 0), (first[0], 2), (first[1], 2), (0, 0)], constant_values=border)
  return np.stack(
    [
      np.stack([x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2)) for j in range(columns)], 1)
      for i in range(rows)
    ],
    1,
  )


def group_norm(x, p, epsilon, groups=32):
  batch, rows, columns, width = x.shape
  y = x.reshape(batch, rows * columns, groups, -1)
  y = (y - y.mean((1, 3), keepdims=True)) / np.sqrt(y.var((1, 3), keepdims=True) + epsilon)
  return y.reshape(x.shape) * p['scale'] + p['bias']


def batch_norm(x, p, stats):
  return (x - stats['mean']) / np.sqrt(stats['var'] + 1e-5) * p['scale'] + p['bias']


def relu(x):
  return np.maximum(x, 0)


def plain_resnet(variables, images, block, stages):
  """Post-activation with running statistics: He et al. 2016, Figure 5."""
  p, s = variables['params'], variables['batch_stats']
  x = relu(
    batch_norm(conv(images, p['stem']['conv']['kernel'], 2), p['stem']['norm'], s['stem']['norm'])
  )
  x = pool(x, -np.inf)
  convs = 2 if block == 'basic' else 3
  strided = 1 if block == 'basic' else 2
  for i, units in enumerate(stages, 1):
    for j in range(1, units + 1):
      q, t = (tree[f'stage{i}'][f'unit{j}'] for tree in (p, s))
      stride, y = 2 if i > 1 and j == 1 else 1, x
      for k in range(1, convs + 1):
        y = conv(y, q[f'conv{k}']['kernel'], stride if k == strided else 1)
        y = batch_norm(y, q[f'norm{k}'], t[f'norm{k}'])
        y = relu(y) if k < convs else y
      if 'conv_proj' in q:
        x = batch_norm(conv(x, q['conv_proj']['kernel'], stride), q['norm_proj'], t['norm_proj'])
      x = relu(x + y)
  return x.mean((1, 2)) @ p['head']['kernel'] + p['head']['bias']


def plain_bit(variables, images, stages):
  """Pre-activation: He et al. 2016 (arXiv:1603.05027) Figure 4 (e), the shortcut after ReLU."""
  p = variables['params']
  std = functools.partial(conv, outside=0.0, inside=1e-8)
  norm = functools.partial(group_norm, epsilon=1e-5)
  x = pool(std(images, p['stem']['conv']['kernel'], 2), 0.0)
  for i, units in enumerate(stages, 1):
    for j in range(1, units + 1):
      q, stride = p[f'stage{i}'][f'unit{j}'], 2 if i > 1 and j == 1 else 1
      first = relu(norm(x, q['norm1']))
      y = std(first, q['conv1']['kernel'], 1)
      y = std(relu(norm(y, q['norm2'])), q['conv2']['kernel'], stride)
      y = std(relu(norm(y, q['norm3'])), q['conv3']['kernel'], 1)
      x = y + (std(first, q['conv_proj']['kernel'], stride) if 'conv_proj' in q else x)
  x = relu(norm(x, p['norm']))
  return x.mean((1, 2)) @ p['head']['kernel'] + p['head']['bias']


def plain_hybrid_map(params, images, stages):
  """Below a hybrid: google-research/vision_transformer, vit_jax/models_resnet.py."""
  std = functools.partial(conv, outside=1e-5, inside=0.0, same=True)
  norm = functools.partial(group_norm, epsilon=1e-6)
  x = pool(
    relu(norm(std(images, params['stem']['conv']['kernel'], 2), params['stem']['norm'])),
    -np.inf,
    same=True,
  )
  for i, units in enumerate(stages, 1):
    for j in range(1, units + 1):
      q, stride, y = params[f'stage{i}'][f'unit{j}'], 2 if i > 1 and j == 1 else 1, x
      for k in (1, 2, 3):
        y = norm(std(y, q[f'conv{k}']['kernel'], stride if k == 2 else 1), q[f'norm{k}'])
        y = relu(y) if k < 3 else y
      if 'conv_proj' in q:
        x = norm(std(x, q['conv_proj']['kernel'], stride), q['norm_proj'])
      x = relu(x + y)
  return x
