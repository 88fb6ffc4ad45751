"""Translation models: attention, causality, padding, cached steps, execution."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.models.output import Pair
from vit_jax.models.recurrent import Alignment, Memory, Recurrent
from vit_jax.models.texts import BEGIN, PAD, EncoderDecoderOptions, RNNOptions, Texts
from vit_jax.models.transformer import Transformer

V, S, T = 11, 8, 7


def transformer(**options):
  sizes = dict(width=16, depth=2, mlp=24, heads=2, mlp_kind='relu')
  return Transformer(V, EncoderDecoderOptions(**(sizes | options)), Texts(V))


def rnn(**options):
  return Recurrent(V, RNNOptions(**(dict(width=16, depth=2) | options)), Texts(V))


TRANSFORMERS = {
  'post unrolled': transformer(),
  'post rolled': transformer(unroll=False, tied='none', mlp_kind='swiglu'),
  'pre unrolled': transformer(norm='pre', tied='target', fused_qkv=False, layerscale=0.5),
  'pre rolled': transformer(norm='pre', unroll=False, mlp_kind='gelu'),
}
RNNS = {
  'gru none after': rnn(alignment='none'),
  'gru dot before': rnn(reset='before', tied='all'),
  'gru dot after': rnn(),
  'gru additive before': rnn(alignment='additive', reset='before', tied='target'),
  'lstm none': rnn(cell='lstm', alignment='none'),
  'lstm dot': rnn(cell='lstm', alignment='dot'),
  'lstm additive': rnn(cell='lstm', alignment='additive', tied='all'),
}
MODELS = TRANSFORMERS | RNNS
DIVERSE = ('post unrolled', 'pre rolled', 'gru none after', 'gru additive before', 'lstm dot')
ALL = [pytest.param(name, marks=[pytest.mark.slow] * (name not in DIVERSE)) for name in MODELS]


def pair_of(lengths, source=S, target=T):
  """Sentences of the same tokens whatever they are padded to; `lengths` are of (source, target)."""
  rng = np.random.default_rng(0)
  tokens_BM = rng.integers(4, V, (len(lengths), 2, 32))
  source_BS, target_BT = tokens_BM[:, 0, :source], tokens_BM[:, 1, :target]
  target_BT[:, 0] = BEGIN
  for row, (s, t) in enumerate(lengths):
    source_BS[row, s:], target_BT[row, t:] = PAD, PAD
  return Pair(jnp.asarray(source_BS, jnp.int32), jnp.asarray(target_BT, jnp.int32))


LENGTHS = [(7, 6), (4, 5), (5, 3)]
PAIR = pair_of(LENGTHS)


@functools.cache
def variables_of(model):
  """Random, so that no parameter is 0 or 1."""
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), PAIR, train=False))
  rng = np.random.default_rng(1)

  def value(path, leaf):
    mean = 1 if path[-1].key == 'scale' else 0
    return jnp.asarray(rng.normal(mean, 0.35, leaf.shape), jnp.float32)

  return jax.tree_util.tree_map_with_path(value, shapes)


@functools.cache
def forward(model):
  """pair -> TranslationOutput."""
  variables = variables_of(model)
  return jax.jit(lambda pair: model.apply(variables, pair, train=False))


@functools.cache
def stepwise(model):
  """pair -> (logits_BTV of cached steps, the memory, prefixes before each step).

  With room for more tokens than there are, as a search has.
  """
  variables = variables_of(model)

  def run(pair):
    tokens = pair.target_BT.shape[1]
    memory, first = model.apply(variables, pair.source_BS, tokens + 2, method='begin')

    def step(prefix, xs):
      new, logits_BV = model.apply(variables, memory, prefix, *xs, method='step')
      return new, (logits_BV, prefix)

    _, (logits_TBV, prefixes) = jax.lax.scan(step, first, (pair.target_BT.T, jnp.arange(tokens)))
    return jnp.moveaxis(logits_TBV, 0, 1), memory, prefixes

  return jax.jit(run)


# The attention of the course


def softmax(score_BS, mask_BS):
  """Over the real tokens."""
  weights_BS = np.where(mask_BS, np.exp(score_BS - score_BS.max(axis=1, keepdims=True)), 0)
  return weights_BS / weights_BS.sum(axis=1, keepdims=True)


def dot_attention(h_BSH, s_BH, mask_BS, params):
  """alpha_ij = softmax_j <h_j, s_{i-1}> and c_i = sum_j alpha_ij h_j."""
  alpha_BS = softmax(np.einsum('bsh,bh->bs', h_BSH, s_BH), mask_BS)
  return alpha_BS, np.einsum('bs,bsh->bh', alpha_BS, h_BSH)


def additive_attention(h_BSH, s_BH, mask_BS, params):
  """alpha_ij = softmax_j v tanh(W s_{i-1} + U h_j)."""
  Ws_BH = s_BH @ params['query']['kernel'] + params['query']['bias']
  Uh_BSH = h_BSH @ params['key']['kernel'] + params['key']['bias']
  alpha_BS = softmax(np.tanh(Ws_BH[:, None] + Uh_BSH) @ params['score'], mask_BS)
  return alpha_BS, np.einsum('bs,bsh->bh', alpha_BS, h_BSH)


PLAIN = {'dot': dot_attention, 'additive': additive_attention}


@pytest.mark.parametrize('kind', PLAIN)
def test_alignment_against_numpy(kind):
  model = RNNS[f'lstm {kind}']
  params = variables_of(model)['params'].get('alignment', {})
  rng = np.random.default_rng(2)
  h_BSH, s_BH = rng.normal(size=(3, S, 16)), rng.normal(size=(3, 16))
  mask_BS = np.arange(S) < np.array([[S], [3], [1]])
  alignment, outputs_BSH = Alignment(model.options), jnp.asarray(h_BSH, jnp.float32)
  keys_BSH = alignment.apply({'params': params}, outputs_BSH, method='keys')
  memory = Memory(outputs_BSH, keys_BSH, jnp.asarray(mask_BS))
  got = alignment.apply({'params': params}, jnp.asarray(s_BH, jnp.float32), memory)
  expected = PLAIN[kind](h_BSH, s_BH, mask_BS, jax.tree.map(np.float64, params))
  for ours, plain in zip(got, expected, strict=True):
    assert np.abs(plain).max() > 0.5
    np.testing.assert_allclose(ours, plain, atol=1e-6, rtol=0)


@pytest.mark.parametrize('name', ['gru dot before', 'lstm additive'])
def test_weights_of_a_model_are_those_of_the_state_before(name):
  """At prediction i of s_{i-1}, the state after the tokens before token i, and of real tokens."""
  model, mask_BS = RNNS[name], np.asarray(PAIR.source_BS != PAD)
  params = variables_of(model)['params'].get('alignment', {})
  attention_BTS = np.asarray(forward(model)(PAIR).attention_BTS)
  assert attention_BTS.dtype == np.float32 and attention_BTS.shape == (3, T, S)
  _, memory, prefixes = stepwise(model)(PAIR)
  plain = functools.partial(PLAIN[model.options.alignment], params=jax.tree.map(np.float64, params))
  for t, state_BH in enumerate(prefixes.states[-1][0]):
    alpha_BS, _ = plain(np.float64(memory.outputs_BSH), np.float64(state_BH), mask_BS)
    np.testing.assert_allclose(attention_BTS[:, t], alpha_BS, atol=1e-6, rtol=0)
  assert (attention_BTS[~np.broadcast_to(mask_BS[:, None], attention_BTS.shape)] == 0).all()
  assert np.abs(attention_BTS[:, 0] - attention_BTS[:, -1]).max() > 1e-3


@pytest.mark.parametrize('name', ['gru dot before', 'lstm additive'])
def test_the_posterior_is_bayes_rule_over_the_source(name):
  """alpha_ij times the softmax of logits from [s_i; h_j] at token i, over its sum."""
  model = RNNS[name]
  bound = model.bind(variables_of(model))
  target_BT = jnp.roll(PAIR.target_BT, -1, axis=1)
  memory, seen_BTR, alpha_BTS = bound._over(PAIR, False)
  product_BTS = np.empty(alpha_BTS.shape)
  for j in range(S):
    seen_BTR = seen_BTR.at[..., model.options.width :].set(memory.outputs_BSH[:, j : j + 1])
    probability_BTV = np.asarray(jax.nn.softmax(bound._logits(seen_BTR, False)))
    right_BT = np.take_along_axis(probability_BTV, np.asarray(target_BT)[..., None], axis=2)[..., 0]
    product_BTS[..., j] = alpha_BTS[..., j] * right_BT
  expected_BTS = product_BTS / product_BTS.sum(axis=2, keepdims=True)
  found_BTS = model.apply(variables_of(model), PAIR, target_BT, method='posterior')
  np.testing.assert_allclose(found_BTS, expected_BTS, atol=1e-5, rtol=0)
  assert np.abs(found_BTS - alpha_BTS).max() > 0.01


@pytest.mark.parametrize('name', ['gru none after', 'post unrolled'])
def test_models_without_alignment_say_so(name):
  assert forward(MODELS[name])(PAIR).attention_BTS is None


# What a prediction depends on


@pytest.mark.parametrize('name', ALL)
def test_causality(name):
  """Another target token t changes no logit before it, to the last bit, and that of t."""
  run = forward(MODELS[name])
  logits_BTV = np.asarray(run(PAIR).logits_BTV)
  assert logits_BTV.dtype == np.float32 and np.std(logits_BTV) > 0.1
  for t in range(T):
    other_BT = PAIR.target_BT.at[:, t].set(4 + (PAIR.target_BT[:, t] + 1) % (V - 4))
    other_BTV = np.asarray(run(PAIR._replace(target_BT=other_BT)).logits_BTV)
    np.testing.assert_array_equal(other_BTV[:, :t], logits_BTV[:, :t])
    assert (np.abs(other_BTV[:, t] - logits_BTV[:, t]).max(axis=-1) > 1e-3).all()


@pytest.mark.parametrize('name', ALL)
def test_padding(name):
  """A sentence has the same logits and memory alone, without any, as in a padded batch."""
  run = forward(MODELS[name])
  assert (PAIR.source_BS == PAD).any(axis=1).all() and (PAIR.target_BT == PAD).any(axis=1).all()
  batch, (s, t) = run(PAIR), LENGTHS[1]
  alone = run(Pair(PAIR.source_BS[1:2, :s], PAIR.target_BT[1:2, :t]))
  np.testing.assert_allclose(alone.logits_BTV[0], batch.logits_BTV[1, :t], atol=1e-5, rtol=0)
  np.testing.assert_allclose(alone.memory_BSD[0], batch.memory_BSD[1, :s], atol=1e-5, rtol=0)


@pytest.mark.parametrize('name', ALL)
def test_first_source_token(name):
  """It matters to its own sentence, and to no other."""
  run = forward(MODELS[name])
  other_BS = PAIR.source_BS.at[1, 0].set(4 + (PAIR.source_BS[1, 0] + 1) % (V - 4))
  got_BTV, batch_BTV = (
    np.asarray(run(pair).logits_BTV) for pair in (PAIR._replace(source_BS=other_BS), PAIR)
  )
  assert (np.abs(got_BTV[1] - batch_BTV[1]).max(axis=-1) > 1e-4).all()
  np.testing.assert_array_equal(got_BTV[[0, 2]], batch_BTV[[0, 2]])


@pytest.mark.parametrize('name', ALL)
def test_cached_steps_are_the_full_pass(name):
  model = MODELS[name]
  logits_BTV, _, _ = stepwise(model)(PAIR)
  np.testing.assert_allclose(logits_BTV, forward(model)(PAIR).logits_BTV, atol=1e-5, rtol=0)


# Gradients and execution


def loss_of(model, pair, weights_B, variables, train=False):
  """Sum of the losses of all real tokens but the first."""
  out = model.apply(variables, pair, train=train, rngs={'dropout': jax.random.key(3)})
  logp_BTV, labels_BT = jax.nn.log_softmax(out.logits_BTV[:, :-1]), pair.target_BT[:, 1:]
  logp_BT = jnp.take_along_axis(logp_BTV, labels_BT[:, :, None], axis=-1)[:, :, 0]
  return -jnp.sum(jnp.where(labels_BT != PAD, logp_BT, 0.0) * weights_B[:, None])


def assert_same_trees(got, expected):
  """Relative to the largest number of each leaf, or to 1 % of the largest of all."""
  largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
  assert jax.tree.structure(got) == jax.tree.structure(expected)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
    scale = max(float(jnp.abs(b).max()), 0.01 * largest)
    np.testing.assert_allclose(a, b, atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize('name', ['pre rolled', 'gru additive before', 'lstm dot'])
def test_gradients_with_rows_of_padding(name):
  """They are finite with an empty source, and are those without the rows that are all padding."""
  model, empty = MODELS[name], (0, T)
  variables = variables_of(model)
  grad = jax.jit(lambda *batch: jax.grad(functools.partial(loss_of, model, *batch))(variables))
  padded, full = (pair_of([*LENGTHS, empty, last]) for last in ((0, 0), (S, T)))
  assert (padded.source_BS[3:] == PAD).all() and (padded.target_BT[4, 1:] == PAD).all()
  padded = padded._replace(target_BT=padded.target_BT.at[4].set(PAD))
  got, expected = grad(padded, jnp.ones(5)), grad(full, jnp.ones(5).at[4].set(0))
  for leaf in jax.tree.leaves(got):
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0
  assert_same_trees(got, expected)


def in_bfloat16(model):
  return model.clone(options=dataclasses.replace(model.options, dtype='bfloat16'))


@pytest.mark.parametrize('name', ['post rolled', 'gru additive before', 'lstm dot'])
def test_bfloat16_is_near_float32_and_not_equal(name):
  model = MODELS[name]
  variables = variables_of(model)
  out = jax.jit(lambda pair: in_bfloat16(model).apply(variables, pair, train=False))(PAIR)
  assert out.memory_BSD.dtype == jnp.bfloat16 and out.logits_BTV.dtype == jnp.float32
  expected_BTV = forward(model)(PAIR).logits_BTV
  distance = jnp.linalg.norm(out.logits_BTV - expected_BTV) / jnp.linalg.norm(expected_BTV)
  assert 1e-4 < distance < 0.03


@pytest.mark.parametrize(
  'name', ['post rolled', 'pre unrolled', 'gru none after', 'gru additive before', 'lstm dot']
)
def test_strict_promotion_forward_and_backward(name):
  model = in_bfloat16(MODELS[name])
  loss = functools.partial(loss_of, model, PAIR, jnp.ones(3), train=True)
  with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
    grads = jax.eval_shape(jax.grad(loss), variables_of(MODELS[name]))
  assert all(grad.dtype == jnp.float32 for grad in jax.tree.leaves(grads))


def lowered(**options):
  """The program of a training step's loss and gradient."""
  loss = functools.partial(loss_of, transformer(**options), PAIR, jnp.ones(3), train=True)
  return jax.jit(jax.value_and_grad(loss)).lower(variables_of(MODELS['post unrolled']))


def test_remat_changes_no_number():
  """Chance included; it computes products again."""
  variables = variables_of(MODELS['post unrolled'])
  off, on = (lowered(stochastic_depth=0.3, unroll=False, remat=remat) for remat in ('none', 'full'))
  (loss, grads), (other_loss, other) = (program.compile()(variables) for program in (off, on))
  assert float(other_loss) == pytest.approx(float(loss), rel=1e-6)
  assert_same_trees(other, grads)
  few, many = (program.as_text().count('stablehlo.dot_general') for program in (off, on))
  assert few < many


def test_a_loop_over_the_layers_changes_no_number():
  model, rolled = transformer(), transformer(unroll=False)
  few, many = (
    forward(model).lower(PAIR).as_text().count('stablehlo.while') for model in (model, rolled)
  )
  assert few == 0 and many == 2
  np.testing.assert_allclose(
    forward(rolled)(PAIR).logits_BTV, forward(model)(PAIR).logits_BTV, atol=1e-5, rtol=0
  )
