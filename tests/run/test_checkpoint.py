"""A checkpoint is read as it was written, or not at all."""

import dataclasses
import logging
import random
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vit_jax import config
from vit_jax.errors import RunFault, UserError
from vit_jax.parallel.processes import Processes
from vit_jax.run import checkpoint_writer
from vit_jax.run.checkpoint import DESCRIPTION, Checkpoints, Damaged
from vit_jax.run.checkpoint_writer import CheckpointWriter
from vit_jax.run.checksums import checksums

OPTIONS = config.Checkpoint(best='test/top1')
BESIDE = {'data_position': 480, 'window': {'loss': 0.1}, 'train_seconds': 1.5}


def writer(run: Path, options: config.Checkpoint = OPTIONS) -> CheckpointWriter:
  return CheckpointWriter(run, options, Processes(config.Limits()))


def made_up_tree(seed: int = 0) -> dict:
  params = {
    'kernel': jax.random.normal(jax.random.key(seed), (64, 48)),
    'bias': jnp.arange(48, dtype=jnp.bfloat16),
  }
  opt_state = optax.sgd(0.1, momentum=0.9).init(params)
  return {'step': jnp.int32(seed), 'params': params, 'opt_state': opt_state}


def abstract(tree: dict) -> dict:
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
  )


def assert_equal(tree, expected) -> None:
  jax.tree.map(np.testing.assert_array_equal, tree, expected)


@pytest.fixture(scope='module')
def saved(tmp_path_factory) -> Path:
  """A folder with a checkpoint of step 2 and one of step 3."""
  run = tmp_path_factory.mktemp('saved')
  with writer(run) as checkpoints:
    checkpoints.save(2, made_up_tree(2), BESIDE, {'test/top1': 0.75})
    checkpoints.save(3, made_up_tree(), BESIDE, {'test/top1': 0.5})
  return run


def small_files() -> list[str]:
  """Every file of a checkpoint but those with its arrays, as Orbax names them today."""
  return [
    '_CHECKPOINT_METADATA',
    'commit_success.txt',
    'state/_METADATA',
    'state/_sharding',
    'state/array_metadatas/process_0',
    'state/commit_success.txt',
    'state/manifest.ocdbt',
    'state/ocdbt.process_0/manifest.ocdbt',
  ]


def test_checksums_do_not_depend_on_the_sharding():
  x_MN = jax.random.normal(jax.random.key(0), (16, 24))
  mesh = jax.make_mesh((2, 4), ('a', 'b'), axis_types=(jax.sharding.AxisType.Auto,) * 2)
  specs = P(), P('a'), P(None, 'b'), P('b', 'a'), P(('a', 'b'))
  sums = [checksums({'x': jax.device_put(x_MN, NamedSharding(mesh, spec))}) for spec in specs]
  assert sums == [checksums({'x': x_MN})] * 5
  flat = np.array(x_MN).reshape(-1)
  others = [flat[::-1].copy()]  # the same values elsewhere
  for bit in range(32):
    others.append(flat.copy())
    others[-1].view(np.uint32)[7 * bit] ^= np.uint32(1 << bit)
  assert len({sums[0]['x'], *(checksums({'x': o.reshape(16, 24)})['x'] for o in others)}) == 34


def test_a_damaged_checkpoint_is_never_read_in_silence(saved, tmp_path):
  """One bit flipped, or a file cut short, anywhere: an error, or the tree as it was."""
  rng, silent, told = random.Random(0), 0, 0
  tree = made_up_tree()
  weight = {
    path.relative_to(saved): path.stat().st_size ** 0.5
    for path in sorted((saved / 'checkpoints' / '3').rglob('*'))
    if path.is_file() and path.stat().st_size
  }
  for trial in range(24):
    copy = tmp_path / str(trial)
    shutil.copytree(saved, copy)
    path = copy / rng.choices(list(weight), list(weight.values()))[0]
    data = bytearray(path.read_bytes())
    place = rng.randrange(len(data))
    if trial % 2:
      data = data[:place]
    else:
      data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    with Checkpoints(copy, OPTIONS) as checkpoints:
      try:
        read, beside = checkpoints.restore(3, abstract(tree))
        assert_equal(read, tree)
        assert {name: beside[name] for name in BESIDE} == BESIDE
        silent += 1
      except Damaged:
        told += 1
  assert told > 8 and silent + told == 24


def test_the_small_files_are_all_of_them(saved):
  """A new version of Orbax may have others: they belong into the test below."""
  step = saved / 'checkpoints' / '3'
  files = {str(path.relative_to(step)) for path in step.rglob('*') if path.is_file()}
  assert {name for name in files if '/d/' not in name} == set(small_files())


@pytest.mark.parametrize('content', [b'', b'\x00\xff{'])
@pytest.mark.parametrize('name', small_files())
def test_a_small_file_that_is_damaged_costs_one_checkpoint_at_most(saved, name, content, tmp_path):
  run = tmp_path / 'run'
  shutil.copytree(saved, run)
  (run / 'checkpoints' / '3' / name).write_bytes(content)
  with Checkpoints(run, OPTIONS) as checkpoints:
    assert checkpoints.steps() == [2, 3] and checkpoints.best_step() == 2
    assert_equal(checkpoints.restore(2, abstract(made_up_tree()))[0], made_up_tree(2))
  with writer(run) as checkpoints:
    tree, _, lines = checkpoints.restore_newest(abstract(made_up_tree()))
    if 'is damaged' in lines:
      assert (run / 'damaged' / '3').is_dir() and checkpoints.steps() == [2]
      assert_equal(tree, made_up_tree(2))
    else:
      assert not (run / 'damaged').exists()
      assert_equal(tree, made_up_tree())
    checkpoints.save(4, made_up_tree(4), BESIDE, {'test/top1': 0.9})
  with Checkpoints(run, OPTIONS) as checkpoints:
    assert checkpoints.pick('last') == checkpoints.pick('best') == 4


def test_a_description_that_is_another_json_costs_one_checkpoint(saved, tmp_path):
  """Orbax lists no checkpoint then."""
  run = tmp_path / 'run'
  shutil.copytree(saved, run)
  (run / 'checkpoints' / '3' / DESCRIPTION).write_text('[1, 2]\n')
  with pytest.raises(Damaged, match='puts it right'):
    Checkpoints(run, OPTIONS)
  with writer(run) as checkpoints:
    tree, _, lines = checkpoints.restore_newest(abstract(made_up_tree()))
    assert 'is damaged' in lines and checkpoints.steps() == [2]
    assert_equal(tree, made_up_tree(2))


def test_one_process_that_cannot_read_stops_all(saved, monkeypatch):
  with Checkpoints(saved, OPTIONS) as checkpoints:
    monkeypatch.setattr(checkpoints, '_gather', lambda wrong: [wrong, 'elsewhere: cut short'])
    with pytest.raises(Damaged, match='step 3 is damaged .elsewhere: cut short'):
      checkpoints.restore(3, abstract(made_up_tree()))


def test_the_first_save_is_read_back(tmp_path, monkeypatch):
  reads = []
  read = Checkpoints._read

  def other_bits(self, step, part):
    reads.append(step)
    tree = read(self, step, part)
    return jax.tree.map(lambda leaf: leaf if leaf is ... else leaf + 1, tree)

  with writer(tmp_path / 'good') as checkpoints:
    monkeypatch.setattr(checkpoint_writer, 'READ_BACK', 1)
    monkeypatch.setattr(Checkpoints, '_read', lambda *args: reads.append(0) or read(*args))
    for step in (1, 2):
      checkpoints.save(step, made_up_tree(step), BESIDE, None)
    assert len(reads) == len(jax.tree.leaves(made_up_tree()))  # of the first one, leaf by leaf
  monkeypatch.setattr(Checkpoints, '_read', other_bits)
  with pytest.raises(RunFault, match='cannot be read back'):
    with writer(tmp_path / 'bad') as checkpoints:
      checkpoints.save(1, made_up_tree(), BESIDE, None)
  monkeypatch.setattr(Checkpoints, '_read', read)
  with writer(tmp_path / 'good') as checkpoints:
    assert checkpoints.restore_newest(abstract(made_up_tree()))
    monkeypatch.setattr(Checkpoints, '_read', other_bits)
    checkpoints.save(3, made_up_tree(), BESIDE, None)  # a checkpoint here has been read


def test_a_save_that_is_passed_over_or_lost_is_told(tmp_path, monkeypatch):
  checkpoints = writer(tmp_path)
  checkpoints.save(1, made_up_tree(), BESIDE, None)
  checkpoints.save(2, made_up_tree(1), BESIDE, None)
  checkpoints._checkpointer._manager.wait_until_finished()
  shutil.rmtree(tmp_path / 'checkpoints' / '2')
  with pytest.raises(RunFault, match='step 2 is not in'):
    checkpoints.save(3, made_up_tree(2), BESIDE, None)
  monkeypatch.setattr(checkpoints._checkpointer, 'save_async', lambda *args, **kwargs: None)
  with pytest.raises(RunFault, match='step 4 was not saved'):
    checkpoints.save(4, made_up_tree(3), BESIDE, None)
  checkpoints.close()


def test_a_reader_leaves_the_save_under_way_alone(saved, tmp_path):
  run = tmp_path / 'run'
  shutil.copytree(saved, run)
  under_way = run / 'checkpoints' / '4.orbax-checkpoint-tmp'
  under_way.mkdir()
  for open_it, left in ((lambda run: Checkpoints(run, OPTIONS), True), (writer, False)):
    with open_it(run) as checkpoints:
      assert checkpoints.steps() == [2, 3]
    assert under_way.exists() == left


def test_a_reader_makes_no_folder(tmp_path):
  with pytest.raises(UserError, match='has no finished checkpoint'):
    Checkpoints(tmp_path, OPTIONS)
  assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_saved_anew_is_never_missing(saved, tmp_path, monkeypatch):
  run = tmp_path / 'run'
  shutil.copytree(saved, run)
  killed = writer(run)
  killed.restore_newest(abstract(made_up_tree()))
  monkeypatch.setattr(killed._checkpointer, 'save_async', lambda *args, **kwargs: None)
  with pytest.raises(RunFault):  # between making way and the save
    killed.save(3, made_up_tree(1), BESIDE, None)
  monkeypatch.setattr(killed, '_take_back', lambda: None)
  killed.close()
  assert [path.name for path in (run / 'replaced').iterdir()] == ['3']
  with Checkpoints(run, OPTIONS) as checkpoints:
    assert checkpoints.steps() == [2]
  with writer(run) as checkpoints:
    assert checkpoints.steps() == [2, 3]
    tree, _, _ = checkpoints.restore_newest(abstract(made_up_tree()))
    assert_equal(tree, made_up_tree())
    checkpoints.save(3, made_up_tree(1), BESIDE, {'test/top1': 0.8})
  assert not list((run / 'replaced').iterdir())
  with Checkpoints(run, OPTIONS) as checkpoints:
    assert checkpoints.steps() == [2, 3] and checkpoints.best_step() == 3
    assert_equal(checkpoints.restore(3, abstract(made_up_tree()))[0], made_up_tree(1))


def test_which_checkpoints_stay(tmp_path):
  """The last and the best: a metric that is not a number is never the best."""
  options = config.Checkpoint(best='test/loss', keep_last=1)
  with writer(tmp_path, options) as checkpoints:
    for step, metrics in enumerate(
      [{'test/loss': 2.0}, {'test/loss': 1.0}, {'test/loss': np.nan}, {'test/top1': 0.5}, None]
    ):
      checkpoints.save(step, made_up_tree(step), BESIDE, metrics)
    checkpoints._settle()
    assert checkpoints.pick('best') == 1 and checkpoints.steps() == [1, 4]
  with writer(tmp_path, options) as checkpoints:  # metrics of before are known
    checkpoints.save(5, made_up_tree(5), BESIDE, {'test/loss': 1.5})
  with writer(tmp_path, dataclasses.replace(options, best='')) as checkpoints:
    assert checkpoints.steps() == [1, 5]
    with pytest.raises(UserError, match='names no metric'):
      checkpoints.pick('best')
    checkpoints.save(6, made_up_tree(6), BESIDE, {'test/loss': 1.5})
    checkpoints._settle()
    assert checkpoints.steps() == [6]
  with Checkpoints(tmp_path, config.Checkpoint(best='test/top1')) as checkpoints:
    with pytest.raises(UserError, match="none of them has 'test/top1'"):
      checkpoints.pick('best')
    with pytest.raises(UserError, match='one of the steps 6'):
      checkpoints.pick(7)


def test_orbax_is_heard_again_once_all_are_closed(saved):
  absl = logging.getLogger('absl')
  before = list(absl.filters)
  first, second = (Checkpoints(saved, OPTIONS) for _ in range(2))
  first.close()
  assert absl.filters != before
  second.close()
  second.close()
  assert absl.filters == before
