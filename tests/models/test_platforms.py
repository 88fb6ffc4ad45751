"""What is traced for a GPU or a TPU gives the numbers of a CPU: run here, through all families."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from vit_jax import models
from vit_jax.models.dot_product import xla_attention
from vit_jax.models.output import Pair
from vit_jax.models.texts import PAD, Texts

SMALL = dict(width=32, depth=2, heads=2, mlp=64, unroll=False)
TEXT = dict(width=32, depth=2)
# Name, options and shape of an example, by family. A ViT has 17 tokens, so that cuDNN adds one.
FAMILIES = {
  'vit': ('Ti/8', dict(SMALL, pool='cls'), (32, 32, 3)),
  'vit, all options': (
    'Ti/8',
    dict(SMALL, layerscale=0.1, qk_norm=True, registers=3, mlp_kind='swiglu'),
    (32, 32, 3),
  ),
  'deit': ('DeiT-Ti/8-distilled', SMALL, (32, 32, 3)),
  'cait': ('CaiT-XXS24', dict(SMALL, patch=8), (32, 32, 3)),
  'hybrid': ('R26+S/16', dict(SMALL, stages=(1, 1), resnet_width=32), (32, 32, 3)),
  'resnet': ('ResNet-18', dict(width=8), (32, 32, 3)),
  'lenet': ('LeNet-5', {}, (32, 32, 3)),
  'transformer': ('Transformer-tiny', dict(SMALL, tied='all'), (8, 7)),
  'transformer, pre-norm': ('Transformer-tiny', dict(SMALL, norm='pre', tied='target'), (8, 7)),
  'gru': ('RNN-GRU', dict(TEXT, alignment='additive'), (8, 7)),
  'lstm': ('RNN-LSTM', dict(TEXT, alignment='dot', cell='lstm'), (8, 7)),
}
CLASSES = 5  # of images, or tokens


def cudnn(q_BNAE, k_BTAE, v_BTAE, *, implementation, **lengths):
  """Stands in for cuDNN's attention, which leaves what is beyond its lengths unwritten."""
  assert implementation == 'cudnn' and q_BNAE.shape[1] % 2 == 0
  whole_B = jnp.full(len(q_BNAE), q_BNAE.shape[1])
  queries_B = lengths.get('query_seq_lengths', whole_B)
  return attend(q_BNAE, k_BTAE, v_BTAE, queries_B, lengths.get('key_value_seq_lengths', whole_B))


def unwritten(x_BNAE, length_B):
  """With NaN beyond the lengths."""
  written_BN = jnp.arange(x_BNAE.shape[1]) < length_B[:, None]
  return jnp.where(written_BN[:, :, None, None], x_BNAE, jnp.nan)


def attend_plainly(q_BNAE, k_BTAE, v_BTAE, queries_B, keys_B):
  mask_BT = jnp.arange(k_BTAE.shape[1]) < keys_B[:, None]
  out_BNAE = xla_attention(q_BNAE, k_BTAE, v_BTAE, mask_BT[:, None, None, :])
  return unwritten(out_BNAE, queries_B)


@jax.custom_vjp
def attend(*qkv_and_lengths):
  return attend_plainly(*qkv_and_lengths)


def attend_backward(saved, dout_BNAE):
  *qkv, queries_B, keys_B = saved
  grads = jax.vjp(lambda *qkv: attend_plainly(*qkv, queries_B, keys_B), *qkv)[1](dout_BNAE)
  lengths = queries_B, keys_B, keys_B
  return *map(unwritten, grads, lengths), None, None


attend.defvjp(lambda *saved: (attend(*saved), saved), attend_backward)


@pytest.fixture(autouse=True)
def without_cudnn(monkeypatch):
  monkeypatch.setattr(jax.nn, 'dot_product_attention', cudnn)


def built(family: str, dtype: str = 'float32'):
  """(model, a fixed batch)."""
  name, options, shape = FAMILIES[family]
  rng = np.random.default_rng(1)
  if not models.reads_text(name):
    images = rng.normal(size=(4, *shape)).astype(np.float32)
    return models.build(name, CLASSES, **options, dtype=dtype), images
  tokens = [rng.integers(1, CLASSES, (4, length)).astype(np.int32) for length in shape]
  for tokens_BN in tokens:
    tokens_BN[1, -3:] = PAD
  return models.build(name, CLASSES, None, Texts(CLASSES), **options, dtype=dtype), Pair(*tokens)


def variables_of(family: str) -> dict:
  model, batch = built(family)
  variables = model.init({'params': jax.random.key(0)}, batch, train=False)
  rng = np.random.default_rng(0)
  # Whatever begins as zeros or ones would hide faults.
  return jax.tree.map(lambda p: p + rng.normal(0, 0.1, p.shape).astype(np.float32), variables)


def loss_and_gradients(family: str, dtype: str, variables):
  """Of a fixed batch, in float32 numpy."""
  model, batch = built(family, dtype)

  def loss(params):
    rest = {key: value for key, value in variables.items() if key != 'params'}
    logits = model.apply({'params': params, **rest}, batch, train=False).logits
    return -jnp.mean(jax.nn.log_softmax(logits)[..., 1])

  return jax.device_get(jax.jit(jax.value_and_grad(loss))(variables['params']))


def error(found, expected) -> float:
  """The largest difference of a leaf, relative to its norm or to a hundredth of that of all."""
  pairs = [
    (np.asarray(x, np.float64), np.asarray(y, np.float64))
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
  ]
  least = 0.01 * np.sqrt(sum(np.sum(y**2) for _, y in pairs))
  return max(float(np.linalg.norm(x - y) / max(np.linalg.norm(y), least)) for x, y in pairs)


OFTEN = 'vit, all options'


@pytest.mark.parametrize(
  'family',
  [pytest.param(name, marks=[pytest.mark.slow] * (name != OFTEN)) for name in FAMILIES],
)
def test_platforms_agree(family, trace_for):
  """In float32 to its rounding; in bfloat16 as near to float32 as rounding each product allows.

  A CPU's products stay in float32 until they are added, which halves its error.
  """
  variables = variables_of(family)
  expected = loss_and_gradients(family, 'float32', variables)
  here = error(loss_and_gradients(family, 'bfloat16', variables), expected)
  for platform in ('gpu', 'tpu'):
    trace_for(platform)
    assert error(loss_and_gradients(family, 'float32', variables), expected) < 3e-6
    there = error(loss_and_gradients(family, 'bfloat16', variables), expected)
    assert 1e-4 < there < max(2.5 * here, 0.02)


@pytest.mark.parametrize('platform', ['cpu', 'gpu', 'tpu'])
def test_bfloat16_is_within_its_rounding_of_float64(platform, trace_for):
  """Against equations 1 to 4 of the paper, written a second time, in float64."""
  variables = variables_of('vit')
  _, images = built('vit')
  with jax.enable_x64(True):
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), variables['params'])

    def loss(params):
      logits_BK, _ = reference.vit(params, jnp.asarray(images, jnp.float64), patch=8, pool='cls')
      return -jnp.mean(jax.nn.log_softmax(logits_BK)[:, 1])

    expected = jax.device_get(jax.value_and_grad(loss)(params))
  assert expected[0].dtype == np.float64
  trace_for(platform)
  assert error(loss_and_gradients('vit', 'float32', variables), expected) < 2e-6
  assert error(loss_and_gradients('vit', 'bfloat16', variables), expected) < 0.03
