"""A translation run, killed and stopped at any moment and started again, is the same run."""

import random
import signal
from pathlib import Path

import pytest

from tests.fleet import Life, run_to_end
from tests.translations import BUCKETS, Undisturbed, command, write_pairs, write_recipe
from vit_jax.run import Run
from vit_jax.train.trainer import Trainer


@pytest.fixture(scope='module')
def recipe(tmp_path_factory) -> Path:
  folder = tmp_path_factory.mktemp('recipe')
  return write_recipe(folder / 'pairs.py', write_pairs(folder / 'pairs'))


@pytest.fixture(scope='module', params=['rnn', 'transformer'])
def whole(request, recipe, nursery, tmp_path_factory) -> Undisturbed:
  return Undisturbed(request.param, recipe, nursery, tmp_path_factory.mktemp('whole'))


def test_a_run_writes_all_it_should(whole):
  state, rows, summary = whole.result
  assert [row['step'] for row in rows if 'train/loss' in row] == [3, 6, 9, 10]
  assert [row['step'] for row in rows if 'test/bleu' in row] == [5, 10]
  losses = [row['train/loss'] for row in rows if 'train/loss' in row]
  assert losses[-1] < losses[0] - 0.1 and int(state['step']) == 10
  assert summary['test'].keys() == {'bleu', 'chrf', 'exact', 'loss'}
  assert (summary['examples'], summary['steps']) == (60, 10)
  kept = whole.translations['test']
  assert len(kept.sources) == len(kept.translations) == 20 and kept.aligned
  assert any(kept.translations) and 'BLEU' in whole.life.log(0)


def test_a_run_compiles_one_step_for_each_bucket(whole):
  assert len(set(shapes(whole.path))) == len(BUCKETS)
  assert whole.life.times_in(0, 'compile') == len(BUCKETS)


def test_killed_and_stopped_on_its_way(whole, recipe, nursery, tmp_path):
  """kill -9 at a random step, SIGTERM later, kill -9 in an evaluation; then to the end. Of the
  Transformer the second."""
  run, lives = tmp_path / 'run', tmp_path / 'lives'
  argv, ended = command(recipe, run, whole.system), []
  faults = [
    ('step', random.Random(whole.system).randint(2, 4), signal.SIGKILL),
    ('step', 6, signal.SIGTERM),
    ('evaluate', 10, signal.SIGKILL),
  ]
  for phase, step, number in faults if whole.system == 'rnn' else faults[1:2]:
    life = Life(nursery, lives, argv)
    life.until_been(0, phase, step)
    life.signal(number, 0)
    ended += life.codes()
  assert ended == ([-signal.SIGKILL, 75, -signal.SIGKILL] if whole.system == 'rnn' else [75])
  run_to_end(nursery, lives, argv)
  whole.assert_same(run)


@pytest.mark.parametrize(
  'whole', ['rnn', pytest.param('transformer', marks=pytest.mark.slow)], indirect=True
)
def test_resumed_after_a_batch_of_each_shape(whole, recipe, nursery, tmp_path):
  seen = shapes(whole.path)
  steps = {seen[step - 1]: step for step in (2, 4, 6, 8)}  # those that were saved
  assert len(steps) == len(BUCKETS)
  for step in steps.values():
    run = whole.cut(tmp_path / str(step), step)
    out = run_to_end(nursery, tmp_path / 'lives', command(recipe, run, whole.system))
    assert f'start: checkpoint of step {step}' in out
    whole.assert_same(run)


def shapes(path: Path) -> list[tuple[int, ...]]:
  """Of the sources in the batch of each step of a run."""
  run = Run(path)
  loader = Trainer(run.experiment, path, vocabularies=run.vocabularies).domain.loader
  return [loader.batch(step)['source'].shape for step in range(run.experiment.steps)]
