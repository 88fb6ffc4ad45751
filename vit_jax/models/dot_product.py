"""Dot-product attention: the weighted sum in XLA, or in cuDNN's fused kernel.

Queries are N tokens and keys T.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax.errors import UserError
from vit_jax.models import constraints
from vit_jax.models.dense import dot
from vit_jax.models.options import AttentionKind, TransformerOptions

Array = jax.Array

MASKED = -1e30  # a score whose weight is 0; infinity would make NaN of a row without any key
# What is summed over, and the batch axes, of (B, N, A, E) arrays and (B, A, N, T) weights.
_QUERY_KEY = ((3,), (3,)), ((0, 2), (0, 2))
_OVER_KEYS = ((3,), (1,)), ((0, 1), (0, 2))
_OVER_QUERIES = ((2,), (1,)), ((0, 1), (0, 2))


def attention_weights(
  q_BNAE: Array, k_BTAE: Array, mask_BANT: Array | None = None
) -> tuple[Array, Array]:
  """exp(q k / sqrt(E) - max) as (B, A, N, T), and its sums over T, (B, A, N, 1), in float32.

  Args:
    mask_BANT: bool, of a shape that broadcasts; where it is False, the weight is 0.
  """
  scores_BANT = dot(q_BNAE, k_BTAE, _QUERY_KEY, jnp.float32)
  if mask_BANT is not None:
    scores_BANT = jnp.where(mask_BANT, scores_BANT, MASKED)
  scores_BANT -= jnp.max(scores_BANT, axis=-1, keepdims=True)
  weights_BANT = jnp.exp(scores_BANT * q_BNAE.shape[-1] ** -0.5)
  return weights_BANT, jnp.sum(weights_BANT, axis=-1, keepdims=True)


@jax.custom_vjp
def xla_attention(
  q_BNAE: Array, k_BTAE: Array, v_BTAE: Array, mask_BANT: Array | None = None
) -> Array:
  """softmax(q k / sqrt(E)) v as (B, N, A, E), the softmax in float32 and over the keys of the mask.

  Its sums divide the result, which is narrower than the weights, and the backward pass takes the
  row term of the softmax's gradient from the result (arXiv:2205.14135 appendix B.2): each saves
  a pass over the weights.
  """
  return _xla_forward(q_BNAE, k_BTAE, v_BTAE, mask_BANT)[0]


def _xla_forward(q_BNAE, k_BTAE, v_BTAE, mask_BANT):
  dtype = q_BNAE.dtype
  weights_BANT, sums_BAN1 = attention_weights(q_BNAE, k_BTAE, mask_BANT)
  weights_BANT = weights_BANT.astype(dtype)
  out_BANE = dot(weights_BANT, v_BTAE, _OVER_KEYS, jnp.float32) / sums_BAN1
  out_BNAE = out_BANE.swapaxes(1, 2).astype(dtype)
  return out_BNAE, (q_BNAE, k_BTAE, v_BTAE, weights_BANT, sums_BAN1, out_BNAE)


def _xla_backward(saved, dout_BNAE):
  if saved[0].dtype != jnp.float32:
    # Without the barrier the compiler would keep the weights in float32.
    saved = jax.lax.optimization_barrier(saved)
  q_BNAE, k_BTAE, v_BTAE, weights_BANT, sums_BAN1, out_BNAE = saved
  dtype = q_BNAE.dtype
  dout_BNAE = dout_BNAE.astype(jnp.float32) / sums_BAN1.swapaxes(1, 2)
  row_BNA1 = jnp.sum(dout_BNAE * out_BNAE.astype(jnp.float32), axis=-1, keepdims=True)
  dout_BNAE = dout_BNAE.astype(dtype)
  dweights_BANT = dot(dout_BNAE, v_BTAE, _QUERY_KEY, jnp.float32) - row_BNA1.swapaxes(1, 2)
  dscores_BANT = weights_BANT.astype(jnp.float32) * dweights_BANT * q_BNAE.shape[-1] ** -0.5
  dscores_BANT = dscores_BANT.astype(dtype)
  dq_BANE = dot(dscores_BANT, k_BTAE, _OVER_KEYS, dtype)
  dk_BATE = dot(dscores_BANT, q_BNAE, _OVER_QUERIES, dtype)
  dv_BATE = dot(weights_BANT, dout_BNAE, _OVER_QUERIES, dtype)
  return dq_BANE.swapaxes(1, 2), dk_BATE.swapaxes(1, 2), dv_BATE.swapaxes(1, 2), None


xla_attention.defvjp(_xla_forward, _xla_backward)


def cudnn_attention(
  q_BNAE: Array,
  k_BTAE: Array,
  v_BTAE: Array,
  mask_BANT: Array | None = None,
  padding: int = 0,
) -> Array:
  """The same in cuDNN's fused kernel (FlashAttention).

  Its backward pass takes even lengths only: odd ones get a token more, which the lengths tell it to
  pass over. On Hopper it can return NaN for hazardous lengths; there the lengths make it take
  another path.

  Args:
    padding: the last so many keys are not attended to; the result of the queries there is finite.
  """
  queries, keys = q_BNAE.shape[1], k_BTAE.shape[1]
  if padding:
    # cuDNN may leave their gradients unwritten.
    masked: Any = [_without_gradient(x_BTAE, padding) for x_BTAE in (k_BTAE, v_BTAE)]
    k_BTAE, v_BTAE = masked
  q_BNAE, k_BTAE, v_BTAE = map(_even, (q_BNAE, k_BTAE, v_BTAE))
  options: dict[str, Any] = {}
  if padding or queries % 2 or keys % 2 or _hazardous(queries):
    lengths = q_BNAE.shape[1], keys - padding  # of queries all, for a row without a key is NaN
    options = {
      name: jnp.full(len(q_BNAE), length, jnp.int32)
      for name, length in zip(('query_seq_lengths', 'key_value_seq_lengths'), lengths, strict=True)
    }
  if mask_BANT is not None:
    sides = [(0, size % 2 if size > 1 else 0) for size in mask_BANT.shape[2:]]
    options['mask'] = jnp.pad(mask_BANT, ((0, 0), (0, 0), *sides), constant_values=True)
  out_BNAE = jax.nn.dot_product_attention(q_BNAE, k_BTAE, v_BTAE, implementation='cudnn', **options)
  return out_BNAE[:, :queries]


def _even(x_BNAE: Array) -> Array:
  """With a token of zeros more, if N is odd."""
  odd = x_BNAE.shape[1] % 2
  return jnp.pad(x_BNAE, ((0, 0), (0, odd), (0, 0), (0, 0))) if odd else x_BNAE


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _without_gradient(x_BTAE: Array, count: int) -> Array:
  """The same; the gradient of the last `count` tokens is zero, whatever it is of the result."""
  return x_BTAE


def _without_gradient_backward(count, _, dx_BTAE):
  tokens = dx_BTAE.shape[1]
  return (jnp.where(jnp.arange(tokens)[:, None, None] < tokens - count, dx_BTAE, 0),)


_without_gradient.defvjp(lambda x_BTAE, count: (x_BTAE, None), _without_gradient_backward)


def attend(
  q_BNAE: Array,
  k_BTAE: Array,
  v_BTAE: Array,
  implementation: AttentionKind,
  mask_BANT: Array | None = None,
) -> Array:
  """softmax(q k / sqrt(E)) v over the keys of the mask, (B, N, A, E).

  'auto' is cuDNN where there is no mask and it is safe and works, else XLA.

  Raises:
    UserError: 'cudnn' where there is no GPU, the dtype is float32, or a mesh splits the tokens.
  """
  queries, keys, head_dim = q_BNAE.shape[1], k_BTAE.shape[1], q_BNAE.shape[-1]
  if implementation == 'auto' and (mask_BANT is not None or queries != keys):
    implementation = 'xla'
  if takes_cudnn(implementation, keys, head_dim, q_BNAE.dtype):
    return cudnn_attention(q_BNAE, k_BTAE, v_BTAE, mask_BANT)
  return xla_attention(q_BNAE, k_BTAE, v_BTAE, mask_BANT)


def takes_cudnn(implementation: AttentionKind, tokens: int, head_dim: int, dtype: Any) -> bool:
  """Whether so many tokens attend to each other in cuDNN.

  Raises:
    UserError: as `attend`.
  """
  dtype = jnp.dtype(dtype)
  gpu, half = constraints.platform() == 'gpu', dtype in (jnp.bfloat16, jnp.float16)
  if implementation != 'cudnn':
    return (
      implementation == 'auto'
      and gpu
      and half
      and head_dim % 8 == 0
      and head_dim <= 256
      and not _hazardous(tokens)
      and constraints.sequence_ways() == 1
      and cudnn_works(tokens, head_dim, dtype.name)
    )
  if not (gpu and half):
    raise UserError(
      f"attention='cudnn' needs a GPU and dtype bfloat16 or float16, but this is "
      f"{constraints.platform()} and {dtype}; use attention='auto'"
    )
  if constraints.sequence_ways() > 1:
    raise UserError(
      "attention='cudnn' does not take tokens that config.mesh.sequence splits; "
      "use attention='auto'"
    )
  return True


def padding_of(options: TransformerOptions, tokens: int, width: int) -> int:
  """How many tokens more cuDNN wants: one in the whole stream costs less than in each layer."""
  odd = tokens % 2
  return odd and int(takes_cudnn(options.attention, tokens, width // options.heads, options.dtype))


def _hazardous(tokens: int) -> bool:
  return tokens % 128 == 64


@functools.cache
def cudnn_works(tokens: int, head_dim: int, dtype: str) -> bool:
  """Tries cuDNN attention and its gradient once; prints one line that says what is taken.

  It is believed to work on a GPU that is not here.
  """
  if jax.default_backend() != 'gpu':
    return True

  def attempt() -> bool:
    q_BNAE = jnp.ones((1, tokens, 1, head_dim), dtype)
    grads = jax.jit(
      jax.grad(lambda *qkv: cudnn_attention(*qkv).astype(jnp.float32).sum(), argnums=(0, 1, 2))
    )(q_BNAE, q_BNAE, q_BNAE)
    return all(bool(jnp.isfinite(grad).all()) for grad in grads)

  try:
    # In a thread of its own, for the caller is being traced.
    with ThreadPoolExecutor(1) as pool:
      works, why = pool.submit(attempt).result(), 'its gradient is not finite'
  except Exception as error:  # noqa: BLE001 (whatever cuDNN says, XLA still works)
    works, why = False, str(error).split('\n')[0]
  chosen = 'cuDNN' if works else f'XLA, for cuDNN does not work here ({why})'
  print(f'attention of {tokens} tokens of {head_dim} in {dtype}: {chosen}', flush=True)
  return works
