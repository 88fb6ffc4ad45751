"""Beam search against an exhaustive one and against a plain one over full forward passes."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.evaluate.decoding import length_penalty, translate_fn
from vit_jax.models.output import Pair
from vit_jax.models.recurrent import Recurrent
from vit_jax.models.texts import BEGIN, END, PAD, EncoderDecoderOptions, RNNOptions, Texts
from vit_jax.models.transformer import Transformer

SMALL = dict(width=16, depth=2, mlp=32, heads=2, mlp_kind='relu')
NAMES = ('post', 'pre', 'gru', 'lstm')
CASES = [  # with alpha
  ('post', 0.6),
  ('gru', 0.0),
  *(
    pytest.param(name, alpha, marks=pytest.mark.slow)
    for name, alpha in (
      ('pre', 0.6),
      ('lstm', 0.6),
      ('gru', 0.6),
      ('post', 0.0),
    )
  ),
]
SEEDS = range(3)


@functools.cache
def model_of(name, V):
  if name in ('post', 'pre'):
    options = EncoderDecoderOptions(**SMALL, norm=name, unroll=False, tied='none')
    return Transformer(V, options, Texts(V))
  alignment = 'dot' if name == 'gru' else 'none'
  return Recurrent(V, RNNOptions(cell=name, width=16, depth=2, alignment=alignment), Texts(V))


def sources_of(V):
  """Three sentences, two of them padded."""
  source_BS = np.random.default_rng(0).integers(4, V, (3, 6))
  source_BS[1, 3:] = source_BS[2, 5:] = PAD
  return jnp.asarray(source_BS, jnp.int32)


@functools.cache
def shapes_of(name, V):
  pair = Pair(sources_of(V), jnp.ones((3, 2), jnp.int32))
  return jax.eval_shape(lambda: model_of(name, V).init(jax.random.key(0), pair, train=False))


def variables_of(name, V, seed, end=0.0):
  """Random; `end` is added to the logits of END."""
  rng = np.random.default_rng([seed, V])
  deviation = 0.5 if name in ('post', 'pre') else 0.8

  def value(path, leaf):
    mean = 1 if path[-1].key == 'scale' else 0
    return rng.normal(mean, deviation, leaf.shape).astype(np.float32)

  variables = jax.tree_util.tree_map_with_path(value, shapes_of(name, V))
  variables['params']['lexicon']['head']['bias'][END] += end
  return variables


@functools.cache
def translate_of(name, V, length, beam, alpha):
  return jax.jit(translate_fn(model_of(name, V), length=length, beam=beam, alpha=alpha))


@functools.cache
def full_pass(name, V):
  """(variables, source_BS, target_BT) -> log probabilities (B, T, V), of a pass without a cache."""
  model = model_of(name, V)

  def run(variables, source_BS, target_BT):
    return jax.nn.log_softmax(
      model.apply(variables, Pair(source_BS, target_BT), train=False).logits_BTV
    )

  return jax.jit(lambda *args: run(*args))


def read(tokens):
  """What was translated, up to END."""
  tokens = [int(token) for token in tokens]
  return tokens[: tokens.index(END) + 1] if END in tokens else tokens


# Exhaustive search

V, T = 6, 4
ENDED = [
  (*words, END)
  for length in range(T)
  for words in itertools.product([token for token in range(END + 1, V)], repeat=length)
]
WIDE = 3 ** (T - 1) * 4  # beams: as many as there are candidates for the last token


def exhaustive(name, variables, source_1S, alpha):
  """(the best sequence, its score) of all that end within T tokens, scored in one pass."""
  target_NT = np.full((len(ENDED), T), PAD)
  for row, sequence in enumerate(ENDED):
    target_NT[row, : len(sequence)] = (BEGIN, *sequence[:-1])
  sources_NS = jnp.repeat(source_1S, len(ENDED), axis=0)
  logp_NTV = np.asarray(full_pass(name, V)(variables, sources_NS, jnp.asarray(target_NT)))
  scores = [
    sum(logp_TV[t, token] for t, token in enumerate(sequence)) / ((5 + len(sequence)) / 6) ** alpha
    for sequence, logp_TV in zip(ENDED, logp_NTV, strict=True)
  ]
  return list(ENDED[np.argmax(scores)]), max(scores)


@pytest.mark.parametrize('name, alpha', CASES)
def test_the_widest_beam_is_exhaustive_search(name, alpha):
  assert len(ENDED) == sum(3**length for length in range(T)) == 40
  found = []
  for seed in SEEDS:
    variables = variables_of(name, V, seed, end=-5.0)
    tokens_BT, score_B = translate_of(name, V, T, WIDE, alpha)(variables, sources_of(V))
    for row, source_S in enumerate(sources_of(V)):
      expected, score = exhaustive(name, variables, source_S[None], alpha)
      assert read(tokens_BT[row]) == expected
      assert float(score_B[row]) == pytest.approx(score, rel=1e-5, abs=1e-5)
      found.append(tuple(expected))
  assert len(set(found)) > 1


# Search over full passes

WORDS, LONG = 12, 9


def plain_search(name, variables, source_1S, beam, alpha):
  """(tokens, score): beam search that runs to the last token, with nothing kept between steps."""
  penalty = lambda length: ((5 + length) / 6) ** alpha  # noqa: E731
  alive, done = [((), 0.0)], []
  for t in range(LONG):
    target_KT = np.full((beam, LONG), PAD)
    target_KT[:, 0] = BEGIN
    for k, (words, _) in enumerate(alive):
      target_KT[k, 1 : t + 1] = words
    sources_KS = jnp.repeat(source_1S, beam, axis=0)
    logp_KTV = np.asarray(full_pass(name, WORDS)(variables, sources_KS, jnp.asarray(target_KT)))
    candidates = [
      ((*words, token), total + logp_KTV[k, t, token])
      for k, (words, total) in enumerate(alive)
      for token in range(END, WORDS)
    ]
    candidates = sorted(candidates, key=lambda one: -one[1])[: 2 * beam]
    done += [(words, total / penalty(t + 1)) for words, total in candidates if words[-1] == END]
    done = sorted(done, key=lambda one: -one[1])[:beam]
    alive = [one for one in candidates if one[0][-1] != END][:beam]
  words, score = done[0] if done else (alive[0][0], alive[0][1] / penalty(LONG))
  return list(words), score


def greedy(name, variables, source_BS):
  """The best token after the best tokens, until END, of each source."""
  target_BT = np.full((len(source_BS), LONG + 1), PAD)
  target_BT[:, 0] = BEGIN
  for t in range(LONG):
    read_BT = jnp.asarray(target_BT[:, :LONG])
    logp_BTV = np.asarray(full_pass(name, WORDS)(variables, source_BS, read_BT))
    target_BT[:, t + 1] = END + np.argmax(logp_BTV[:, t, END:], axis=-1)
  return [read(tokens) for tokens in target_BT[:, 1:]]


@pytest.mark.parametrize('name, alpha', CASES)
def test_cached_search_is_the_plain_one(name, alpha):
  """The plain one has no early end, and gives the same."""
  lengths = []
  for seed in SEEDS:
    variables = variables_of(name, WORDS, seed)
    translate = translate_of(name, WORDS, LONG, 3, alpha)
    tokens_BT, score_B = translate(variables, sources_of(WORDS))
    for row, source_S in enumerate(sources_of(WORDS)):
      expected, score = plain_search(name, variables, source_S[None], 3, alpha)
      assert read(tokens_BT[row]) == expected
      assert float(score_B[row]) == pytest.approx(score, rel=1e-5, abs=1e-5)
      lengths.append(len(expected))
  assert len(set(lengths)) > 1


@pytest.mark.parametrize('name', NAMES)
def test_one_beam_is_greedy(name):
  """Even where a sentence that ends earlier has a better score."""
  lengths, missed = [], 0
  for seed in SEEDS:
    variables = variables_of(name, WORDS, seed, end=2.0)
    tokens_BT, score_B = translate_of(name, WORDS, LONG, 1, 0.6)(variables, sources_of(WORDS))
    expected = greedy(name, variables, sources_of(WORDS))
    assert [read(tokens) for tokens in tokens_BT] == expected
    lengths += map(len, expected)
    _, wide_B = translate_of(name, WORDS, LONG, 3, 0.6)(variables, sources_of(WORDS))
    missed += int((np.asarray(wide_B) > np.asarray(score_B) + 1e-3).sum())
  assert len(set(lengths)) > 1 and missed


# Rules


@pytest.mark.parametrize('beam', [1, 3])
@pytest.mark.parametrize('name', NAMES)
def test_end_and_padding(name, beam):
  """Nothing but PAD follows END, before it there is neither PAD nor BEGIN, and it may not come."""
  translate = translate_of(name, WORDS, LONG, beam, 0.6)
  for seed in SEEDS:
    tokens_BT, _ = translate(variables_of(name, WORDS, seed), sources_of(WORDS))
    for tokens_T in np.asarray(tokens_BT):
      words = read(tokens_T)
      assert all(token >= END for token in words) and (tokens_T[len(words) :] == PAD).all()
      assert words[-1] == END or len(words) == LONG
  never, _ = translate(variables_of(name, WORDS, 0, end=-1e4), sources_of(WORDS))
  assert (np.asarray(never) > END).all()
  at_once, score_B = translate(variables_of(name, WORDS, 0, end=1e4), sources_of(WORDS))
  assert (np.asarray(at_once) == [END] + [PAD] * (LONG - 1)).all()
  np.testing.assert_allclose(score_B, 0, atol=1e-6)


@pytest.mark.parametrize('name, beam', [('post', 1), ('pre', 3), ('gru', 3), ('lstm', 1)])
def test_a_batch_is_each_source_alone(name, beam):
  """Though they end at different steps."""
  translate = translate_of(name, WORDS, LONG, beam, 0.6)
  for seed in SEEDS:
    variables = variables_of(name, WORDS, seed)
    tokens_BT, score_B = translate(variables, sources_of(WORDS))
    for row, source_S in enumerate(sources_of(WORDS)):
      alone_1T, score_1 = translate(variables, source_S[None])
      np.testing.assert_array_equal(alone_1T[0], tokens_BT[row])
      assert float(score_1[0]) == pytest.approx(float(score_B[row]), rel=1e-5, abs=1e-5)


def test_length_penalty():
  """arXiv:1609.08144 equation 14."""
  assert float(length_penalty(7, 0.0)) == 1
  assert float(length_penalty(7, 1.0)) == 2
  assert float(length_penalty(19, 0.5)) == 2
