"""Initial parameters by family: mean and deviation of each leaf against the reference's code.

The deviations are written as formulas of the reference; that timm 1.0.29 and torchvision 0.29.1
have them was measured on deit_small_distilled_patch16_224, cait_xxs24_224,
vit_small_patch14_reg4_dinov2 and resnet18: linear layers 0.0200 with biases 0, patches and their
bias 0.0208 at 16 px and 0.0238 at 14 px, heads_l of CaiT 0.0183 (4 x 4), registers 1e-6, conv1
0.0253, the head of ResNet-18 0.0255 with a bias of 0.0259.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.trees import flatten

IMAGES = jnp.zeros((1, 64, 64, 3))
SMALL = dict(width=128, depth=2, mlp=512, heads=4)
D, F, K = 128, 512, 500


def initial(name, **options):
  model = models.build(name, K, models.options_of(name, options))
  variables = jax.jit(lambda: model.init(jax.random.key(3), IMAGES, train=False))()
  return {path: np.asarray(leaf) for path, leaf in flatten(variables['params']).items()}


def check(leaves, expected, constants):
  """Every leaf has mean 0 and the deviation of the first pattern it ends with, or is constant."""
  for path, leaf in leaves.items():
    constant = next((value for end, value in constants if path.endswith(end)), None)
    if constant is not None:
      assert np.all(leaf == np.float32(constant)), path
      continue
    std = next((std for end, std in expected if path.endswith(end)), None)
    assert std is not None, f'{path} has no expectation'
    error = 5 / math.sqrt(leaf.size)  # five deviations of the estimates
    assert abs(leaf.mean()) < error * std, path
    assert leaf.std() == pytest.approx(std, rel=max(error, 0.01)), path


ONES = [('norm/scale', 1), ('norm1/scale', 1), ('norm2/scale', 1)]
ZERO_BIAS = [('norm/bias', 0), ('norm1/bias', 0), ('norm2/bias', 0), ('qkv/bias', 0)]


def xavier(fan_in, fan_out):
  return math.sqrt(2 / (fan_in + fan_out))


XAVIER = [
  ('qkv/kernel', xavier(D, D)),
  ('attention/out/kernel', xavier(D, D)),
  ('mlp/up/kernel', xavier(D, F)),
  ('mlp/down/kernel', xavier(D, F)),
  ('mlp/up/bias', 1e-6),
  ('mlp/down/bias', 1e-6),
]


@pytest.mark.parametrize(
  'posemb_std, expected', [(0.02, 0.02), (0.0, D**-0.5)], ids=['Google', 'big_vision']
)
def test_vit(posemb_std, expected):
  """google-research/vision_transformer models_vit.py; big_vision models/vit.py get_posemb."""
  patches = ('embedding/kernel', 1 / math.sqrt(16 * 16 * 3))
  constants = [*ONES, *ZERO_BIAS, ('cls', 0), ('head/kernel', 0)]
  constants += [('out/bias', 0), ('embedding/bias', 0), ('head/bias', -6.9)]
  leaves = initial('B/16', **SMALL, posemb_std=posemb_std, head_bias=-6.9)
  check(leaves, [patches, ('pos_embedding', expected), *XAVIER], constants)


def test_hybrid():
  """google-research/vision_transformer models_resnet.py: gn3 begins with a scale of 0."""
  leaves = initial('R26+B/32', **SMALL, stages=(1, 1), resnet_width=32, patch=32)
  resnet = {p.removeprefix('embedding/resnet/'): x for p, x in leaves.items() if 'resnet' in p}
  for path, leaf in resnet.items():
    if path.endswith('kernel'):
      fan_in = math.prod(leaf.shape[:3])
      check({path: leaf}, [('kernel', 1 / math.sqrt(fan_in))], [])
    else:
      last = path.endswith('unit1/norm3/scale')
      assert np.all(leaf == (1 if path.endswith('scale') and not last else 0)), path
  assert not leaves['head/kernel'].any() and not leaves['cls'].any()


@pytest.mark.parametrize('name', ['DeiT-B/16-distilled', 'DeiT3-B/16', 'DINOv2-B/14-reg4', 'CaiT'])
def test_timm_families(name):
  """facebookresearch/deit models.py, models_v2.py, cait_models.py; dinov2 vision_transformer.py."""
  patch, scale = 16, {'DeiT3-B/16': 1e-4}.get(name, 1e-5)
  options = dict(SMALL)
  if name == 'CaiT':
    name, options = 'CaiT-XXS24', dict(SMALL, class_depth=2)
  if name.startswith('DINOv2'):
    name, patch, options = 'DINOv2-B/16-reg4', 16, SMALL
  leaves = initial(name, **options)
  linear = [
    (f'{layer}/kernel', 0.02) for layer in ('qkv', 'out', 'up', 'down', 'head', 'head_dist')
  ]
  linear += [(f'{layer}/kernel', 0.02) for layer in ('query', 'kv', 'proj_logits', 'proj_weights')]
  patches = 1 / math.sqrt(3 * patch * patch * 3)
  token = 1e-6 if name.startswith('DINOv2') else 0.02
  tokens = [('cls', token), ('registers', token), ('dist', 0.02), ('pos_embedding', 0.02)]
  embedding = [('embedding/kernel', patches), ('embedding/bias', patches)]
  kept = {path: leaf for path, leaf in leaves.items() if path.startswith('embedding/')}
  check(kept, embedding, [])
  for leaf in kept.values():  # uniform, and reaches its bound
    assert 0.9 * math.sqrt(3) * patches < np.abs(leaf).max() <= math.sqrt(3) * patches
  rest = {path: leaf for path, leaf in leaves.items() if path not in kept}
  check(rest, [*linear, *tokens], [*ONES, ('scale1', scale), ('scale2', scale), ('bias', 0)])


@pytest.mark.parametrize('zero_init', [False, True])
def test_resnet(zero_init):
  """pytorch/vision resnet.py; zero_init is its zero_init_residual."""
  leaves = initial('ResNet-18', stages=(1, 1), zero_init=zero_init)
  for path, leaf in leaves.items():
    if path.startswith('head'):
      bound = 1 / math.sqrt(128)
      check({path: leaf}, [('', bound / math.sqrt(3))], [])
      assert 0.9 * bound < np.abs(leaf).max() <= bound
    elif path.endswith('kernel'):
      check({path: leaf}, [('', math.sqrt(2 / (leaf.shape[0] ** 2 * leaf.shape[3])))], [])
    elif path.endswith('scale'):
      assert np.all(leaf == (0 if zero_init and path.endswith('norm2/scale') else 1)), path
    else:
      assert not leaf.any(), path


def test_bit():
  """google-research/big_vision models/bit.py: LeCun normal, a head of zeros."""
  leaves = initial('BiT-R50x1', stages=(1, 1), width=32)
  for path, leaf in leaves.items():
    if path.endswith('kernel') and not path.startswith('head'):
      check({path: leaf}, [('', 1 / math.sqrt(math.prod(leaf.shape[:3])))], [])
    else:
      assert np.all(leaf == path.endswith('scale')), path


def test_a_model_may_begin_like_another_family():
  theirs = initial('B/16', **SMALL, init='trunc_normal')
  assert theirs['head/kernel'].std() == pytest.approx(0.02, rel=0.02)
  assert not initial('DeiT-B/16', **SMALL, init='xavier')['head/kernel'].any()
  with pytest.raises(UserError, match='init'):
    models.options_of('B/16', {'init': 'he'})
  with pytest.raises(UserError, match='init'):
    models.options_of('ResNet-18', {'init': 'xavier'})
