"""cuDNN's attention against XLA's, on a GPU: odd lengths, hazardous ones, extreme scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.models.dot_product import cudnn_attention, xla_attention

pytestmark = pytest.mark.skipif(
  jax.default_backend() != 'gpu', reason='cuDNN runs on a GPU, and there is none'
)


def result_and_gradients(attention, qkv, dout_BNAE):
  out_BNAE, pull = jax.vjp(attention, *qkv)
  return [np.asarray(x.astype(jnp.float32)) for x in (out_BNAE, *pull(dout_BNAE))]


@pytest.mark.parametrize('scale', [1.0, 30.0])
@pytest.mark.parametrize('tokens', [64, 192, 196, 197, 198, 257, 577])
def test_cudnn_is_as_near_to_float32_as_xla(tokens, scale):
  """Large scores make rows whose log-sum-exp is far from zero, where Hopper has given NaN."""
  rng = np.random.default_rng(tokens)
  exact = [rng.normal(size=(2, tokens, 3, 64)).astype(np.float32) for _ in range(4)]
  half = [
    jnp.asarray(x * s, jnp.bfloat16) for x, s in zip(exact, (scale, scale, 1, 1), strict=True)
  ]
  *qkv, dout_BNAE = half
  whole = [x.astype(jnp.float32) for x in half]
  expected = result_and_gradients(xla_attention, whole[:3], whole[3])
  for ours, xlas, right in zip(
    result_and_gradients(cudnn_attention, qkv, dout_BNAE),
    result_and_gradients(xla_attention, qkv, dout_BNAE),
    expected,
    strict=True,
  ):
    assert np.isfinite(ours).all()
    size = np.linalg.norm(right)
    assert np.linalg.norm(ours - right) < 2 * np.linalg.norm(xlas - right) + 1e-3 * size


@pytest.mark.parametrize('tokens', [198, 258])
def test_padding_is_attended_to_by_none_and_has_no_gradient(tokens):
  rng = np.random.default_rng(0)
  *qkv, dout_BNAE = (
    jnp.asarray(rng.normal(size=(2, tokens, 3, 64)), jnp.bfloat16) for _ in range(4)
  )
  dout_BNAE = dout_BNAE.at[:, -1].set(0)
  padded = result_and_gradients(lambda *qkv: cudnn_attention(*qkv, padding=1), qkv, dout_BNAE)
  short = result_and_gradients(
    xla_attention,
    [x.astype(jnp.float32)[:, :-1] for x in qkv],
    dout_BNAE[:, :-1].astype(jnp.float32),
  )
  for found, expected in zip(padded, short, strict=True):
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, :-1], expected, atol=0.05)
  for gradient in padded[1:]:
    assert not gradient[:, -1].any()
