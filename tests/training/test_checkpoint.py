"""A checkpoint is read as it was written, or not at all."""

from __future__ import annotations

import json
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

from vit_jax import cli, config, run_folder
from vit_jax.errors import PREEMPTED, RunFault, UserError
from vit_jax.training.checkpoint import Checkpoints, Damaged
from vit_jax.training.checksums import checksums
from vit_jax.training.loop import Loop, Stopped
from vit_jax.training.state import TrainState

OPTIONS = config.Checkpoint(best='test/top1')
BESIDE = {'data_position': 480, 'window': {'loss': 0.1}, 'train_seconds': 1.5}


def made_up_state(seed: int = 0) -> TrainState:
  params = {
    'kernel': jax.random.normal(jax.random.key(seed), (64, 48)),
    'bias': jnp.arange(48, dtype=jnp.bfloat16),
  }
  return TrainState(jnp.int32(seed), params, optax.sgd(0.1, momentum=0.9).init(params))


def abstract(state: TrainState) -> TrainState:
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
  )


@pytest.fixture(scope='module')
def saved(tmp_path_factory) -> Path:
  workdir = tmp_path_factory.mktemp('saved')
  checkpoints = Checkpoints(workdir, OPTIONS)
  checkpoints.save(3, made_up_state(), BESIDE, {'test/top1': 0.5})
  checkpoints.close()
  return workdir


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
  """One bit flipped, or a file cut short, anywhere: an error, or the state as it was."""
  rng, silent, told = random.Random(0), 0, 0
  state = made_up_state()
  weight = {
    path.relative_to(saved): path.stat().st_size ** 0.5
    for path in sorted(saved.rglob('*'))
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
    checkpoints = Checkpoints(copy, OPTIONS)
    try:
      read, beside = checkpoints.restore(3, abstract(state))
      jax.tree.map(np.testing.assert_array_equal, read, state)
      assert {name: beside[name] for name in BESIDE} == BESIDE
      silent += 1
    except Damaged:
      told += 1
    finally:
      checkpoints.close()
  assert told > 8 and silent + told == 24


def test_one_process_that_cannot_read_stops_all(saved):
  checkpoints = Checkpoints(saved, OPTIONS)
  with pytest.raises(Damaged, match='step 3 is damaged .elsewhere: cut short'):
    checkpoints.restore(3, abstract(made_up_state()), lambda wrong: [wrong, 'elsewhere: cut short'])
  checkpoints.close()


def test_a_save_that_is_passed_over_or_lost_is_told(tmp_path, monkeypatch):
  checkpoints = Checkpoints(tmp_path, OPTIONS)
  checkpoints.save(1, made_up_state(), BESIDE, None)
  checkpoints._settle()
  checkpoints.save(2, made_up_state(1), BESIDE, None)
  checkpoints._checkpointer._manager.wait_until_finished()
  shutil.rmtree(tmp_path / 'checkpoints' / '2')
  with pytest.raises(RunFault, match='step 2 is not in'):
    checkpoints.save(3, made_up_state(2), BESIDE, None)
  monkeypatch.setattr(checkpoints._checkpointer, 'save_async', lambda *args, **kwargs: None)
  with pytest.raises(RunFault, match='step 4 was not saved'):
    checkpoints.save(4, made_up_state(3), BESIDE, None)
  checkpoints.close()


def test_a_reader_leaves_the_save_under_way_alone(saved, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(saved, workdir)
  under_way = workdir / 'checkpoints' / '4.orbax-checkpoint-tmp'
  under_way.mkdir()
  for clean in (False, True):
    checkpoints = Checkpoints(workdir, OPTIONS, clean=clean)
    assert checkpoints.steps() == [3]
    checkpoints.close()
    assert under_way.exists() != clean


def test_a_checkpoint_that_is_saved_anew_is_never_missing(saved, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(saved, workdir)
  killed = Checkpoints(workdir, OPTIONS, clean=True)
  killed.make_way(3)
  killed.close()  # before the save
  checkpoints = Checkpoints(workdir, OPTIONS, clean=True)
  assert checkpoints.steps() == []
  checkpoints.take_back()
  assert checkpoints.steps() == [3] and checkpoints.restore(3, abstract(made_up_state()))
  checkpoints.make_way(3)
  assert checkpoints.steps() == []
  checkpoints.save(3, made_up_state(1), BESIDE, {'test/top1': 0.75})
  checkpoints.close()
  again = Checkpoints(workdir, OPTIONS)
  again.take_back()
  assert again.steps() == [3] and not list((workdir / 'replaced').iterdir())
  state, _ = again.restore(3, abstract(made_up_state()))
  np.testing.assert_array_equal(state.params['kernel'], made_up_state(1).params['kernel'])
  again.close()


def test_a_metric_that_is_no_number_is_never_the_best(tmp_path):
  options = config.Checkpoint(best='test/loss', keep_last=1)
  checkpoints = Checkpoints(tmp_path, options, clean=True)
  for step, metrics in enumerate(
    [{'test/loss': 2.0}, {'test/loss': 1.0}, {'test/loss': np.nan}, {'test/top1': 0.5}, None]
  ):
    checkpoints.save(step, made_up_state(step), BESIDE, metrics)
  checkpoints._settle()
  assert checkpoints.best_step() == 1 and checkpoints.steps() == [1, 4]
  checkpoints.close()


def command(recipe: Path, workdir: Path) -> list[str]:
  return [
    'train',
    f'--config={recipe}',
    f'--workdir={workdir}',
    '--config.steps=8',
    '--config.batch_size=16',
    '--config.eval_batch_size=16',
    '--config.evaluate.steps=4',
  ]


@pytest.fixture(scope='module')
def run(lenet_recipe, tmp_path_factory) -> Path:
  workdir = tmp_path_factory.mktemp('run')
  assert cli.main(command(lenet_recipe, workdir)) == 0
  return workdir


def cut(workdir: Path, *steps: int) -> None:
  for step in steps:
    files = [path for path in (workdir / 'checkpoints' / str(step)).rglob('*') if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 3])


def rows(workdir: Path) -> list[dict]:
  read = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
  clocked = 'train/images_per_second', 'train/fraction_of_peak', 'train/seconds'
  return [{name: value for name, value in row.items() if name not in clocked} for row in read]


def test_a_fault_does_not_lose_the_save_under_way(lenet_recipe, tmp_path, monkeypatch, capsys):
  whole = Loop._save

  def save_and_fail(self, *args):
    whole(self, *args)
    raise UserError('a made-up fault')

  monkeypatch.setattr(Loop, '_save', save_and_fail)
  assert cli.main(command(lenet_recipe, tmp_path / 'run')) == 2
  assert 'a made-up fault' in capsys.readouterr().err
  assert [path.name for path in (tmp_path / 'run' / 'checkpoints').iterdir()] == ['4']


def test_a_checkpoint_gets_its_metrics_when_the_run_comes_back_to_its_evaluation(
  lenet_recipe, tmp_path, monkeypatch
):
  monkeypatch.setattr(Loop, '_before_batch', stop)
  assert cli.main(command(lenet_recipe, tmp_path)) == PREEMPTED
  checkpoints = tmp_path / 'checkpoints'
  before = (checkpoints / '4').stat().st_ino
  monkeypatch.undo()
  seen = []
  whole = Checkpoints.make_way
  monkeypatch.setattr(
    Checkpoints,
    'make_way',
    lambda self, step: (
      whole(self, step),
      seen.append([path.name for path in tmp_path.glob('replaced/*')]),
    ),
  )
  assert cli.main(command(lenet_recipe, tmp_path)) == 0
  assert seen == [['4']] and not list(tmp_path.glob('replaced/*'))
  again = Checkpoints(tmp_path, run_folder.from_run(tmp_path).checkpoint)
  assert 4 not in again.steps() or (checkpoints / '4').stat().st_ino != before
  assert again.best_step() in (4, 8)
  again.close()


def stop(loop: Loop) -> None:
  raise Stopped


def test_a_damaged_checkpoint_falls_back_to_the_one_before(lenet_recipe, run, tmp_path, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(run, workdir)
  before = max(
    int(path.name)
    for path in (workdir / 'checkpoints').iterdir()
    if path.name.isdigit() and path.name != '8'
  )
  cut(workdir, 8)
  capsys.readouterr()
  assert cli.main(command(lenet_recipe, workdir)) == 0
  output = capsys.readouterr().out
  assert 'the checkpoint of step 8 is damaged' in output
  assert f'start: checkpoint of step {before} in' in output
  assert (workdir / 'damaged' / '8').is_dir() and rows(workdir) == rows(run)


def test_no_good_checkpoint_is_no_fresh_start(lenet_recipe, run, tmp_path, capsys):
  workdir = tmp_path / 'run'
  shutil.copytree(run, workdir)
  steps = [int(path.name) for path in (workdir / 'checkpoints').iterdir() if path.name.isdigit()]
  cut(workdir, *steps)
  for _ in range(2):  # nor is it one the next time
    assert cli.main(command(lenet_recipe, workdir)) == 1
    error = capsys.readouterr().err
    assert error.startswith('vit_jax: no checkpoint in') and error.count('\n') == 1
  assert rows(workdir) == rows(run)


def test_the_parts_of_the_event_log_add_up_to_the_time(run):
  events = [json.loads(line) for line in (run / 'events.jsonl').read_text().splitlines()]
  assert [event['event'] for event in events] == ['start', *['spent'] * (len(events) - 2), 'end']
  assert (events[0]['step'], events[0]['processes'], events[0]['devices']) == (0, 1, 8)
  assert (events[-1]['step'], events[-1]['code']) == (8, 0)
  for before, event in zip(events[:-1], events[1:], strict=True):
    between = event['time'] - before['time']
    assert sum(event.get('seconds', {}).values()) == pytest.approx(between, rel=0.01, abs=1e-4)
  spent = [event['seconds'] for event in events[1:-1]]
  wall = events[-1]['time'] - events[0]['time']
  assert sum(sum(seconds.values()) for seconds in spent) == pytest.approx(wall, rel=0.01)
  assert {name for seconds in spent for name in seconds} == {
    'init',
    'compile',
    'data',
    'step',
    'evaluate',
    'save',
  }


def test_the_event_log_goes_on_after_a_torn_line(lenet_recipe, run, tmp_path):
  workdir = tmp_path / 'run'
  shutil.copytree(run, workdir)
  path = workdir / 'events.jsonl'
  whole = path.read_text()
  path.write_text(whole + '{"event": "spe')
  assert cli.main(command(lenet_recipe, workdir)) == 0
  text = path.read_text()
  assert text.startswith(whole)
  assert json.loads(text[len(whole) :].splitlines()[0])['event'] == 'start'
