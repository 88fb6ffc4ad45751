"""A storm of faults over a run of several real processes: it ends as if nothing had happened.

Each life of a run ends by a fault; the next goes on as a requeue would. At the end the parameters
and every row of the metrics are bit by bit those of a run that nothing disturbed. All 40:
`pytest -m storm -n 0 -s tests/storm`; three of them run in CI.
"""

import json
import random
import re
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.fleet import Life, Nursery, result

EVERY = 5  # steps to a checkpoint, as LENET_RECIPE says
SMALL_FILES = 100_000  # bytes; fewer than a checkpoint has
GONE = (1, -signal.SIGABRT)  # of a process whose peer died: our code, or JAX's runtime's abort
KINDS = (
  'kill a worker',
  'kill the coordinator',
  'kill in a save',
  'stop a worker',
  'SIGTERM in start',
  'SIGTERM in compile',
  'SIGTERM in train',
  'SIGTERM in evaluate',
  'SIGTERM in save',
  'hung loader',
  'full disk',
  'truncated checkpoint',
)
SHORT = ('truncated checkpoint', 'SIGTERM in evaluate', 'kill in a save')


def command(recipe: Path, run: Path, steps: int) -> list[str]:
  return ['train', f'--config={recipe}', f'--workdir={run}', f'--config.steps={steps}']


def saved_step(run: Path) -> int:
  return max(
    (int(path.name) for path in run.glob('checkpoints/*') if path.name.isdigit()), default=0
  )


def saving(run: Path) -> bool:
  return any('tmp' in path.name for path in run.glob('checkpoints/*'))


def truncate(run: Path, rng: random.Random) -> None:
  """The largest file of the newest checkpoint loses its end, and more than its last chunk."""
  files = [
    path for path in (run / 'checkpoints' / str(saved_step(run))).rglob('*') if path.is_file()
  ]
  largest = max(files, key=lambda path: path.stat().st_size)
  with open(largest, 'r+b') as file:
    file.truncate(int(largest.stat().st_size * rng.uniform(0, 0.8)))


def storm(
  kind: str, nursery: Nursery, argv: list[str], run: Path, count: int, rng: random.Random
) -> float:
  """One life that ends by a fault, with the exit codes that are promised; returns when the fault
  was (unix seconds)."""
  here = saved_step(run)
  at = here + rng.randint(1, 5)  # where the fault comes
  if kind == 'truncated checkpoint':
    at = here + EVERY + 1  # there is one before it
  one = rng.randrange(count)
  plant = {'hung loader': {one: {'hang': at}}, 'full disk': {one: {'full': SMALL_FILES}}}.get(
    kind, {}
  )
  life = Life(nursery, run.parent / 'lives', argv, count, plant)
  if kind.startswith('SIGTERM'):
    phase = {'train': 'step'}.get(kind.split()[-1], kind.split()[-1])
    # Before the processes know each other, only all of them can be told.
    told = range(count) if phase == 'start' or rng.random() < 0.3 else [one]
    step = {'start': 0, 'compile': 0, 'step': at, 'evaluate': here + 1, 'save': here + 1}[phase]
    assert life.until(lambda: all(life.been(i, phase, step) for i in told)), life.logs()
    when = life.signal(signal.SIGTERM, *told)
    assert life.codes() == [75] * count, life.logs()
  elif kind == 'hung loader':
    codes = life.codes()
    when = time.time()
    assert codes == [1] * count, life.logs()
    stacks = run / f'stacks-{one}.txt'
    assert f'stuck: process {one} (' in life.log(one) and 'Thread' in stacks.read_text()
  elif kind == 'full disk':
    codes = life.codes()
    when = time.time()
    assert codes == [2] * count, life.logs()
    assert 'a file grew beyond the size limit' in life.logs()
  else:
    victim = {'kill the coordinator': 0, 'kill in a save': one}.get(kind, rng.randrange(1, count))
    if kind == 'kill in a save':
      life.until(lambda: life.been(victim, 'save', here + 1) and saving(run))
    else:
      life.until_been(victim, 'step', at)
    number = {'stop a worker': signal.SIGSTOP, 'truncated checkpoint': signal.SIGTERM}.get(
      kind, signal.SIGKILL
    )
    when = life.signal(number, victim)
    codes = life.codes(forced=(victim,) if number == signal.SIGSTOP else ())
    if kind == 'truncated checkpoint':
      assert codes == [75] * count, life.logs()
      truncate(run, rng)
    else:
      assert codes.pop(victim) == -signal.SIGKILL
      assert all(code in GONE for code in codes), (codes, life.logs())
      if number == signal.SIGSTOP:
        named = rf'process {victim} (has been silent|does not answer)'
        assert re.search(named, ''.join(map(life.log, range(count)))), life.logs()
        assert -signal.SIGABRT not in codes, life.logs()
  return when


def weather(
  kinds: list[str],
  nursery: Nursery,
  recipe: Path,
  folder: Path,
  *,
  count: int,
  steps: int,
  seed: int,
) -> list[tuple[float, str]]:
  """A run through these faults, held against one without; returns (seconds to recover, fault)."""
  undisturbed, run = folder / 'undisturbed', folder / 'run'
  if not undisturbed.exists():
    life = Life(nursery, folder / 'lives', command(recipe, undisturbed, steps), count)
    assert life.codes() == [0] * count, life.logs()
  shutil.rmtree(run, ignore_errors=True)
  argv, rng, faults = command(recipe, run, steps), random.Random(seed), []
  for kind in kinds:
    when = storm(kind, nursery, argv, run, count, rng)
    faults.append((when, kind))
    print(f'{count} processes, {kind} at step {saved_step(run)}', flush=True)
  life = Life(nursery, folder / 'lives', argv, count)
  assert life.codes() == [0] * count, life.logs()
  if kinds[-1] == 'truncated checkpoint':
    assert 'is damaged' in life.log(0), life.logs()
  events = [json.loads(line) for line in (run / 'events.jsonl').read_text().splitlines()]
  stepped = [event['time'] for event in events if event.get('seconds', {}).get('step')]
  recoveries = [
    (min(time for time in stepped if time > when) - when, kind) for when, kind in faults
  ]
  (state, rows, summary), (expected, expected_rows, expected_summary) = (
    result(folder, steps) for folder in (run, undisturbed)
  )
  jax.tree.map(np.testing.assert_array_equal, state, expected)
  assert rows == expected_rows and summary['test'] == expected_summary['test']
  return recoveries


def tell(recoveries: list[tuple[float, str]]) -> None:
  seconds, kind = max(recoveries)
  print(f'{len(recoveries)} faults; worst recovery {seconds:.1f} s, after: {kind}')


def test_three_faults(nursery, lenet_recipe, tmp_path):
  tell(weather(list(SHORT), nursery, lenet_recipe, tmp_path, count=2, steps=40, seed=0))


@pytest.mark.storm
def test_forty_faults(nursery, lenet_recipe, tmp_path):
  """Each of the twelve kinds at least three times, over two and over four processes."""
  rng = random.Random(0)
  kinds = list(KINDS) * 3 + rng.sample(KINDS, 4)
  rng.shuffle(kinds)
  recoveries = []
  for number in range(0, 40, 5):
    count = (2, 4)[number // 5 % 2]
    folder = tmp_path / str(count)
    folder.mkdir(exist_ok=True)
    recoveries += weather(
      kinds[number : number + 5], nursery, lenet_recipe, folder, count=count, steps=60, seed=number
    )
  assert len(recoveries) == 40
  tell(recoveries)
