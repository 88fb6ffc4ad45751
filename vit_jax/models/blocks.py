"""The pre-norm Transformer block, and the encoder: blocks with parameters stacked over layers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models import constraints
from vit_jax.models.attention import Attention, Implementation
from vit_jax.models.layers import LayerNorm, Mlp, MlpKind, drop_examples

Array = jax.Array
UNROLL_UP_TO = 24  # layers; deeper stacks compile too long

# What the backward pass finds saved of a block besides its input; the rest is computed again.
REMAT = {
  'full': (),
  'dots': ('qkv', 'mlp_hidden', 'dense'),  # every result of a Dense
  'names': ('qkv', 'attention_out', 'mlp_hidden'),
}
Remat = Literal['none', 'full', 'dots', 'names']
Unroll = Literal['auto'] | bool


@dataclass(frozen=True)
class BlockConfig:
  """What all blocks of a model share; the fields are explained at `vit.ViT`."""

  mlp: int
  heads: int
  layerscale: float
  dropout: float
  qk_norm: bool
  mlp_kind: MlpKind
  exact_gelu: bool
  fused_qkv: bool
  attention: Implementation
  dtype: Any


class Block(nn.Module):
  """x + MSA(LN(x)), then x + MLP(LN(x)): arXiv:2010.11929 equations 2 and 3.

  Optionally each branch is scaled per channel (LayerScale, arXiv:2103.17239) and dropped per
  example (stochastic depth).
  """

  config: BlockConfig
  train: bool
  stochastic_depth: bool
  rolled: bool  # into a loop over the layers

  @nn.compact
  def __call__(self, x_BND: Array, drop_rate: Array) -> tuple[Array, None]:
    """Returns the block's output and, for `nn.scan`, nothing.

    Args:
      drop_rate: probability of dropping a branch; read if `stochastic_depth` is set.
    """
    if not self.is_initializing():  # where one example stands for the batch
      x_BND = constraints.over_tokens(x_BND)
    with constraints.in_loop(self.rolled):
      y_BND = self.make_attention()(LayerNorm(name='norm1')(x_BND))
      x_BND = x_BND + self.branch(y_BND, 'scale1', drop_rate)
      y_BND = self.make_mlp()(LayerNorm(name='norm2')(x_BND), self.train)
    return x_BND + self.branch(y_BND, 'scale2', drop_rate), None

  @nn.nowrap
  def make_mlp(self) -> Mlp:
    c = self.config
    return Mlp(c.mlp, c.exact_gelu, c.dropout, c.dtype, c.mlp_kind, name='mlp')

  @nn.nowrap
  def make_attention(self) -> nn.Module:
    c = self.config
    return Attention(c.heads, c.dtype, c.fused_qkv, c.qk_norm, c.attention, name='attention')

  @nn.nowrap
  def branch(self, y_BND: Array, scale: str, drop_rate: Array | None = None) -> Array:
    """What is added to the residual stream: `y_BND` with dropout, scaled, dropped by example."""
    c = self.config
    y_BND = nn.Dropout(c.dropout, deterministic=not self.train)(y_BND)
    if c.layerscale:
      scale_D = self.param(
        scale, nn.initializers.constant(c.layerscale), (y_BND.shape[-1],), jnp.float32
      )
      y_BND = (y_BND.astype(jnp.float32) * scale_D[None, None]).astype(y_BND.dtype)
    if drop_rate is not None and self.train and self.stochastic_depth:
      y_BND = drop_examples(self.make_rng('dropout'), y_BND, drop_rate)
    return y_BND


def stacked(
  block: type[nn.Module],
  depth: int,
  unroll: Unroll,
  remat: Remat,
  *,
  initialising: bool,
  in_axes: Any = 0,
) -> Callable[..., nn.Module]:
  """`depth` layers of `block` as one module, (carry, xs) -> (carry, None).

  Parameters are stacked, leading axis L. Rolled or unrolled, and what is saved for the backward
  pass, are matters of execution: parameters and numbers stay the same.
  """
  straight = depth <= UNROLL_UP_TO if unroll == 'auto' else unroll
  if remat != 'none':
    policy = jax.checkpoint_policies.save_only_these_names(*REMAT[remat])
    # A loop hides repeated work from common-subexpression elimination; straight code does not.
    block = nn.remat(block, policy=policy, prevent_cse=straight)
  scanned = nn.scan(
    block,
    variable_axes={'params': 0, 'intermediates': 0},
    in_axes=in_axes,
    split_rngs={'params': True, 'dropout': True},
    length=depth,
    # Initialising is done once: compiling it must be short.
    unroll=depth if straight and not initialising else 1,
  )
  return functools.partial(scanned, rolled=not straight)


class Encoder(nn.Module):
  """`depth` blocks and a final LayerNorm (arXiv:2010.11929 equations 2 to 4).

  `unroll` and `remat` are explained at `stacked`. Without `final_norm` the blocks are all.
  """

  depth: int
  block: BlockConfig
  stochastic_depth: float = 0.0
  stochastic_depth_rule: Literal['linear', 'constant'] = 'linear'
  unroll: Unroll = 'auto'
  remat: Remat = 'none'
  kind: type[Block] = Block
  final_norm: bool = True

  @nn.compact
  def __call__(self, x_BND: Array, train: bool) -> Array:
    blocks = stacked(
      self.kind, self.depth, self.unroll, self.remat, initialising=self.is_initializing()
    )
    x_BND, _ = blocks(self.block, train, self.stochastic_depth > 0, name='blocks')(
      x_BND, drop_rates(self.stochastic_depth, self.stochastic_depth_rule, self.depth)
    )
    return LayerNorm(name='norm')(x_BND) if self.final_norm else x_BND


def drop_rates(rate: float, rule: Literal['linear', 'constant'], depth: int) -> Array:
  """Stochastic depth of each layer, (L,): `rate` everywhere, or growing to it from 0."""
  first = rate if rule == 'constant' else 0.0
  return jnp.linspace(first, rate, depth, dtype=jnp.float32)
