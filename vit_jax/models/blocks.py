"""The pre-norm Transformer block, and the encoder: blocks with parameters stacked over layers."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core.scope import LazyRng

from vit_jax.models import constraints, initializers
from vit_jax.models.attention import Attention
from vit_jax.models.dense import Dense
from vit_jax.models.dot_product import padding_of
from vit_jax.models.layers import Dropout, LayerNorm, drop_examples, gelu, swiglu
from vit_jax.models.options import StochasticDepthRule, TransformerOptions

Array = jax.Array
UNROLL_UP_TO = 24  # layers; deeper stacks compile too long

# What is saved of a block for the backward pass, besides its input; the rest is recomputed.
REMAT = {
  'full': (),
  'dots': ('qkv', 'mlp_hidden', 'dense'),  # every result of a Dense
  'names': ('qkv', 'attention_out', 'mlp_hidden'),
}


class Mlp(nn.Module):
  """Two Dense layers with a GELU between: the paper's MLP (arXiv:2010.11929 section 3.1).

  With `mlp_kind` 'relu' it is a ReLU (arXiv:1706.03762 section 3.3); with 'swiglu' a third layer,
  `gate`, goes through SiLU and multiplies the hidden units instead.
  """

  options: TransformerOptions
  tokens: int | None = None  # as of `Dropout`

  @nn.compact
  def __call__(self, x_BND: Array, train: bool) -> Array:
    o = self.options
    dense = functools.partial(
      Dense,
      kernel_init=initializers.kernel(o),
      bias_init=initializers.mlp_bias(o),
      dtype=o.dtype,
    )
    h_BNF: Any = dense(o.mlp, save_as='mlp_hidden', name='up')(x_BND)
    if o.mlp_kind == 'swiglu':
      h_BNF = swiglu(dense(o.mlp, save_as='mlp_hidden', name='gate')(x_BND), h_BNF)
    else:
      h_BNF = nn.relu(h_BNF) if o.mlp_kind == 'relu' else gelu(h_BNF, o.exact_gelu)
    h_BNF = Dropout(o.dropout, train, self.tokens)(h_BNF)
    return dense(x_BND.shape[-1], name='down')(h_BNF)


class Block(nn.Module):
  """x + MSA(LN(x)), then x + MLP(LN(x)): arXiv:2010.11929 equations 2 and 3.

  With `post_norm` each is LN(x + f(x)) (arXiv:1706.03762 section 3.1). Optionally each branch is
  scaled per channel (LayerScale, arXiv:2103.17239) and dropped per example (stochastic depth).

  With `first` only so many tokens at the front are computed, and zeros stand for the others, of
  which there are keys and values alone.
  """

  options: TransformerOptions
  train: bool
  stochastic_depth: bool
  rolled: bool  # into a loop over the layers
  padding: int = 0  # of the attention
  first: int | None = None

  @nn.compact
  def __call__(
    self, x_BND: Array, drop_rate: Array, mask_BANT: Array | None = None
  ) -> tuple[Array, None]:
    """Returns the block's output and, for `nn.scan`, nothing.

    Args:
      drop_rate: probability of dropping a branch; read if `stochastic_depth` is set.
      mask_BANT: of the attention.
    """
    last, tokens = self.first is not None, x_BND.shape[1]
    if not self.is_initializing():  # with a single example
      x_BND = constraints.over_tokens(x_BND, sliced=last)
    attention, mlp = self.make_attention(), Mlp(self.options, tokens, name='mlp')
    with constraints.in_loop(self.rolled or last):
      x_BND = self.add('1', lambda x_BND: attention(x_BND, mask_BANT), x_BND, drop_rate, tokens)
      x_BND = self.add('2', lambda x_BND: mlp(x_BND, self.train), x_BND, drop_rate, tokens)
    return jnp.pad(x_BND, ((0, 0), (0, tokens - x_BND.shape[1]), (0, 0))), None

  @nn.nowrap
  def add(
    self,
    number: str,
    function: Callable[[Array], Array],
    x_BND: Array,
    drop_rate: Array,
    tokens: int | None = None,
  ) -> Array:
    """x + f(LN(x)), or with `post_norm` LN(x + f(x)), of the tokens that f returns.

    The LayerNorm is called 'norm' + `number`; `tokens` is as of `Dropout`.
    """
    norm, post_norm = LayerNorm(name=f'norm{number}'), self.options.post_norm
    y_BND = function(x_BND if post_norm else norm(x_BND))
    y_BND = self.branch(y_BND, f'scale{number}', drop_rate, tokens)
    y_BND = x_BND[:, : y_BND.shape[1]] + y_BND
    return norm(y_BND) if post_norm else y_BND

  @nn.nowrap
  def make_attention(self) -> nn.Module:
    return Attention(self.options, padding=self.padding, queries=self.first, name='attention')

  @nn.nowrap
  def branch(
    self, y_BND: Array, scale: str, drop_rate: Array | None = None, tokens: int | None = None
  ) -> Array:
    """What is added to the residual stream: `y_BND` with dropout, scaled, dropped per example."""
    initial = self.options.layerscale
    y_BND = Dropout(self.options.dropout, self.train, tokens)(y_BND)
    if initial:
      scale_D = self.param(
        scale, nn.initializers.constant(initial), (y_BND.shape[-1],), jnp.float32
      )
      y_BND = (y_BND.astype(jnp.float32) * scale_D[None, None]).astype(y_BND.dtype)
    if drop_rate is not None and self.train and self.stochastic_depth:
      y_BND = drop_examples(self.make_rng('dropout'), y_BND, drop_rate)
    return y_BND


def stacked(
  block: type[nn.Module],
  depth: int,
  options: TransformerOptions,
  *,
  initializing: bool,
  in_axes: Any = 0,
  split_rngs: bool = True,
) -> Callable[..., nn.Module]:
  """`depth` layers of `block` as one module, (carry, xs) -> (carry, None).

  Parameters are stacked, leading axis L. Rolling, and what is saved for the backward pass, decide
  how it is executed only: parameters and results stay the same. A single layer takes random numbers
  as they are without `split_rngs`.
  """
  straight = is_straight(options, depth)
  if options.remat != 'none':
    policy = jax.checkpoint_policies.save_only_these_names(*REMAT[options.remat])
    # A loop hides repeated work from common-subexpression elimination; straight code does not.
    block = nn.remat(block, policy=policy, prevent_cse=straight)
  scanned = nn.scan(
    block,
    variable_axes={'params': 0, 'intermediates': 0},
    in_axes=in_axes,
    split_rngs={'params': True, 'dropout': split_rngs},
    length=depth,
    # Initialization runs once, so it should compile quickly.
    unroll=depth if straight and not initializing else 1,
  )
  return functools.partial(scanned, rolled=not straight)


def is_straight(options: TransformerOptions, depth: int) -> bool:
  """Whether so many layers are straight code, not a loop."""
  return depth <= UNROLL_UP_TO if options.unroll == 'auto' else bool(options.unroll)


class Encoder(nn.Module):
  """The blocks and a final LayerNorm (arXiv:2010.11929 equations 2 to 4).

  Without `final_norm` there are only the blocks; with `post_norm` each of them ends with one.
  """

  options: TransformerOptions
  stochastic_depth_rule: StochasticDepthRule
  kind: type[Block] = Block
  final_norm: bool = True

  @nn.compact
  def __call__(
    self, x_BND: Array, train: bool, mask_BANT: Array | None = None, first: int | None = None
  ) -> Array:
    """(B, N, D) -> (B, N, D), or only its `first` tokens."""
    o, tokens = self.options, x_BND.shape[1]
    own = self.kind is Block and mask_BANT is None and not self.is_initializing()
    shown = self.is_mutable_collection('intermediates')
    padding = padding_of(o, *x_BND.shape[1:]) if own and not shown else 0
    if padding:
      x_BND = jnp.pad(x_BND, ((0, 0), (0, padding), (0, 0)))
    rates = drop_rates(o.stochastic_depth, self.stochastic_depth_rule, o.depth)
    if first and own and not shown and self._can_end_early():
      x_BND = self._end_early(x_BND, train, rates, padding, first)
    else:
      blocks = self._blocks(o.depth, train, padding, name='blocks')
      x_BND, _ = blocks(x_BND, rates, mask_BANT)
    x_BND = x_BND[:, :tokens]
    x_BND = LayerNorm(name='norm')(x_BND) if self.final_norm and not o.post_norm else x_BND
    return x_BND[:, :first]

  @nn.nowrap
  def _blocks(
    self, depth: int, train: bool, padding: int, first: int | None = None, **keys: Any
  ) -> nn.Module:
    """So many of the blocks; with `first` one, which takes random numbers as they are."""
    o = self.options
    blocks = stacked(
      self.kind,
      depth,
      o,
      initializing=self.is_initializing(),
      in_axes=(0, nn.broadcast),
      split_rngs=first is None,
    )
    return blocks(o, train, o.stochastic_depth > 0, padding=padding, first=first, **keys)

  @nn.nowrap
  def _can_end_early(self) -> bool:
    """In straight code; a loop would copy the parameters of its layers to leave out the last."""
    o = self.options
    return 1 < o.depth and is_straight(o, o.depth) and constraints.sequence_ways() == 1

  @nn.nowrap
  def _end_early(
    self, x_BND: Array, train: bool, rates_L: Array, padding: int, first: int
  ) -> Array:
    """The blocks, the last of which computes its `first` tokens only: the same numbers."""
    o, layers = self.options, self.options.depth - 1
    leaves, tree = jax.tree.flatten((self.variables['params']['blocks'], rates_L))
    parts = zip(*(jnp.split(leaf, [layers]) for leaf in leaves), strict=True)
    scope: Any = self.scope
    rngs: list[Any] = [{}, {}]
    if self.has_rng('dropout'):
      # As of a module 'blocks' that scans all layers, each of which takes a part of one key.
      rng = LazyRng.create(scope.rngs['dropout'], 'blocks')
      of_last = LazyRng(jax.random.split(rng.rng, o.depth)[-1], rng.suffix)
      rngs = [{'dropout': rng}, {'dropout': of_last}]
    for part, depth, out, keys in zip(parts, (layers, 1), (None, first), rngs, strict=True):
      params, rates = tree.unflatten(part)
      blocks = self._blocks(depth, train, padding, first=out, parent=None)
      x_BND, _ = blocks.apply({'params': params}, x_BND, rates, None, rngs=keys)
    return x_BND[:, :first]


def drop_rates(rate: float, rule: StochasticDepthRule, depth: int) -> Array:
  """Stochastic depth of each layer, (L,): `rate` everywhere, or growing to it from 0."""
  first = rate if rule == 'constant' else 0.0
  return jnp.linspace(first, rate, depth, dtype=jnp.float32)
