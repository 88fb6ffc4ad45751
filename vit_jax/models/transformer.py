"""The encoder-decoder Transformer (Vaswani et al. 2017, arXiv:1706.03762).

The encoder is ViT's; a block of the decoder is ViT's too, with a second attention between the two
branches, to what the encoder says.
"""

import math
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models import constraints
from vit_jax.models.attention import Attention, Keys
from vit_jax.models.blocks import Block, Encoder, Mlp, drop_rates, stacked
from vit_jax.models.layers import LayerNorm
from vit_jax.models.output import Pair, TranslationOutput
from vit_jax.models.texts import PAD, EncoderDecoderOptions, Texts
from vit_jax.models.words import Lexicon, sincos

Array = jax.Array


class Memory(NamedTuple):
  """What a decoder knows of the sources: with L layers, keys of (L, B, S, A, E)."""

  keys: Keys
  mask_BANS: Array

  def take(self, rows_B: Array) -> Self:
    """Of other rows of the batch."""
    keys = jax.tree.map(lambda keys: jnp.take(keys, rows_B, axis=1), self.keys)
    return self._replace(keys=keys, mask_BANS=self.mask_BANS[rows_B])


class Prefix(NamedTuple):
  """What a decoder remembers of the tokens so far: keys of (L, B, T, A, E)."""

  keys: Keys

  def take(self, rows_B: Array) -> Self:
    """Of other rows of the batch."""
    keys = jax.tree.map(lambda keys: jnp.take(keys, rows_B, axis=1), self.keys)
    return self._replace(keys=keys)


class Layer(NamedTuple):
  """Keys of earlier calls for one layer, or for all along a leading axis; None for none."""

  prefix: Keys | None = None
  memory: Keys | None = None


class DecoderBlock(Block):
  """Masked self-attention, attention to the encoder's output, and the MLP (section 3.1).

  As in `Block`, with the parameters `cross`, `norm3` and `scale3` of the second attention.
  """

  keep_keys: bool = False  # else the output alone is returned

  @nn.compact
  def __call__(
    self,
    x_BTD: Array,
    xs: tuple[Array, Layer],
    memory_BSD: Array | None,
    causal_BATT: Array,
    mask_BATS: Array,
    position: Array | int,
  ) -> tuple[Array, Layer]:
    """Returns the block's output, and the keys to decode on with.

    Args:
      xs: the rate of `Block`, and keys of earlier calls.
      memory_BSD: None where `xs` has its keys.
      causal_BATT, mask_BATS: which tokens each token attends to, of target and source.
      position: of the first of the tokens in `x_BTD`.
    """
    drop_rate, before = xs
    if not self.is_initializing():
      x_BTD = constraints.over_tokens(x_BTD)
    attention = Attention(self.options, name='attention')
    cross = Attention(self.options, cross=True, name='cross')
    mlp, after = Mlp(self.options, name='mlp'), {}

    def attend(x_BTD: Array) -> Array:
      out_BTD, after['prefix'] = attention.with_keys(
        x_BTD, causal_BATT, keys=before.prefix, position=position
      )
      return out_BTD

    def look(x_BTD: Array) -> Array:
      out_BTD, after['memory'] = cross.with_keys(x_BTD, mask_BATS, memory_BSD, before.memory)
      return out_BTD

    with constraints.in_loop(self.rolled):
      x_BTD = self.add('1', attend, x_BTD, drop_rate)
      x_BTD = self.add('3', look, x_BTD, drop_rate)
      x_BTD = self.add('2', lambda x_BTD: mlp(x_BTD, self.train), x_BTD, drop_rate)
    return x_BTD, Layer(**after) if self.keep_keys else Layer()


class Decoder(nn.Module):
  """The blocks and, before the output of a pre-norm decoder, a LayerNorm."""

  options: EncoderDecoderOptions

  @nn.compact
  def __call__(
    self,
    x_BTD: Array,
    memory_BSD: Array | None,
    causal_BATT: Array,
    mask_BATS: Array,
    train: bool,
    before: Layer | None = None,
    position: Array | int = 0,
  ) -> tuple[Array, Layer]:
    o = self.options
    blocks = stacked(
      DecoderBlock,
      o.depth,
      o,
      initializing=self.is_initializing(),
      in_axes=(0, *(nn.broadcast,) * 4),
    )
    x_BTD, after = blocks(
      o, train, o.stochastic_depth > 0, keep_keys=before is not None, name='blocks'
    )(
      x_BTD,
      (drop_rates(o.stochastic_depth, 'linear', o.depth), before or Layer()),
      memory_BSD,
      causal_BATT,
      mask_BATS,
      position,
    )
    return x_BTD if o.post_norm else LayerNorm(name='norm')(x_BTD), after


class Transformer(nn.Module):
  """An encoder-decoder Transformer.

  Parameters are float32. The tree: lexicon/{source/table, target/table, head/{kernel, bias}},
  encoder/{blocks, norm} as in a ViT, decoder/blocks/{norm1, attention, norm3, cross/{query, kv,
  out}, norm2, mlp} with a leading axis L, decoder/norm. With norm 'post' there are no `norm` of
  encoder and decoder.

  Attributes:
    num_classes: V, the size of the target's vocabulary.
    inputs: the source's.
  """

  num_classes: int
  options: EncoderDecoderOptions
  inputs: Texts = Texts()

  def setup(self):
    o = self.options
    self.lexicon = Lexicon(self.inputs.vocabulary, self.num_classes, o.width, o.tied, o.dtype)
    self.encoder = Encoder(o, 'linear')
    self.decoder = Decoder(o)
    self.dropout = nn.Dropout(o.dropout)

  def __call__(self, pair: Pair, *, train: bool) -> TranslationOutput:
    """One forward pass with the right translations (teacher forcing).

    Args:
      train: turns on dropout and stochastic depth, which take `rngs={'dropout': key}`.
    """
    memory_BSD, mask_BANS = self._encode(pair.source_BS, train)
    length = pair.target_BT.shape[1]
    causal_11TT = jnp.tril(jnp.ones((1, 1, length, length), bool))
    x_BTD = self._placed(self.lexicon.of_target(pair.target_BT), train)
    x_BTD, _ = self.decoder(x_BTD, memory_BSD, causal_11TT, mask_BANS, train)
    return TranslationOutput(self.lexicon.logits(x_BTD), memory_BSD)

  def begin(self, source_BS: Array, length: int) -> tuple[Memory, Prefix]:
    """What `step` takes to translate sentences into at most `length` tokens."""
    o, batch = self.options, len(source_BS)
    memory_BSD, mask_BANS = self._encode(source_BS, False)
    shape = (o.depth, batch, length, o.heads, o.width // o.heads)
    empty = jnp.zeros(shape, jnp.dtype(o.dtype))
    # The keys of the memory come from a pass over one token, whose own keys are written again.
    _, after = self.decoder(
      jnp.zeros((batch, 1, o.width), jnp.dtype(o.dtype)),
      memory_BSD,
      jnp.ones((1, 1, 1, length), bool),
      mask_BANS,
      False,
      Layer(Keys(empty, empty)),
    )
    assert after.memory is not None
    return Memory(after.memory, mask_BANS), Prefix(Keys(empty, empty))

  def step(
    self, memory: Memory, prefix: Prefix, token_B: Array, position: Array
  ) -> tuple[Prefix, Array]:
    """(the prefix with one token more, logits_BV of the next one).

    Args:
      position: of the token, from 0: that of BEGIN.
    """
    length = prefix.keys.k_BTAE.shape[2]
    x_B1D = self._placed(self.lexicon.of_target(token_B[:, None]), False, position, length)
    seen_111T = (jnp.arange(length) <= position)[None, None, None]
    before = Layer(prefix.keys, memory.keys)
    x_B1D, after = self.decoder(x_B1D, None, seen_111T, memory.mask_BANS, False, before, position)
    assert after.prefix is not None
    return Prefix(after.prefix), self.lexicon.logits(x_B1D)[:, 0]

  def _encode(self, source_BS: Array, train: bool) -> tuple[Array, Array]:
    """(memory_BSD, mask of its padding (B, 1, 1, S))."""
    mask_B11S = (source_BS != PAD)[:, None, None]
    x_BSD = self._placed(self.lexicon.of_source(source_BS), train)
    return self.encoder(x_BSD, train, mask_B11S), mask_B11S

  def _placed(
    self, x_BTD: Array, train: bool, position: Array | int = 0, length: int | None = None
  ) -> Array:
    """Embeddings times sqrt(D) (section 3.4) with their positions; dropout (section 5.4)."""
    tokens, width = x_BTD.shape[1:]
    table_TD = jnp.asarray(sincos(length or tokens, width))
    table_TD = jax.lax.dynamic_slice_in_dim(table_TD, position, tokens)
    x_BTD = x_BTD * math.sqrt(width) + table_TD[None].astype(x_BTD.dtype)
    return self.dropout(x_BTD.astype(jnp.dtype(self.options.dtype)), deterministic=not train)
