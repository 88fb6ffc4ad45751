"""Translation on a mesh: the losses and gradients of one device, for every shape of a batch."""

import functools

import jax
import numpy as np
import pytest

from tests.data.made_up_pairs import write
from tests.fleet import Life, result
from tests.translations import BUCKETS, command, pairs, write_pairs, write_recipe
from vit_jax import config
from vit_jax.config import Mesh
from vit_jax.errors import UserError
from vit_jax.parallel import mesh as meshes
from vit_jax.train.trainer import Trainer

ONE = Mesh()  # a single device
SMALL = {
  'rnn': dict(name='RNN-GRU', width=16, alignment='dot'),
  'transformer': dict(
    name='Transformer-tiny', width=16, depth=2, heads=2, mlp=32, norm='pre', tied='target',
    unroll=False,
  ),
}  # fmt: skip
# With SGD: Adam makes rounding in a gradient that should be zero as large as any other.
KEYS = dict(
  steps=6,
  batch_size=96,
  loss=dict(label_smoothing=0.1),
  optim=dict(name='sgd', lr=0.1, clip_norm=1.0, schedule='constant'),
)


@pytest.fixture(scope='module')
def train_on(tmp_path_factory):
  """(system, mesh, keys) -> a trainer on 60 pairs in two buckets."""
  place = tmp_path_factory.mktemp('pairs')
  source, target = pairs(60)
  write(place, src=source, tgt=target)

  def make(system: str, mesh: Mesh = ONE, dropout: float = 0.0, **keys) -> Trainer:
    data = dict(kind='pairs', name=f'pairs:{place}', tokens='words', vocabulary=0)
    data |= dict(max_length=BUCKETS[-1], buckets=BUCKETS, row_multiple=8)
    optim, data = KEYS['optim'] | keys.pop('optim', {}), data | keys.pop('data', {})
    model = SMALL[system] | dict(dropout=dropout)
    x = config.resolve(KEYS | dict(model=model, data=data, optim=optim, mesh=vars(mesh)) | keys)
    devices = meshes.make_mesh(mesh, jax.devices()[:1] if mesh == ONE else None)
    return Trainer(x, place.parent / 'data', mesh=devices)

  return make


@pytest.fixture(scope='module')
def trained(train_on):
  """(rows of metrics of six steps, an epoch, the parameters after them), kept by its arguments."""

  @functools.cache
  def get(system: str, mesh: Mesh = ONE, accumulate: int = 1, dropout: float = 0.0):
    trainer = train_on(system, mesh, dropout, optim=dict(accumulate=accumulate))
    state, rows = trainer.init(), []
    for batch in trainer.batches():
      state, metrics = trainer.step(state, batch)
      rows.append({name: float(value) for name, value in metrics.items()})
    assert trainer.train_step._cache_size() == len(BUCKETS)  # a program for each shape
    return rows, jax.device_get(state.params)

  return get


def assert_close(found, expected) -> None:
  for row, wanted in zip(found[0], expected[0], strict=True):
    assert (row['tokens'], row['accuracy']) == (wanted['tokens'], wanted['accuracy'])
    assert abs(row['loss'] - wanted['loss']) / wanted['tokens'] < 1e-5
    assert row['grad_norm'] == pytest.approx(wanted['grad_norm'], rel=1e-5)
  for leaf, wanted in zip(*map(jax.tree.leaves, (found[1], expected[1])), strict=True):
    np.testing.assert_allclose(leaf, wanted, atol=2e-6)


def test_both_shapes_are_among_the_steps_and_they_do_something(train_on, trained):
  loader = train_on('rnn').domain.loader
  shapes = [loader.batch(step)['source'].shape for step in range(6)]
  assert sorted(set(shapes)) == [(8, 12), (16, 6)]
  assert not all(loader.batch(step)['mask'].all() for step in range(6))  # some rows are padding
  rows, params = trained('rnn')
  assert rows[0]['loss'] / rows[0]['tokens'] - rows[-1]['loss'] / rows[-1]['tokens'] > 1e-2
  fresh = jax.device_get(train_on('rnn').init().params)
  moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), params, fresh)
  assert min(jax.tree.leaves(moved)) > 1e-4


@pytest.mark.parametrize(
  'system, sizes, accumulate',
  [
    ('rnn', (8, 1, 1), 1),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in (
        ('transformer', (2, 2, 2), 1),
        ('rnn', (1, 8, 1), 1),
        ('rnn', (2, 4, 1), 1),
        ('transformer', (8, 1, 1), 1),
        ('transformer', (1, 8, 1), 1),
        ('transformer', (1, 4, 2), 2),
      )
    ),
  ],
  ids=str,
)
def test_every_mesh_gives_the_losses_and_gradients_of_one_device(
  system, sizes, accumulate, trained
):
  assert_close(trained(system, Mesh(*sizes), accumulate), trained(system))


def test_a_parameter_is_split_where_the_mesh_says(train_on):
  for system, sizes, key in (
    ('rnn', (1, 8, 1), 'forward_0'),
    ('transformer', (1, 4, 2), 'encoder'),
  ):
    mesh = Mesh(*sizes)
    params = train_on(system, mesh).abstract_state.params[key]
    leaf = max(jax.tree.leaves(params), key=lambda leaf: leaf.size)
    part = np.prod(leaf.sharding.shard_shape(leaf.shape))
    assert part == leaf.size // (mesh.fsdp * mesh.tensor)


@pytest.mark.parametrize('system', ['rnn', pytest.param('transformer', marks=pytest.mark.slow)])
def test_two_micro_batches_are_one_batch(system, trained):
  assert_close(trained(system, ONE, 2), trained(system))


@pytest.mark.slow
def test_dropout_on_a_mesh_is_that_of_one_device(trained):
  dropped = trained('rnn', ONE, 1, 0.3)
  assert abs(dropped[0][0]['loss'] - trained('rnn')[0][0]['loss']) > 1e-2
  assert_close(trained('rnn', Mesh(8, 1, 1), 1, 0.3), dropped)


@pytest.mark.parametrize(
  'mesh, multiple, accumulate', [(Mesh(8), 3, 1), (Mesh(2, 4), 12, 1), (ONE, 8, 3)], ids=str
)
def test_rows_that_do_not_divide_are_refused(mesh, multiple, accumulate, train_on):
  ways = mesh.fsdp * max(mesh.replica, 1) * accumulate
  with pytest.raises(UserError) as error:
    train_on('rnn', mesh, data=dict(row_multiple=multiple), optim=dict(accumulate=accumulate))
  told = str(error.value)
  assert f'config.data.row_multiple is {multiple}' in told and str(ways) in told
  assert '\n' not in told


def test_sentences_are_not_split_over_the_mesh(train_on):
  with pytest.raises(UserError, match='config.mesh.sequence is 2'):
    train_on('transformer', Mesh(4, 1, 1, 2))


@pytest.mark.slow
@pytest.mark.parametrize('system', ['rnn', 'transformer'])
def test_two_processes_train_and_translate_as_one(system, nursery, tmp_path):
  """On two devices in all, and each batch is divided between them."""
  recipe = write_recipe(tmp_path / 'pairs.py', write_pairs(tmp_path / 'pairs'))
  flags = '--config.optim.name=sgd', '--config.optim.lr=0.1'
  found = {}
  for count in (1, 2):
    run = tmp_path / str(count) / 'run'
    argv = command(recipe, run, system, *flags)
    life = Life(nursery, run.parent / 'lives', argv, count, devices=2 // count)
    assert life.codes(300) == [0] * count, life.logs()
    rows: dict[int, list[int]] = {}
    for step, _, ids in sorted(life.batches()):
      rows.setdefault(step, []).extend(ids)
    found[count] = *result(run), rows
  one, two = found[1], found[2]
  assert two[3] == one[3] and len(two[3]) == 10
  for leaf, wanted in zip(jax.tree.leaves(two[0]), jax.tree.leaves(one[0]), strict=True):
    np.testing.assert_allclose(leaf, wanted, atol=1e-5)
  for row, wanted in zip(two[1], one[1], strict=True):
    assert row == pytest.approx(wanted, abs=1e-5)
  assert two[2]['test'] == pytest.approx(one[2]['test'], abs=1e-5)
