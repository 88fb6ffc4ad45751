"""Multi-head attention: projections stored as one kernel, and the weighted sum in XLA or cuDNN.

Queries are N tokens and keys T.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from vit_jax.errors import UserError
from vit_jax.models import constraints, initializers
from vit_jax.models.dense import Dense, affine, dot
from vit_jax.models.layers import LayerNorm
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


class Projections(nn.Module):
  """`count` projections to heads, stored as one kernel (D, count, A, E) and bias (count, A E).

  The bias has its heads side by side so that many devices can share it. With `fused_qkv` the
  projections are one matrix product, else `count` of them: the same numbers. 'auto' is one except
  on a TPU, where their gradients would be copied together. Without `bias` there is none.
  """

  count: int
  options: TransformerOptions
  bias: bool = True

  @nn.compact
  def __call__(self, x_BND: Array) -> tuple[Array, ...]:
    o, width = self.options, x_BND.shape[-1]
    shape = (self.count, o.heads, width // o.heads)
    # Each projection on its own fan, as in the ViT code base.
    xavier = nn.initializers.variance_scaling(
      1.0, 'fan_avg', 'uniform', in_axis=0, out_axis=(2, 3), batch_axis=1
    )
    init = initializers.kernel(o, xavier)
    kernel_DSAE = self.param('kernel', init, (width, *shape), jnp.float32)
    if self.bias:
      bias_SD = self.param('bias', nn.initializers.zeros, (self.count, width), jnp.float32)
    else:
      bias_SD = jnp.zeros((self.count, width), jnp.float32)  # which the compiler takes away
    bias_SAE = bias_SD.reshape(shape)
    x_BND = x_BND.astype(o.dtype)
    if constraints.platform() != 'tpu' if o.fused_qkv == 'auto' else o.fused_qkv:
      parts = jnp.split(affine(x_BND, kernel_DSAE, bias_SAE), self.count, axis=2)
    else:
      pairs = zip(
        jnp.split(kernel_DSAE, self.count, axis=1), jnp.split(bias_SAE, self.count), strict=True
      )
      parts = [affine(x_BND, kernel, bias) for kernel, bias in pairs]
    return tuple(checkpoint_name(part.squeeze(2), 'qkv') for part in parts)


def out_projection(options: TransformerOptions, width: int) -> Dense:
  """From heads to tokens of `width`: kernel (A, E, D)."""
  xavier = nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform', in_axis=(0, 1), out_axis=2)
  init = initializers.kernel(options, xavier)
  return Dense(width, init, rank=2, dtype=options.dtype, name='out')


class Keys(NamedTuple):
  """Keys and values of T tokens, which queries attend to."""

  k_BTAE: Array
  v_BTAE: Array

  def put(self, new: Self, position: Array | int) -> Self:
    """With those of other tokens in place of the ones from `position` on."""
    return jax.tree.map(
      lambda old, new: jax.lax.dynamic_update_slice_in_dim(
        old, new.astype(old.dtype), position, axis=1
      ),
      self,
      new,
    )


class Attention(nn.Module):
  """Multi-head attention (arXiv:1706.03762 section 3.2; arXiv:2010.11929 appendix A).

  Tokens attend to themselves or, with `cross`, to a memory of other tokens. When the collection
  'intermediates' is mutable, the weights are sown as `weights_BANT`.
  """

  options: TransformerOptions
  cross: bool = False
  padding: int = 0  # the last so many tokens are attended to by none (`padding_of`)

  def __call__(
    self, x_BND: Array, mask_BANT: Array | None = None, memory_BTD: Array | None = None
  ) -> Array:
    """(B, N, D) -> (B, N, D).

    Args:
      mask_BANT: bool, of a shape that broadcasts; where it is False, nothing is attended to.
      memory_BTD: what is attended to, with `cross`.
    """
    return self.with_keys(x_BND, mask_BANT, memory_BTD)[0]

  @nn.compact
  def with_keys(
    self,
    x_BND: Array,
    mask_BANT: Array | None = None,
    memory_BTD: Array | None = None,
    keys: Keys | None = None,
    position: Array | int = 0,
  ) -> tuple[Array, Keys]:
    """(the result, the keys that were attended to), to decode token by token.

    Args:
      keys: of an earlier call: of the memory with `cross`, else of earlier tokens, among which
        those of `x_BND` are put at `position`.
    """
    o = self.options
    if self.cross:
      (q_BNAE,) = Projections(1, o, name='query')(x_BND)
      if keys is None:
        assert memory_BTD is not None
        keys = Keys(*Projections(2, o, name='kv')(memory_BTD))
    else:
      project = Projections(3, o, o.qkv_bias, name='qkv')
      q_BNAE, k_BNAE, v_BNAE = project(x_BND)
      if o.qk_norm:  # arXiv:2302.05442 section 2
        q_BNAE, k_BNAE = LayerNorm(name='q_norm')(q_BNAE), LayerNorm(name='k_norm')(k_BNAE)
      keys = Keys(k_BNAE, v_BNAE) if keys is None else keys.put(Keys(k_BNAE, v_BNAE), position)
    if self.is_mutable_collection('intermediates'):
      weights_BANT, sums_BAN1 = attention_weights(q_BNAE, keys.k_BTAE, mask_BANT)
      self.sow('intermediates', 'weights_BANT', weights_BANT / sums_BAN1)
    k_BTAE, v_BTAE = keys if self.cross else map(constraints.gathered, keys)
    if self.padding:
      out_BNAE = cudnn_attention(q_BNAE, k_BTAE, v_BTAE, mask_BANT, self.padding)
    else:
      out_BNAE = attend(q_BNAE, k_BTAE, v_BTAE, o.attention, mask_BANT)
    out_BNAE = checkpoint_name(out_BNAE, 'attention_out')
    return out_projection(o, x_BND.shape[-1])(out_BNAE), keys
