"""Scenarios of two and three processes: what differs is named, and one that stops ends the others.

Kills, signals and full disks of training are in test_kills_of_training.py.
"""

import re
import signal

import pytest

from tests.fleet import Life
from tests.storm.verdicts import Storm

LIMIT = 90.0  # seconds
DIFFERENT = {
  'config': lambda argv, other: {'argv': [*argv, '--config.seed=1']},
  'data': lambda argv, other: {'argv': [*argv, f'--config.data.dir={other}']},
  'version': lambda argv, other: {'version': '0.0.0'},
}


def scenario(kind: str, count: int, recipe, other, nursery, folder) -> tuple[str, str]:
  """(verdict, why it is a bad one or '') of a run of `count` processes."""
  argv = [
    'train',
    f'--config={recipe}',
    f'--workdir={folder / f"{kind}-{count}"}',
    '--config.steps=9',
  ]
  victim, plant = count - 1, {}
  if kind in DIFFERENT:
    plant = {victim: DIFFERENT[kind](argv, other)}
  elif kind == 'slow':
    plant = {victim: {'hang': 3}}
  elif kind.endswith('coordinator'):
    victim = 0
  life = Life(nursery, folder / 'lives', argv, count, plant)
  number = {'stop': signal.SIGSTOP, 'kill': signal.SIGKILL, 'term': signal.SIGTERM}.get(kind[:4])
  if number:
    life.until_been(victim, 'step', 3)
    life.signal(number, victim)
  gone = number in (signal.SIGSTOP, signal.SIGKILL)
  forced = (victim,) if number == signal.SIGSTOP else ()
  codes = life.codes(LIMIT, forced)
  expected = 75 if number == signal.SIGTERM else 2 if kind in DIFFERENT else 1
  others = [code for index, code in enumerate(codes) if not (gone and index == victim)]
  if kind == 'kill the coordinator':  # JAX's runtime aborts at once where its service is gone
    return ('sentence', '') if {*others} <= {1, -signal.SIGABRT} else ('traceback', f'{codes}')
  if any(code != expected for code in others):
    return 'traceback', f'{codes}, not {expected}: {life.logs()[-3000:]}'
  named = rf'process {victim} (has been silent|does not answer)'
  if number == signal.SIGSTOP and not re.search(named, ''.join(map(life.log, range(count)))):
    return 'silent', f'process {victim} is not named: {life.logs()[-3000:]}'
  return ('right', '') if number == signal.SIGTERM else ('sentence', '')


KINDS = [*DIFFERENT, 'slow', 'stop a worker', 'stop the coordinator', 'kill a worker',
         'kill the coordinator', 'term a worker', 'term the coordinator']  # fmt: skip


def ride(kinds, counts, recipe, other, nursery, folder) -> None:
  storm = Storm('processes', nursery, folder)
  for count in counts:
    for kind in kinds:
      storm.note(f'{kind}, {count}', *scenario(kind, count, recipe, other, nursery, folder))
  storm.must_be_calm()


@pytest.fixture
def other(write_images, tmp_path):
  for split in ('train', 'test'):
    write_images(tmp_path / 'other' / split, {'dark': 20, 'gray': 20, 'light': 20}, seed=9)
  return tmp_path / 'other'


def test_a_process_that_is_stopped_is_named(lenet_recipe, other, nursery, tmp_path):
  ride(['stop a worker'], [2], lenet_recipe, other, nursery, tmp_path)


@pytest.mark.storm
def test_processes(lenet_recipe, other, nursery, tmp_path):
  ride(KINDS, [2, 3], lenet_recipe, other, nursery, tmp_path)
