"""The loss of a translation: per token by hand, and nothing of padding in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import losses, models
from vit_jax.config import Mesh, Optim
from vit_jax.models.output import TranslationOutput as Output
from vit_jax.models.texts import END, PAD, Texts
from vit_jax.parallel import mesh as meshes
from vit_jax.train.optim import make_optimizer
from vit_jax.train.schedules import make_schedule
from vit_jax.train.state import init_state
from vit_jax.train.step import make_train_step
from vit_jax.train.task import Translation

SOURCES, TARGETS = 11, 13  # sizes of the vocabularies
MODELS = {
  'rnn': dict(name='RNN-GRU', width=16),
  'lstm': dict(name='RNN-LSTM', width=16, alignment='additive', depth=2),
  'blind': dict(name='RNN-GRU', width=16, alignment='none'),
  'transformer': dict(
    name='Transformer-tiny', width=16, depth=2, heads=2, mlp=32, tied='none', dropout=0.0,
    unroll=False,
  ),
}  # fmt: skip


def batch_of(rows: int, length: int, seed: int = 0) -> dict[str, np.ndarray]:
  """Sentences of unlike lengths; the longest fills the batch."""
  rng = np.random.default_rng(seed)

  def side(vocabulary: int) -> np.ndarray:
    out_BT = np.full((rows, length), PAD, np.int32)
    for row, size in enumerate([length, *rng.integers(2, length, rows - 1)]):
      out_BT[row, : size - 1] = rng.integers(4, vocabulary, size - 1)
      out_BT[row, size - 1] = END
    return out_BT

  return {
    'source': side(SOURCES),
    'target': side(TARGETS),
    'mask': np.ones(rows, bool),
    'index': np.arange(rows, dtype=np.int32),
  }


def by_hand(logits_BTV: np.ndarray, target_BT: np.ndarray, smoothing: float) -> np.ndarray:
  """loss_B: cross-entropy to the smoothed distribution of each token that is no padding."""
  total_B = np.zeros(len(target_BT))
  for b, target_T in enumerate(target_BT):
    for t, token in enumerate(target_T):
      if token == PAD:
        continue
      logits_V = logits_BTV[b, t].astype(np.float64)
      wanted_V = np.full(len(logits_V), smoothing / len(logits_V))
      wanted_V[token] += 1 - smoothing
      total_B[b] -= wanted_V @ (logits_V - np.log(np.exp(logits_V).sum()))
  return total_B


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_the_loss_is_that_by_hand(smoothing):
  batch = batch_of(5, 7)
  logits_BTV = np.random.default_rng(1).normal(0, 2, (5, 7, TARGETS)).astype(np.float32)
  task = Translation(smoothing)
  pair, target_BT = task.inputs(batch)
  loss_B = task.loss(Output(logits_BTV, None), target_BT)
  expected_B = by_hand(logits_BTV, batch['target'], smoothing)
  np.testing.assert_allclose(loss_B, expected_B, rtol=1e-5)
  assert (abs(by_hand(logits_BTV, batch['target'], 0.5) - expected_B) > 0.01).all()
  np.testing.assert_array_equal(pair.target_BT[:, 1:], batch['target'][:, :-1])


def test_sums_count_tokens_and_no_padding():
  batch, task = batch_of(5, 7), Translation(0.1)
  batch['mask'][3] = False
  batch['target'][3] = batch['source'][3] = PAD
  right_BTV = np.asarray(jax.nn.one_hot(batch['target'], TARGETS)) * 9
  right_BTV[0, 2] = right_BTV[0, 2, ::-1]  # one token is wrong
  assert batch['target'][0, 2] != TARGETS - 1 - batch['target'][0, 2]
  tokens_B = (batch['target'] != PAD).sum(1)
  np.testing.assert_array_equal(task.weights(batch), tokens_B)
  loss_B = task.loss(Output(right_BTV, None), batch['target'])
  sums = task.metrics(Output(right_BTV, None), batch['target'], loss_B, jnp.asarray(batch['mask']))
  assert sums['tokens'] == tokens_B.sum() and sums['accuracy'] == tokens_B.sum() - 1
  np.testing.assert_allclose(
    sums['loss'], by_hand(right_BTV, batch['target'], 0.1).sum(), rtol=1e-5
  )


def test_a_loss_at_padding_is_zero_whatever_the_logits():
  logits_BTV = jnp.full((1, 3, TARGETS), 1e4).at[..., PAD].set(-1e4)
  loss_BT = losses.token_cross_entropy(logits_BTV, jnp.array([[5, PAD, PAD]]), 0.1)
  assert loss_BT[0, 0] > 0 and not loss_BT[0, 1:].any()


@pytest.fixture(scope='module')
def stepped():
  """(metrics, parameters) after one step with SGD on a batch."""
  built = {}

  def step(system: str, batch: dict[str, np.ndarray]):
    if system not in built:
      keys = dict(MODELS[system])
      model = models.build(keys.pop('name'), TARGETS, inputs=Texts(SOURCES), **keys)
      optim = Optim(name='sgd', lr=0.5, schedule='constant')
      tx = make_optimizer(optim, make_schedule(optim, 10, 5, 100))
      mesh = meshes.make_mesh(Mesh(), jax.devices()[:1])
      state = jax.device_get(jax.jit(lambda: init_state(model, tx, (8, 8), 0))())
      built[system] = state, make_train_step(model, Translation(0.1), tx, mesh=mesh, state=state)
    state, program = built[system]
    after, metrics = program(jax.device_put(state), jax.tree.map(jnp.asarray, batch))
    return jax.device_get(metrics), jax.device_get(after.params), state.params

  return step


def with_padded_rows(batch: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
  padded = {
    name: np.concatenate([values, np.zeros((rows, *values.shape[1:]), values.dtype)])
    for name, values in batch.items()
  }
  padded['index'][-rows:] = -1
  return padded


def with_padded_tokens(batch: dict[str, np.ndarray], more: int) -> dict[str, np.ndarray]:
  return {
    name: np.pad(values, ((0, 0), (0, more))) if values.ndim == 2 else values
    for name, values in batch.items()
  }


def largest_difference(a, b) -> float:
  leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return max(float(np.abs(x - y).max()) for x, y in leaves)


@pytest.mark.parametrize(
  'system',
  ['rnn', 'transformer', *(pytest.param(x, marks=pytest.mark.slow) for x in ('lstm', 'blind'))],
)
def test_padded_rows_and_tokens_change_neither_loss_nor_gradient(system, stepped):
  batch = batch_of(5, 6)
  metrics, params, before = stepped(system, batch)
  assert largest_difference(params, before) > 1e-2
  assert metrics['tokens'] == (batch['target'] != PAD).sum()
  padded = with_padded_tokens(with_padded_rows(batch, 3), 3)
  assert batch['target'].shape == (5, 6) and padded['target'].shape == (8, 9)
  ours, moved, _ = stepped(system, padded)
  for name in metrics:
    assert ours[name] == pytest.approx(metrics[name], rel=1e-5), name
  assert largest_difference(moved, params) < 2e-6


def test_a_row_of_padding_weighs_nothing_even_unmasked(stepped):
  batch = with_padded_tokens(with_padded_rows(batch_of(5, 6), 3), 3)
  expected, params, _ = stepped('rnn', batch)
  batch['mask'][-3:] = True
  metrics, moved, _ = stepped('rnn', batch)
  assert metrics == expected and largest_difference(moved, params) == 0
