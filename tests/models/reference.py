"""A ViT written a second time from the paper's equations, plainly, to test the first against."""

import jax
import jax.numpy as jnp


def layer_norm(x, p):
  mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
  return (x - mean) / jnp.sqrt(var + 1e-6) * p['scale'] + p['bias']


def attention(q, k, v):
  """(B, N, A, E) each; returns the sum and the weights (B, A, N, T)."""
  weights = jax.nn.softmax(jnp.einsum('bnae,btae->bant', q, k) / jnp.sqrt(q.shape[-1]), axis=-1)
  return jnp.einsum('bant,btae->bnae', weights, v), weights


def to_heads(x, p):
  """(B, N, S, A, E) for the S projections in `p`."""
  return jnp.einsum('bnd,dsae->bnsae', x, p['kernel']) + p['bias'].reshape(p['kernel'].shape[1:])


def mlp(x, p, exact):
  h = jax.nn.gelu(x @ p['up']['kernel'] + p['up']['bias'], approximate=not exact)
  return h @ p['down']['kernel'] + p['down']['bias']


def block(x, p, *, qk_norm=False, exact=False):
  """Equations 2 and 3; scales where the parameters have them."""
  y, a = layer_norm(x, p['norm1']), p['attention']
  qkv = to_heads(y, a['qkv'])
  q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
  if qk_norm:
    q, k = layer_norm(q, a['q_norm']), layer_norm(k, a['k_norm'])
  y, weights = attention(q, k, v)
  y = jnp.einsum('bnae,aed->bnd', y, a['out']['kernel']) + a['out']['bias']
  x = x + y * p.get('scale1', 1.0)
  return x + mlp(layer_norm(x, p['norm2']), p['mlp'], exact) * p.get('scale2', 1.0), weights


def vit(params, images, *, patch, pool, registers=0, qk_norm=False, exact=False, positions=None):
  """Logits, and the attention weights of each layer."""
  kernel = params['embedding']['kernel']
  x = jax.lax.conv_general_dilated(
    images, kernel, (patch, patch), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  x = (x + params['embedding']['bias']).reshape(images.shape[0], -1, kernel.shape[-1])
  repeat = lambda token: jnp.tile(token, (images.shape[0], 1, 1))  # noqa: E731
  if positions is not None:
    x = x + positions
  if pool == 'cls':
    x = jnp.concatenate([repeat(params['cls']), x], axis=1)
  if 'pos_embedding' in params:
    x = x + params['pos_embedding']
  if registers:
    front = int(pool == 'cls')
    x = jnp.concatenate([x[:, :front], repeat(params['registers']), x[:, front:]], axis=1)
  blocks, all_weights = params['encoder']['blocks'], []
  for layer in range(blocks['norm1']['scale'].shape[0]):
    x, weights = block(
      x, jax.tree.map(lambda leaf, i=layer: leaf[i], blocks), qk_norm=qk_norm, exact=exact
    )
    all_weights.append(weights)
  x = layer_norm(x, params['encoder']['norm'])
  patches = x[:, registers + (pool == 'cls') :]
  if pool == 'cls':
    x = x[:, 0]
  elif pool == 'mean':
    x = patches.mean(1)
  else:
    p = params['map_head']
    a = p['attention']
    q, kv = to_heads(repeat(p['probe']), a['query']), to_heads(patches, a['kv'])
    y, _ = attention(q[:, :, 0], kv[:, :, 0], kv[:, :, 1])
    y = jnp.einsum('bnae,aed->bnd', y, a['out']['kernel']) + a['out']['bias']
    x = (y + mlp(layer_norm(y, p['norm']), p['mlp'], exact))[:, 0]
  if 'pre_logits' in params:
    x = jnp.tanh(x @ params['pre_logits']['kernel'] + params['pre_logits']['bias'])
  return x @ params['head']['kernel'] + params['head']['bias'], all_weights
