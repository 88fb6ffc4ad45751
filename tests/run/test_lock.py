"""One training at a time in a run folder; a lock that a kill left behind is in nobody's way."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.fleet import Life
from vit_jax import commands, config
from vit_jax.errors import RunFault, UserError
from vit_jax.parallel.processes import Processes
from vit_jax.run import lock
from vit_jax.run.folder import Run


def take(folder: Path):
  return Run(folder).lock(Processes(config.Limits()))


def stored(folder: Path) -> dict:
  return json.loads((folder / 'lock.json').read_text())


def leave_behind(folder: Path, **words) -> Path:
  """A lock as another process would have left it; returns its path."""
  folder.mkdir(exist_ok=True)
  path = folder / 'lock.json'
  path.write_text(json.dumps({**lock._this_process(), 'since': 'then', **words}))
  return path


def gone() -> int:
  """The number of a process that has ended."""
  process = subprocess.Popen([sys.executable, '-c', ''])
  process.wait()
  return process.pid


def test_it_is_held_by_one_and_then_released(tmp_path):
  with take(tmp_path / 'run'):
    assert stored(tmp_path / 'run')['pid'] == os.getpid()
    with pytest.raises(UserError, match=f'process {os.getpid()} on host .* choose another'):
      take(tmp_path / 'run').__enter__()
    assert stored(tmp_path / 'run')['pid'] == os.getpid()
  assert list((tmp_path / 'run').iterdir()) == []
  with pytest.raises(KeyError):
    with take(tmp_path / 'run'):
      raise KeyError
  with take(tmp_path / 'run'):
    pass


@pytest.mark.parametrize('words', [{'pid': gone()}, {'started': 1}])
def test_a_process_of_this_host_that_is_gone_is_known_to_be(words, tmp_path, caplog):
  """Also where its number belongs to another process by now."""
  leave_behind(tmp_path, **words)
  began = time.monotonic()
  with take(tmp_path):
    assert stored(tmp_path) != words and time.monotonic() - began < 1
  assert 'took over' in caplog.text and '\n' not in caplog.messages[0]
  assert list(tmp_path.iterdir()) == []


def test_a_zombie_is_gone(tmp_path):
  process = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
  leave_behind(tmp_path, pid=process.pid, started=lock._started(process.pid))
  with pytest.raises(UserError, match=f'process {process.pid}'):
    take(tmp_path).__enter__()
  os.kill(process.pid, signal.SIGKILL)
  while lock._started(process.pid) >= 0:
    time.sleep(0.01)
  with take(tmp_path):  # before anybody has waited for it
    pass
  process.wait()


@pytest.mark.parametrize(
  'content', [{'host': 'elsewhere'}, {'boot': 'another'}, {'namespace': 'pid:[7]'}, None]
)
def test_a_process_elsewhere_lives_while_it_touches_the_lock(content, tmp_path, monkeypatch):
  monkeypatch.setattr(lock, 'SILENT', 2.0)
  monkeypatch.setattr(lock, 'BEAT', 0.2)
  path = leave_behind(tmp_path, **(content or {}), pid=gone())
  if content is None:
    path.write_text('')  # nobody can say whose
  over = threading.Event()

  def beat():
    while not over.wait(0.3):
      os.utime(path)

  thread = threading.Thread(target=beat)
  thread.start()
  with pytest.raises(UserError, match='is being trained by process'):
    take(tmp_path).__enter__()
  over.set()
  thread.join()
  began = time.monotonic()
  with take(tmp_path):
    assert 1 < time.monotonic() - began < 10
  leave_behind(tmp_path, **(content or {'host': 'elsewhere'}))
  os.utime(path, (time.time() - 60,) * 2)
  began = time.monotonic()
  with take(tmp_path):  # silent for long
    assert time.monotonic() - began < 1


def test_an_owner_that_was_taken_for_gone_ends(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(lock, 'BEAT', 0.05)
  here, left = Processes(config.Limits()), threading.Event()

  def leave(code: int):
    left.code = code
    left.set()
    threading.Event().wait()  # as it never returns

  monkeypatch.setattr(here, 'leave', leave)
  with pytest.raises(RunFault, match='taken over'), Run(tmp_path).lock(here):
    leave_behind(tmp_path, host='elsewhere', pid=7)
    assert left.wait(10) and left.code == 1
  assert 'was taken over by process 7 on host elsewhere' in capsys.readouterr().err
  assert stored(tmp_path)['host'] == 'elsewhere'  # it is not ours to release


def test_of_several_that_find_a_stale_lock_one_gets_it(tmp_path):
  """Real processes, all at once, again and again."""
  code = (
    'import sys, time\n'
    'from vit_jax import config\n'
    'from vit_jax.errors import UserError\n'
    'from vit_jax.parallel.processes import Processes\n'
    'from vit_jax.run.lock import Lock\n'
    'from pathlib import Path\n'
    'print("ready", flush=True)\n'
    'for line in sys.stdin:\n'
    '  try:\n'
    '    with Lock(Path(line.strip()), Processes(config.Limits())):\n'
    '      began = time.monotonic()\n'
    '      time.sleep(0.1)\n'
    '      ended = time.monotonic()\n'
    '    print(began, ended, flush=True)\n'
    '  except UserError:\n'
    '    print(flush=True)\n'
  )
  processes = [
    subprocess.Popen(
      [sys.executable, '-c', code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    for _ in range(4)
  ]
  try:
    for process in processes:
      assert process.stdout.readline() == 'ready\n'
    for number in range(10):
      folder = tmp_path / str(number)
      leave_behind(folder, pid=gone())
      for process in processes:
        process.stdin.write(f'{folder}\n')
        process.stdin.flush()
      said = [process.stdout.readline().split() for process in processes]
      held = sorted(tuple(map(float, times)) for times in said if times)
      assert held  # by one after the other, where one of them was late
      assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(held))
      assert list(folder.iterdir()) == []
  finally:
    for process in processes:
      process.stdin.close()
      process.wait()


def test_a_second_training_is_refused(lenet_recipe, nursery, tmp_path, capsys):
  run = tmp_path / 'run'
  argv = ['train', f'--config={lenet_recipe}', f'--workdir={run}', '--config.steps=400']
  life = Life(nursery, tmp_path / 'lives', argv)
  life.until_been(0, 'step', 3)
  assert commands.main([*argv, '--config.batch_size=16', '--config.eval_batch_size=16']) == 2
  error = capsys.readouterr().err
  assert f'{run} is being trained by process {life.pids[0]} on host' in error
  assert error.count('\n') == 1
  life.signal(signal.SIGTERM, 0)
  assert life.codes() == [75], life.logs()
  assert not (run / 'lock.json').exists()
  life = Life(nursery, tmp_path / 'lives', argv)
  life.until_been(0, 'step')
  life.signal(signal.SIGKILL, 0)
  life.codes()
  assert (run / 'lock.json').exists()
  life = Life(nursery, tmp_path / 'lives', argv)
  life.until_been(0, 'step')
  life.signal(signal.SIGTERM, 0)
  assert life.codes() == [75], life.logs()
  assert 'took over the lock' in life.log(0) and 'start: checkpoint of step' in life.log(0)
  assert not (run / 'lock.json').exists()


@pytest.mark.parametrize('lose', [shutil.rmtree, lambda run: run.rename(run.with_name('aside'))])
def test_a_run_whose_folder_is_lost_ends(lose, tmp_path):
  with pytest.raises(RunFault, match='was removed or replaced'):
    with take(tmp_path / 'run') as held:
      held.check()
      lose(tmp_path / 'run')
      if lose is not shutil.rmtree:
        (tmp_path / 'run').mkdir()
  with pytest.raises(KeyError):  # the first fault is the one to name
    with take(tmp_path / 'other'):
      shutil.rmtree(tmp_path / 'other')
      raise KeyError


def test_a_clock_that_was_set_back_is_waited_for_no_longer(tmp_path, monkeypatch):
  monkeypatch.setattr(lock, 'SILENT', 0.5)
  path = leave_behind(tmp_path, host='elsewhere')
  os.utime(path, (time.time() + 1e6,) * 2)
  began = time.monotonic()
  with take(tmp_path):
    assert time.monotonic() - began < 5
