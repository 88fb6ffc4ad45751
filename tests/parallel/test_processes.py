"""Processes that talk, stop at one place, and name the one that hangs."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vit_jax.config import Limits
from vit_jax.errors import PREEMPTED, UserError
from vit_jax.parallel import places, processes
from vit_jax.parallel.preemption import Preemption
from vit_jax.parallel.processes import Late, Processes
from vit_jax.parallel.watchdog import Watchdog, name_the_stuck

LIMITS = Limits(barrier=5.0)


class Service:
  """The coordination service's part that `Processes` uses, for processes that are threads."""

  def __init__(self, count: int):
    self.count, self.store, self.arrived = count, {}, {}
    self.changed = threading.Condition()

  def key_value_set(self, key: str, value: str) -> None:
    with self.changed:
      if key in self.store:
        raise RuntimeError(f'ALREADY_EXISTS: {key}')
      self.store[key] = value
      self.changed.notify_all()

  def blocking_key_value_get(self, key: str, timeout_ms: int) -> str:
    with self.changed:
      if not self.changed.wait_for(lambda: key in self.store, timeout_ms / 1000):
        raise RuntimeError(f'DEADLINE_EXCEEDED: {key}')
      return self.store[key]

  def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
    with self.changed:
      return [(name, value) for name, value in self.store.items() if name.startswith(key)]

  def wait_at_barrier(self, name: str, timeout_ms: int) -> None:
    with self.changed:
      self.arrived[name] = self.arrived.get(name, 0) + 1
      self.changed.notify_all()
      if not self.changed.wait_for(lambda: self.arrived[name] == self.count, timeout_ms / 1000):
        raise RuntimeError('DEADLINE_EXCEEDED: timed out task names:\n2\n')


def everywhere(count: int, work) -> list:
  """work(processes) on `count` processes at a time."""
  service, answers = Service(count), [None] * count

  def run(index: int) -> None:
    answers[index] = work(Processes(LIMITS, service, index, count))

  threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(timeout=30)
  assert None not in answers
  return answers


def test_one_process_needs_no_service():
  alone = processes.start(LIMITS)
  assert (alone.index, alone.count) == (0, 1)
  assert alone.share(lambda: [1]) == [1] and alone.gather('a') == ['a']


def test_share_and_gather():
  answers = everywhere(
    3,
    lambda here: [
      here.share(lambda: f'of {here.index}'),
      here.gather(here.index * 10),
      here.gather('b'),
    ],
  )
  assert answers == [['of 0', [0, 10, 20], ['b'] * 3]] * 3


def test_a_missing_process_is_named():
  here = Processes(Limits(barrier=0.1), Service(3), 0, 3)
  with pytest.raises(Late, match='waited 0.1 s for process 2'):
    here.gather(1)
  assert here.gather(1, limit=0.1) == [1, None, None]


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('kind', ['stop', 'save'])
def test_all_processes_stop_and_save_at_one_tick(kind, seed):
  """Whoever is told, by however many, and however far apart they are."""
  told = random.Random(seed).sample(range(4), 1 + seed % 3)

  def work(here: Processes) -> tuple[int, int]:
    rng = random.Random(100 * seed + here.index)
    preemption = Preemption()
    preemption.attach(here)
    here.listen()
    preemption.begin()
    here.gather('all have begun')
    when = rng.randint(3, 30)
    for tick in range(1, 200):
      if preemption.tick() or preemption.save_due():
        return tick, len(told)
      if here.index in told and tick == when:
        here.post(kind)
      time.sleep(rng.random() * 0.002)
    return 0, 0

  answers = everywhere(4, work)
  assert len(set(answers)) == 1 and answers[0][0] > 3


def test_two_requests_at_once_are_both_heard():
  def work(here: Processes) -> list[int]:
    heard: list[int] = []
    here.on['hello'] = lambda request, gather: heard.append(request['by'])
    here.listen()
    here.post('hello')
    deadline = time.monotonic() + 5
    while len(heard) < 4 and time.monotonic() < deadline:
      time.sleep(0.001)
    return heard

  answers = everywhere(4, work)
  assert sorted(answers[0]) == [0, 1, 2, 3] and answers == [answers[0]] * 4  # in the same order


@pytest.mark.parametrize(
  'given',
  [
    {'JAX_COORDINATOR_ADDRESS': '10.0.0.1:1'},
    {'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': '0'},
    {'JAX_COORDINATOR_ADDRESS': '10.0.0.1:1', 'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': '2'},
    {'JAX_COORDINATOR_ADDRESS': '10.0.0.1:1', 'JAX_NUM_PROCESSES': 'two', 'JAX_PROCESS_ID': '0'},
  ],
)
def test_incomplete_variables_are_refused(given):
  with pytest.raises(UserError, match='set all three'):
    places.from_variables(given)


def test_variables_name_a_process():
  given = {'JAX_COORDINATOR_ADDRESS': 'a:1', 'JAX_NUM_PROCESSES': '4', 'JAX_PROCESS_ID': '3'}
  assert places.from_variables(given) == ('a:1', 4, 3, 'deactivate')
  assert places.from_variables({**given, 'JAX_NUM_PROCESSES': '1', 'JAX_PROCESS_ID': '0'}) is None
  assert places.from_variables({}) is None


def test_the_coordinator_listens_on_one_interface():
  assert places.bind_address({}, '10.0.0.1:8476') == '10.0.0.1:8476'
  given = {'JAX_COORDINATOR_BIND_ADDRESS': '10.1.0.1:8476'}
  assert places.bind_address(given, '10.0.0.1:8476') == '10.1.0.1:8476'
  for everything in ('0.0.0.0:8476', '[::]:8476', ':8476'):
    with pytest.raises(UserError, match='the one interface'):
      places.bind_address({'JAX_COORDINATOR_BIND_ADDRESS': everything}, '10.0.0.1:8476')


@pytest.mark.parametrize(
  'answers, named',
  [
    ([(7, 'step', 30.0), (7, 'data', 31.0), (7, 'step', 30.0)], 'process 1 (31 s in phase'),
    ([(7, 'step', 30.0), (6, 'step', 31.0)], 'process 1 (31 s'),
    ([(7, 'step', 30.0), None], 'process 1 does not answer'),
    (
      [(7, 'step', 30.0), (7, 'step', 30.0)],
      "process 0 (30 s in phase 'step' of step 7), process 1 (30 s",
    ),
  ],
)
def test_the_stuck_process_is_named(answers, named):
  assert name_the_stuck(answers).startswith(f'stuck: {named}')


def test_time_belongs_to_one_phase():
  began = time.perf_counter()
  watch = Watchdog(Processes(LIMITS), Path('.'), 0, began)
  with watch.phase('step', 0):
    time.sleep(0.02)
    with watch.phase('data', 0):
      time.sleep(0.05)
    time.sleep(0.02)
  now, booked = watch.booked()
  assert sum(booked.values()) == pytest.approx(now - began, rel=1e-9)
  assert booked['data'] >= 0.05 and booked['step'] >= 0.04 and booked['init'] < 0.02


def child(code: str, folder: Path) -> subprocess.Popen:
  path = {'PYTHONPATH': str(Path(__file__).parents[2])}
  return subprocess.Popen(
    [sys.executable, '-c', code],
    cwd=folder,
    env={**os.environ, **path},
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
  )


LONG_CALL = """
import hashlib
from vit_jax.config import Limits
from vit_jax.parallel.preemption import Preemption
with Preemption() as preemption:
  {attach}
  print('here', flush=True)
  hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)  # minutes in C, as a compilation
"""


@pytest.mark.parametrize(
  'attach',
  ['pass', 'from vit_jax.parallel import processes; preemption.attach(processes.start(Limits()))'],
)
def test_sigterm_ends_a_process_within_a_long_call_of_c(attach, tmp_path):
  process = child(LONG_CALL.format(attach=attach), tmp_path)
  assert process.stdout.readline() == 'here\n'
  before = time.monotonic()
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=20) == PREEMPTED
  assert time.monotonic() - before < 10


HUNG = """
import time
from pathlib import Path
from vit_jax.config import Limits
from vit_jax.parallel import processes
from vit_jax.parallel.watchdog import Watchdog

def a_loader_that_hangs():
  time.sleep(60)

def a_slow_one():
  for _ in range(8):
    time.sleep(0.1)
    watch.renew(0.5)

with Watchdog(processes.start(Limits()), Path(), 0, time.perf_counter()) as watch:
  with watch.phase('step', 0.5):
    a_slow_one()
  print('here', flush=True)
  with watch.phase('data', 0.5):
    a_loader_that_hangs()
"""


def test_a_phase_beyond_its_limit_ends_the_run_with_all_stacks(tmp_path):
  process = child(HUNG, tmp_path)
  output, error = process.communicate(timeout=60)
  assert (process.returncode, output) == (1, 'here\n'), error  # what gets on is left alone
  assert 'process 0 (' in error and "in phase 'data'" in error
  for text in (error, (tmp_path / 'stacks-0.txt').read_text()):
    assert 'in a_loader_that_hangs' in text
