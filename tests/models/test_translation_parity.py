"""Translation models give the numbers of PyTorch and of transformers, as committed; needs neither.

tests/golden/make_translation_fixtures.py writes the fixtures. Padded tokens are not compared.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.models.cells import CELLS, Cell
from vit_jax.models.output import Pair
from vit_jax.models.recurrent import Recurrent
from vit_jax.models.texts import BEGIN, PAD, EncoderDecoderOptions, RNNOptions, Texts
from vit_jax.models.transformer import Transformer

FOLDER = Path(__file__).parents[1] / 'golden'
NAMES = ('gru', 'lstm', 'transformer_post', 'transformer_pre', 'marian')
HIDDEN, LOGITS = 1e-5, 1e-4  # absolute
HEADS = 2


@functools.cache
def fixture(name, prefix='weights/'):
  """(weights in float32, everything else)."""
  arrays = dict(np.load(FOLDER / f'translation_{name}.npz'))
  weights = {
    key.removeprefix(prefix): value.astype(np.float32)
    for key, value in arrays.items()
    if key.startswith(prefix)
  }
  return weights, {key: value for key, value in arrays.items() if 'weights/' not in key}


def assert_near(got, expected, atol, mask=None):
  """Of real tokens, where a mask says which these are; they differ from each other."""
  got, expected = np.asarray(got), np.asarray(expected)
  assert got.shape == expected.shape
  got, expected = (got, expected) if mask is None else (got[mask], expected[mask])
  assert len(expected) > 1 and np.std(expected, axis=0).mean() > 0.05
  np.testing.assert_allclose(got, expected, atol=atol, rtol=0)


def pair_of(arrays):
  return Pair(jnp.asarray(arrays['source'], jnp.int32), jnp.asarray(arrays['target'], jnp.int32))


def dense(weights, name):
  return {'kernel': weights[f'{name}.weight'].T, 'bias': weights[f'{name}.bias']}


# Recurrent models


def cell(weights, suffix):
  """torch stores (G H, D): the gates one below the other, in the order of ours."""
  H = weights[f'weight_hh_{suffix}'].shape[1]

  def gates(name):
    x = weights[f'{name}_{suffix}']
    return np.moveaxis(x.reshape(-1, H, *x.shape[1:]), -1, 0) if x.ndim > 1 else x.reshape(-1, H)

  return {
    'input_kernel': gates('weight_ih'),
    'input_bias': gates('bias_ih'),
    'recurrent_kernel': gates('weight_hh'),
    'recurrent_bias': gates('bias_hh'),
  }


@pytest.mark.parametrize('kind', CELLS)
@pytest.mark.parametrize('reverse', [False, True])
def test_layer_in_one_direction(kind, reverse):
  """`reset='after'` is torch.nn.GRU (and cuDNN): its reset gate multiplies U h + b."""
  weights, arrays = fixture(kind, 'one/weights/')
  layer = Cell(kind, 8, 16, 'after', 'float32')
  mask_BS = arrays['source'] != PAD
  x_BSD = arrays['one/input']
  if reverse:  # of a sentence backwards, with its padding in front
    mask_BS, x_BSD = mask_BS[:, ::-1], x_BSD[:, ::-1]
  outputs_BSH, state = layer.apply(
    {'params': cell(weights, 'l0')}, x_BSD, jnp.asarray(mask_BS), reverse, method='over'
  )
  outputs_BSH = outputs_BSH[:, ::-1] if reverse else outputs_BSH
  assert_near(outputs_BSH, arrays['one/output'], HIDDEN, arrays['source'] != PAD)
  assert len(state) == CELLS[kind][2]
  for i, part_BH in enumerate(state):
    assert_near(part_BH, arrays[f'one/state_{i}'][0], HIDDEN)


def recurrent(kind):
  weights, arrays = fixture(kind)
  options = RNNOptions(cell=kind, width=16, depth=2, alignment='none', reset='after')
  part = {
    part: {
      key.removeprefix(f'{part}.'): value for key, value in weights.items() if key.startswith(part)
    }
    for part in ('encoder', 'decoder')
  }
  params = {
    'lexicon': {
      'source': {'table': weights['source.weight']},
      'target': {'table': weights['target.weight']},
      'head': dense(weights, 'head'),
    },
    'readout': dense(weights, 'readout'),
  }
  for i in range(2):
    params[f'forward_{i}'] = cell(part['encoder'], f'l{i}')
    params[f'backward_{i}'] = cell(part['encoder'], f'l{i}_reverse')
    params[f'decoder_{i}'] = cell(part['decoder'], f'l{i}')
  sizes = len(weights['target.weight']), options, Texts(len(weights['source.weight']))
  return Recurrent(*sizes), {'params': params}, arrays


@pytest.mark.parametrize('kind', CELLS)
def test_recurrent_encoder_decoder(kind):
  """Two layers; the encoder in both directions, over padded sentences."""
  model, variables, arrays = recurrent(kind)
  pair = pair_of(arrays)
  out = model.apply(variables, pair, train=False)
  assert_near(out.memory_BSD, arrays['memory'], HIDDEN, arrays['source'] != PAD)
  assert_near(out.logits_BTV, arrays['logits'], LOGITS)
  memory, prefix = model.apply(variables, pair.source_BS, 6, method='begin')
  for layer, state in enumerate(prefix.states):
    for i, part_BD in enumerate(state):
      assert_near(part_BD, arrays[f'state_{i}'][layer], HIDDEN)
  for t in range(pair.target_BT.shape[1]):
    prefix, _ = model.apply(variables, memory, prefix, pair.target_BT[:, t], t, method='step')
    assert_near(prefix.states[-1][0], arrays['hidden'][:, t], HIDDEN)


def numpy_gru(x_SD, p, reset):
  """The states (S, H) of one sentence."""
  sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
  (Wr, Wz, W), (Ur, Uz, U) = (np.moveaxis(p[f'{k}_kernel'], 1, 0) for k in ('input', 'recurrent'))
  (br, bz, b), (cr, cz, c) = p['input_bias'], p['recurrent_bias']
  h, states = np.zeros(U.shape[0]), []
  for x in x_SD:
    r, z = sigmoid(x @ Wr + br + h @ Ur + cr), sigmoid(x @ Wz + bz + h @ Uz + cz)
    inner = (r * h) @ U + c if reset == 'before' else r * (h @ U + c)
    h = z * h + (1 - z) * np.tanh(x @ W + b + inner)
    states.append(h)
  return np.stack(states)


def test_gru_of_the_paper_and_of_torch():
  """Which is which: 'before' is Cho et al. 2014, U (r h); 'after' is torch.nn.GRU, r (U h + c).

  With the same weights they give other numbers. In both, z keeps the old state (arXiv:1406.1078
  equation 7); in arXiv:1409.0473 it keeps the new one.
  """
  weights, arrays = fixture('gru', 'one/weights/')
  params = jax.tree.map(np.float64, cell(weights, 'l0'))
  mask_BS = jnp.ones(arrays['source'].shape, bool)
  got = {}
  for reset in ('before', 'after'):
    layer = Cell('gru', 8, 16, reset, 'float32')
    got[reset], _ = layer.apply({'params': params}, arrays['one/input'], mask_BS, method='over')
    expected_BSH = np.stack([numpy_gru(x_SD, params, reset) for x_SD in arrays['one/input']])
    assert_near(got[reset], expected_BSH, 1e-6)
  assert np.abs(got['before'] - got['after']).max() > 0.05


# Transformers


def block(part, second=None):
  """A layer of torch, or one of Marian with the names of torch; the MLP's LayerNorm is the last."""

  def projections(name, first, last):
    """Of queries, keys and values those from `first` to `last`."""
    kernel, bias = part[f'{name}.in_proj_weight'], part[f'{name}.in_proj_bias']
    D = kernel.shape[1]
    kernel = kernel.reshape(3, HEADS, D // HEADS, D)[first:last]
    return {'kernel': np.moveaxis(kernel, -1, 0), 'bias': bias.reshape(3, D)[first:last]}

  def out(name):
    merged = dense(part, f'{name}.out_proj')
    D = len(merged['bias'])
    return merged | {'kernel': merged['kernel'].reshape(HEADS, D // HEADS, D)}

  def norm(number):
    return {'scale': part[f'norm{number}.weight'], 'bias': part[f'norm{number}.bias']}

  params = {
    'norm1': norm(1),
    'attention': {'qkv': projections('self_attn', 0, 3), 'out': out('self_attn')},
    'norm2': norm(3 if second else 2),
    'mlp': {'up': dense(part, 'linear1'), 'down': dense(part, 'linear2')},
  }
  if second:
    params['norm3'] = norm(2)
    params['cross'] = {
      'query': projections(second, 0, 1),
      'kv': projections(second, 1, 3),
      'out': out(second),
    }
  return params


def blocks(weights, prefix, second=None):
  """Both layers, stacked."""
  layers = [
    block(
      {
        key.removeprefix(f'{prefix}.layers.{i}.'): value
        for key, value in weights.items()
        if key.startswith(f'{prefix}.layers.{i}.')
      },
      second,
    )
    for i in range(2)
  ]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *layers)


def as_torch(weights):
  """Marian's weights by torch's names."""
  renamed, norms = {}, {'self_attn_layer_norm': 'norm1', 'encoder_attn_layer_norm': 'norm2'}
  for key, value in weights.items():
    key = key.removeprefix('model.').replace('fc1', 'linear1').replace('fc2', 'linear2')
    last = 'norm3' if 'decoder' in key else 'norm2'
    for theirs, ours in (norms | {'final_layer_norm': last}).items():
      key = key.replace(f'.{theirs}.', f'.{ours}.')
    renamed[key.replace('encoder_attn', 'multihead_attn')] = value
  for key in [key for key in renamed if '.q_proj.' in key]:
    parts = [renamed[key.replace('q_proj', f'{letter}_proj')] for letter in 'qkv']
    renamed[key.replace('q_proj.', 'in_proj_')] = np.concatenate(parts)
  return renamed


def transformer(name, tied, **lexicon):
  weights, arrays = fixture(name)
  weights = as_torch(weights) if name == 'marian' else weights
  norm = 'pre' if name == 'transformer_pre' else 'post'
  options = EncoderDecoderOptions(
    width=16, depth=2, mlp=32, heads=HEADS, mlp_kind='relu', norm=norm, tied=tied
  )
  params = {
    'lexicon': lexicon,
    'encoder': {'blocks': blocks(weights, 'encoder')},
    'decoder': {'blocks': blocks(weights, 'decoder', 'multihead_attn')},
  }
  if norm == 'pre':
    for part in ('encoder', 'decoder'):
      params[part]['norm'] = {
        'scale': weights[f'{part}.norm.weight'],
        'bias': weights[f'{part}.norm.bias'],
      }
  targets = lexicon['target']['table']
  sources = lexicon.get('source', lexicon['target'])['table']
  model = Transformer(len(targets), options, Texts(len(sources)))
  pair = pair_of(arrays)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), pair, train=False)['params'])
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
  out, seen = model.apply(
    {'params': params},
    pair,
    train=False,
    mutable=['intermediates'],
    capture_intermediates=lambda module, _: module.name == 'decoder',
  )
  decoder = seen['intermediates']['decoder']
  hidden_BTD, _ = decoder['__call__'][0]
  return out, hidden_BTD, decoder['blocks']['cross']['weights_BANT'][0], arrays


def assert_transformer(out, hidden_BTD, arrays, logits):
  source_BS, target_BT = arrays['source'] != PAD, arrays['target'] != PAD
  assert_near(out.memory_BSD, arrays['memory'], HIDDEN, source_BS)
  assert_near(hidden_BTD, arrays['hidden'], HIDDEN, target_BT)
  assert_near(out.logits_BTV, logits, LOGITS, target_BT)


@pytest.mark.parametrize('name', ['transformer_post', 'transformer_pre'])
def test_torch_transformer(name):
  """Post-norm with an output layer of its own, pre-norm with the target's table."""
  weights, _ = fixture(name)
  lexicon = {side: {'table': weights[f'{side}.weight']} for side in ('source', 'target')}
  if name == 'transformer_post':
    lexicon['head'] = dense(weights, 'head')
  tied = 'none' if 'head' in lexicon else 'target'
  out, hidden_BTD, _, arrays = transformer(name, tied, **lexicon)
  assert_transformer(out, hidden_BTD, arrays, arrays['logits'])


@pytest.mark.parametrize('tied', ['all', 'none'])
def test_marian(tied):
  """Tied weights have no bias of the logits, so there Marian's is subtracted."""
  weights, arrays = fixture('marian')
  table_VD, bias_V = weights['model.shared.weight'], weights['final_logits_bias'][0]
  assert np.abs(bias_V).min() > 1e-3
  lexicon = {'target': {'table': table_VD}}
  if tied == 'none':
    lexicon |= {'source': lexicon['target'], 'head': {'kernel': table_VD.T, 'bias': bias_V}}
  out, hidden_BTD, cross_LBANT, arrays = transformer('marian', tied, **lexicon)
  logits_BTV = arrays['logits'] if tied == 'none' else arrays['logits'] - bias_V
  assert_transformer(out, hidden_BTD, arrays, logits_BTV)
  real_BT = arrays['target'] != PAD
  got, expected = (np.moveaxis(x, 2, 3)[:, real_BT] for x in (cross_LBANT, arrays['cross']))
  np.testing.assert_allclose(got, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize('name', NAMES)
def test_fixture(name):
  """Small, with padding on both sides and sentences that begin with BEGIN."""
  assert (FOLDER / f'translation_{name}.npz').stat().st_size < 100_000
  _, arrays = fixture(name)
  assert (arrays['target'][:, 0] == BEGIN).all()
  for side in ('source', 'target'):
    assert 1 < (arrays[side] == PAD).any(axis=1).sum() < len(arrays[side])


def test_no_fixture_is_forgotten():
  assert {path.stem for path in FOLDER.glob('translation_*.npz')} == {
    f'translation_{name}' for name in NAMES
  }
