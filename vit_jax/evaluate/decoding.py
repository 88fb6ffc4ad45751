"""Decoding: the translation that a model prefers, by beam search over cached states."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vit_jax.models.texts import BEGIN, END, PAD

Array = jax.Array


class Beams(NamedTuple):
  """Hypotheses of each source while they grow.

  Attributes:
    alive_BKT, alive_BK: tokens and log probabilities of those without an END, best first.
    done_BKT, done_BK: tokens and scores of the best that have one; -inf where there is none yet.
    prefix: what the model remembers of those alive, in (B K) rows.
  """

  step: Array
  alive_BKT: Array
  alive_BK: Array
  done_BKT: Array
  done_BK: Array
  prefix: Any


def length_penalty(length: Array | int, alpha: float) -> Array:
  """((5 + length) / 6) ** alpha, which divides log probabilities (arXiv:1609.08144 eq. 14)."""
  return ((5.0 + jnp.asarray(length, jnp.float32)) / 6.0) ** alpha


def translate_fn(
  model: Any, *, length: int, beam: int = 1, alpha: float = 0.6
) -> Callable[[Any, Array], tuple[Array, Array]]:
  """(variables, source_BS) -> (tokens_BT, score_B): the best of `beam` hypotheses.

  A search ends when no hypothesis that is alive could still win. One beam is greedy decoding.

  Args:
    length: T, the most tokens of a translation, END included.
    alpha: of the length penalty; 0 compares log probabilities.

  Returns:
    A function to jit. Tokens end with END where one was found, and are PAD after it.
  """

  def translate(variables: Any, source_BS: Array) -> tuple[Array, Array]:
    B, K = len(source_BS), beam
    memory, prefix = model.apply(variables, source_BS, length, method='begin')
    rows_M = jnp.repeat(jnp.arange(B), K)
    memory, prefix = memory.take(rows_M), prefix.take(rows_M)

    def grow(beams: Beams) -> Beams:
      t, before = beams.step, jnp.maximum(beams.step - 1, 0)
      last_BK = jax.lax.dynamic_index_in_dim(beams.alive_BKT, before, axis=2, keepdims=False)
      token_M = jnp.where(t == 0, BEGIN, last_BK).reshape(-1)
      prefix, logits_MV = model.apply(variables, memory, beams.prefix, token_M, t, method='step')
      V = logits_MV.shape[-1]
      logp_MV = jax.nn.log_softmax(logits_MV).at[:, jnp.array([PAD, BEGIN])].set(-jnp.inf)
      logp_BC = (beams.alive_BK[:, :, None] + logp_MV.reshape(B, K, V)).reshape(B, K * V)
      # Of 2 K candidates at least K do not end here. A greedy search has one: it ends where END is
      # the best token, and nowhere else.
      best_B2, index_B2 = jax.lax.top_k(logp_BC, min(2 * K, K * V) if K > 1 else 1)
      parent_B2, next_B2 = index_B2 // V, index_B2 % V
      tokens_B2T = jnp.take_along_axis(beams.alive_BKT, parent_B2[:, :, None], axis=1)
      tokens_B2T = jax.lax.dynamic_update_index_in_dim(tokens_B2T, next_B2, t, axis=2)
      ends_B2 = next_B2 == END
      scores_BD = jnp.concatenate(
        [beams.done_BK, jnp.where(ends_B2, best_B2 / length_penalty(t + 1, alpha), -jnp.inf)],
        axis=1,
      )
      done_BK, chosen_BK = jax.lax.top_k(scores_BD, K)
      done_BKT = jnp.take_along_axis(
        jnp.concatenate([beams.done_BKT, tokens_B2T], axis=1), chosen_BK[:, :, None], axis=1
      )
      alive_BK, chosen_BK = jax.lax.top_k(jnp.where(ends_B2, -jnp.inf, best_B2), K)
      alive_BKT = jnp.take_along_axis(tokens_B2T, chosen_BK[:, :, None], axis=1)
      parent_BK = jnp.take_along_axis(parent_B2, chosen_BK, axis=1)
      rows_M = (jnp.arange(B)[:, None] * K + parent_BK).reshape(-1)
      prefix = prefix.take(rows_M) if K > 1 else prefix
      return Beams(t + 1, alive_BKT, alive_BK, done_BKT, done_BK, prefix)

    def unfinished(beams: Beams) -> Array:
      # Log probabilities only fall, and the longest translation has the mildest penalty.
      bound_B = beams.alive_BK[:, 0] / length_penalty(length, alpha)
      return (beams.step < length) & jnp.any(bound_B > beams.done_BK[:, -1])

    empty_BKT = jnp.full((B, K, length), PAD, jnp.int32)
    none_BK = jnp.full((B, K), -jnp.inf)
    first = Beams(jnp.int32(0), empty_BKT, none_BK.at[:, 0].set(0.0), empty_BKT, none_BK, prefix)
    beams = jax.lax.while_loop(unfinished, grow, first)
    found_B = beams.done_BK[:, 0] > -jnp.inf
    tokens_BT = jnp.where(found_B[:, None], beams.done_BKT[:, 0], beams.alive_BKT[:, 0])
    longest = beams.alive_BK[:, 0] / length_penalty(length, alpha)
    return tokens_BT, jnp.where(found_B, beams.done_BK[:, 0], longest)

  return translate
