"""Interrupt a real process at any moment, run the same command again: it is the same run."""

import os
import random
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.fleet import Life, result, run_to_end

STEPS = 60


def command(recipe: Path, workdir: Path, *flags: str) -> list[str]:
  return ['train', f'--config={recipe}', f'--workdir={workdir}', f'--config.steps={STEPS}', *flags]


def rows_written(workdir: Path) -> int:
  path = workdir / 'metrics.jsonl'
  return path.read_text().count('\n') if path.exists() else 0


def unfinished_save(workdir: Path) -> bool:
  return any('tmp' in path.name for path in workdir.glob('checkpoints/*'))


@pytest.fixture(scope='module')
def undisturbed(tiny_recipe, nursery, tmp_path_factory):
  folder = tmp_path_factory.mktemp('undisturbed')
  run_to_end(nursery, folder / 'lives', command(tiny_recipe, folder / 'run'))
  return result(folder / 'run')


def assert_same(workdir: Path, undisturbed) -> None:
  state, rows, summary = result(workdir)
  for leaf, expected in zip(jax.tree.leaves(state), jax.tree.leaves(undisturbed[0]), strict=True):
    np.testing.assert_array_equal(leaf, expected)
  assert rows == undisturbed[1]
  assert summary['test'] == undisturbed[2]['test']


def test_kill_at_five_moments_one_inside_a_save(tiny_recipe, nursery, tmp_path, undisturbed):
  """One run, killed five times on its way: four times at random, once inside a save. Once it has
  ended, the same command leaves it as it is."""
  rng = random.Random(os.environ.get('KILL_SEED', '0'))
  run, lives = tmp_path / 'run', tmp_path / 'lives'
  argv = command(tiny_recipe, run)
  at_rows = sorted(rng.sample(range(1, len(undisturbed[1]) - 2), 4))
  killed = []
  for target in [*at_rows[:2], 'save', *at_rows[2:]]:
    life = Life(nursery, lives, argv)
    if target == 'save':
      assert life.until(lambda: unfinished_save(run)), life.logs()
    else:
      assert life.until(lambda n=target: rows_written(run) >= n), life.logs()
      time.sleep(rng.random() * 0.05)
    life.signal(signal.SIGKILL, 0)
    killed += life.codes()
    if target == 'save':
      assert unfinished_save(run), 'the save was over before the kill; nothing was shown'
  assert killed == [-signal.SIGKILL] * 5
  run_to_end(nursery, lives, argv)
  assert_same(run, undisturbed)
  assert f'start: checkpoint of step {STEPS}' in run_to_end(nursery, lives, argv)
  assert_same(run, undisturbed)


def test_resume_on_other_devices(tiny_recipe, nursery, tmp_path):
  """SIGTERM saves and exits 75; then from one device to a (1, 2, 2) mesh.

  With SGD: Adam blows rounding in a gradient that should be zero (the keys' biases) up to the
  size of the learning rate.
  """
  flags = ('--config.optim.name=sgd', '--config.optim.lr=0.05')
  run_to_end(nursery, tmp_path, command(tiny_recipe, tmp_path / 'one', *flags))
  argv = command(tiny_recipe, tmp_path / 'other', *flags)
  life = Life(nursery, tmp_path, argv)
  assert life.until(lambda: rows_written(tmp_path / 'other') >= 12), life.logs()
  life.signal(signal.SIGTERM, 0)
  assert life.codes() == [75], life.logs()
  assert 'stopped and saved at step' in life.log(0)
  run_to_end(
    nursery, tmp_path, [*argv, '--config.mesh.fsdp=2', '--config.mesh.tensor=2'], devices=4
  )
  one, other = result(tmp_path / 'one'), result(tmp_path / 'other')
  for leaf, expected in zip(jax.tree.leaves(other[0]), jax.tree.leaves(one[0]), strict=True):
    np.testing.assert_allclose(leaf, expected, atol=1e-5)
  assert len(one[1]) == len(other[1])
  for row, expected in zip(other[1], one[1], strict=True):
    assert row == pytest.approx(expected, abs=1e-5)
