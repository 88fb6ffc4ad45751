"""The number of processes changes from start to start: each example still counts exactly once."""

import signal

import pytest

from tests.fleet import Life

EXAMPLES, BATCH = 75, 12
STEPS = 4 * EXAMPLES // BATCH  # four epochs


@pytest.mark.storm
def test_each_example_once_through_one_three_and_two_processes(nursery, lenet_recipe, tmp_path):
  argv = [
    'train',
    f'--config={lenet_recipe}',
    f'--workdir={tmp_path / "run"}',
    f'--config.steps={STEPS}',
    '--config.optim.name=sgd',
  ]
  counts, parts, done = [], [], 0
  for count in (1, 3, 2):
    life = Life(nursery, tmp_path / 'lives', argv, count)
    if count != 2:
      life.until_been(count - 1, 'step', done + 3)
      life.signal(signal.SIGTERM, count - 1)
    assert life.codes() == [0 if count == 2 else 75] * count, life.logs()
    part = life.batches()
    counts.append(len({step for step, _, _ in part}))
    assert len(part) == counts[-1] * count  # every process had its rows of every batch
    parts += part
    done = max(step for step, _, _ in part) + 1
  assert all(counts) and sum(counts) == STEPS  # all three had steps, and none was done twice
  stream = [i for _, _, ids in sorted(parts) for i in ids]
  assert len(stream) == 4 * EXAMPLES
  for epoch in range(4):
    assert sorted(stream[epoch * EXAMPLES : (epoch + 1) * EXAMPLES]) == list(range(EXAMPLES))
