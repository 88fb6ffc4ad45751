"""Recurrent encoder-decoders for translation, without and with attention.

Without it the decoder knows the last state of the encoder alone (Sutskever et al. 2014,
arXiv:1409.3215; Cho et al. 2014, arXiv:1406.1078). With it, it also sees at each step i a weighted
sum of the encoder's outputs h_j: c_i = sum_j alpha_ij h_j, alpha_ij = softmax_j of the score of h_j
and the state s_{i-1} (Bahdanau et al. 2015, arXiv:1409.0473).
"""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models.cells import Cell, State
from vit_jax.models.dense import Dense, dot
from vit_jax.models.output import Pair, TranslationOutput
from vit_jax.models.texts import PAD, RNNOptions, Texts
from vit_jax.models.words import Lexicon

Array = jax.Array
TINY = 1e-30  # is added before a logarithm


class Memory(NamedTuple):
  """What the decoder attends to."""

  outputs_BSH: Array
  keys_BSH: Array  # U h_j of additive attention, else the outputs
  mask_BS: Array

  def take(self, rows_B: Array) -> Self:
    """Of other rows of the batch."""
    return jax.tree.map(lambda x: x[rows_B], self)


class Prefix(NamedTuple):
  """The state of each layer after the tokens so far, s_{i-1}."""

  states: tuple[State, ...]

  def take(self, rows_B: Array) -> Self:
    """Of other rows of the batch."""
    return jax.tree.map(lambda x: x[rows_B], self)


class Alignment(nn.Module):
  """The weights alpha_ij of the source tokens, by 'dot' or 'additive' scores."""

  options: RNNOptions

  def setup(self):
    o = self.options
    if o.alignment == 'additive':
      init = nn.initializers.xavier_uniform()
      self.query = Dense(o.width, kernel_init=init, dtype=o.dtype)
      self.key = Dense(o.width, kernel_init=init, dtype=o.dtype)
      self.score_H = self.param('score', nn.initializers.normal(0.01), (o.width,), jnp.float32)

  def keys(self, outputs_BSH: Array) -> Array:
    """What is computed of the encoder's outputs once."""
    return self.key(outputs_BSH) if self.options.alignment == 'additive' else outputs_BSH

  def __call__(self, state_BH: Array, memory: Memory) -> tuple[Array, Array]:
    """(alpha (B, S) in float32, context (B, H))."""
    dtype = memory.keys_BSH.dtype
    if self.options.alignment == 'additive':
      mixed_BSH = jnp.tanh(self.query(state_BH)[:, None] + memory.keys_BSH)
      score_BS = jnp.sum(mixed_BSH.astype(jnp.float32) * self.score_H[None, None], axis=-1)
    else:
      scores = ((2,), (1,)), ((0,), (0,))
      score_BS = dot(memory.keys_BSH, state_BH.astype(dtype), scores, jnp.float32)
    alpha_BS = jax.nn.softmax(score_BS, axis=-1, where=memory.mask_BS)
    context_BH = dot(
      alpha_BS.astype(dtype), memory.outputs_BSH, (((1,), (1,)), ((0,), (0,))), jnp.float32
    )
    return alpha_BS, context_BH


class Recurrent(nn.Module):
  """A bidirectional encoder and a decoder that begins with the encoder's last state.

  Each prediction is made from W [s_i; c_i]. Parameters are float32. The tree:
  lexicon/{source/table, target/table, head}, forward_i and backward_i (of encoder layer i) and
  decoder_i, each {input_kernel, input_bias, recurrent_kernel, recurrent_bias}; alignment, readout.

  Attributes:
    num_classes: V, the size of the target's vocabulary.
    inputs: the source's.
  """

  num_classes: int
  options: RNNOptions
  inputs: Texts = Texts()

  def setup(self):
    o, width = self.options, self.options.width
    self.lexicon = Lexicon(self.inputs.vocabulary, self.num_classes, width, o.tied, o.dtype)

    def cells(inputs: int, width: int) -> Cell:
      return Cell(o.cell, width, inputs, o.reset, o.dtype)

    self.attends = o.alignment != 'none'
    self.forward = [cells(width, width // 2) for _ in range(o.depth)]
    self.backward = [cells(width, width // 2) for _ in range(o.depth)]
    self.decoder = [
      cells(2 * width if self.attends and i == 0 else width, width) for i in range(o.depth)
    ]
    self.readout = Dense(width, kernel_init=nn.initializers.xavier_uniform(), dtype=o.dtype)
    if self.attends:
      self.alignment = Alignment(o)
    self.dropout = nn.Dropout(o.dropout)

  def __call__(self, pair: Pair, *, train: bool) -> TranslationOutput:
    """One forward pass with the right translations (teacher forcing).

    Args:
      train: turns on dropout, which takes `rngs={'dropout': key}`.
    """
    memory, seen_BTR, alpha_BTS = self._over(pair, train)
    return TranslationOutput(self._logits(seen_BTR, train), memory.outputs_BSH, alpha_BTS)

  def posterior(self, pair: Pair, target_BT: Array) -> Array:
    """Weights of the source tokens once each target token is known, (B, T, S) float32.

    By Bayes' rule alpha_ij times the probability of token i if h_j alone were its context
    (posterior attention, Shankar and Sarawagi 2019, openreview.net/forum?id=BkltNhC9FX).
    """
    memory, seen_BTR, alpha_BTS = self._over(pair, False)
    assert alpha_BTS is not None, 'a model without attention has no weights'
    # The readout is linear: logits are a sum of what s_i says and what h_j says.
    width = self.options.width
    of_state_BTV = self._logits(seen_BTR.at[..., width:].set(0), False)
    outputs_BSR = jnp.pad(memory.outputs_BSH, ((0, 0), (0, 0), (width, 0)))
    biases_11V = self._logits(jnp.zeros_like(outputs_BSR[:1, :1]), False)
    of_source_BSV = self._logits(outputs_BSR, False) - biases_11V
    right_BTS = jnp.take_along_axis(of_state_BTV, target_BT[..., None], axis=2)
    right_BTS += jnp.take_along_axis(of_source_BSV, target_BT[:, None], axis=2).swapaxes(1, 2)
    # log sum_v exp(a_v + b_v) as a product of matrices.
    highest_BT1 = jnp.max(of_state_BTV, axis=2, keepdims=True)
    highest_BS1 = jnp.max(of_source_BSV, axis=2, keepdims=True)
    over_V = ((2,), (2,)), ((0,), (0,))
    sums_BTS = jax.lax.dot_general(
      jnp.exp(of_state_BTV - highest_BT1), jnp.exp(of_source_BSV - highest_BS1), over_V
    )
    total_BTS = jnp.log(sums_BTS + TINY) + highest_BT1 + highest_BS1.swapaxes(1, 2)
    weights_BTS = jnp.log(alpha_BTS + TINY) + right_BTS - total_BTS
    return jax.nn.softmax(weights_BTS, axis=2, where=memory.mask_BS[:, None])

  def begin(self, source_BS: Array, length: int) -> tuple[Memory, Prefix]:
    """What `step` takes to translate sentences into at most `length` tokens."""
    return self._encode(source_BS, False)

  def step(
    self, memory: Memory, prefix: Prefix, token_B: Array, position: Array
  ) -> tuple[Prefix, Array]:
    """(the prefix with one token more, logits_BV of the next one)."""
    inputs_BGH = self.decoder[0].project(self.lexicon.of_target(token_B))
    prefix, seen_BR, _ = self._advance(memory, prefix, inputs_BGH)
    return prefix, self._logits(seen_BR, False)

  def _over(self, pair: Pair, train: bool) -> tuple[Memory, Array, Array | None]:
    """(memory, [s_i; c_i] (B, T, R), alpha (B, T, S)) with the right translations."""
    memory, prefix = self._encode(pair.source_BS, train)
    x_BTD = self.dropout(self.lexicon.of_target(pair.target_BT), deterministic=not train)
    inputs_TBGH = jnp.moveaxis(self.decoder[0].project(x_BTD), 1, 0)

    def advance(prefix: Prefix, inputs_BGH: Array) -> tuple[Prefix, tuple[Array, Array | None]]:
      prefix, seen_BR, alpha_BS = self._advance(memory, prefix, inputs_BGH)
      return prefix, (seen_BR, alpha_BS)

    if self.is_initializing():  # parameters cannot be made inside of the loop
      self._advance(memory, prefix, inputs_TBGH[0])
    _, (seen_TBR, alpha_TBS) = jax.lax.scan(advance, prefix, inputs_TBGH)
    alpha_BTS = None if alpha_TBS is None else jnp.moveaxis(alpha_TBS, 0, 1)
    return memory, jnp.moveaxis(seen_TBR, 0, 1), alpha_BTS

  def _encode(self, source_BS: Array, train: bool) -> tuple[Memory, Prefix]:
    mask_BS = source_BS != PAD
    x_BSD = self.dropout(self.lexicon.of_source(source_BS), deterministic=not train)
    states = []
    for forward, backward in zip(self.forward, self.backward, strict=True):
      ahead_BSH, last = forward.over(x_BSD, mask_BS)
      back_BSH, first = backward.over(x_BSD, mask_BS, reverse=True)
      x_BSD = jnp.concatenate([ahead_BSH, back_BSH], axis=-1)
      states.append(jax.tree.map(lambda *ends: jnp.concatenate(ends, axis=-1), last, first))
    outputs_BSH = x_BSD.astype(jnp.dtype(self.options.dtype))
    keys_BSH = self.alignment.keys(outputs_BSH) if self.attends else outputs_BSH
    return Memory(outputs_BSH, keys_BSH, mask_BS), Prefix(tuple(states))

  def _advance(
    self, memory: Memory, prefix: Prefix, inputs_BGH: Array
  ) -> tuple[Prefix, Array, Array | None]:
    """(states s_i, [s_i; c_i] (B, R), alpha (B, S)) from products of the gates with the token."""
    alpha_BS, context_BH = None, None
    if self.attends:
      alpha_BS, context_BH = self.alignment(prefix.states[-1][0], memory)
      inputs_BGH = inputs_BGH + self.decoder[0].project(context_BH, self.options.width)
    states = []
    for i, (cell, state) in enumerate(zip(self.decoder, prefix.states, strict=True)):
      state = cell.step(inputs_BGH if i == 0 else cell.project(states[-1][0]), state)
      states.append(state)
    seen = [states[-1][0]] if context_BH is None else [states[-1][0], context_BH]
    return Prefix(tuple(states)), jnp.concatenate(seen, axis=-1), alpha_BS

  def _logits(self, seen: Array, train: bool) -> Array:
    """(..., R) -> (..., V) float32."""
    return self.lexicon.logits(self.dropout(self.readout(seen), deterministic=not train))
