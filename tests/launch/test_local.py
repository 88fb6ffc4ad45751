"""Several processes on this host: how they find each other, end together, and what comes out."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vit_jax import commands
from vit_jax.launch import local
from vit_jax.launch.job import Job

ROOT = Path(__file__).parents[2]


def job(folder: Path, **options) -> Job:
  return Job('test', 'recipe.py', str(folder / 'run'), **{'processes': 3, **options})


def told(folder: Path, index: int) -> dict:
  return json.loads((folder / 'run' / f'process-{index}').read_text())


def alive(pid: int) -> bool:
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  return True


def wait_for(what, seconds: float = 20.0) -> None:
  deadline = time.monotonic() + seconds
  while not what():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def test_processes_are_told_where_they_are(stand_in, capfd):
  folder = stand_in('')
  assert local.run(job(folder)) == 0
  words = [told(folder, index)['variables'] for index in range(3)]
  addresses = {word['JAX_COORDINATOR_ADDRESS'] for word in words}
  assert len(addresses) == 1 and addresses.pop().startswith('127.0.0.1:')
  assert all(
    word['JAX_COORDINATOR_BIND_ADDRESS'] == word['JAX_COORDINATOR_ADDRESS'] for word in words
  )
  assert [word['JAX_PROCESS_ID'] for word in words] == ['0', '1', '2']
  assert {word['JAX_NUM_PROCESSES'] for word in words} == {'3'}
  lines = capfd.readouterr().out.splitlines()
  assert sorted(lines) == [f'[{i}] hello from {i}' for i in range(3)]


def test_one_process_is_a_plain_train(stand_in, capfd):
  folder = stand_in('')
  assert local.run(job(folder, processes=1)) == 0
  assert 'JAX_PROCESS_ID' not in told(folder, 0)['variables']
  assert capfd.readouterr().out == 'hello from 0\n'


def test_gpus_are_divided(stand_in, monkeypatch):
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  folder = stand_in('')
  assert local.run(job(folder, processes=2, gpus_per_node=4, first_gpu=4)) == 0
  assert [told(folder, i)['variables']['CUDA_VISIBLE_DEVICES'] for i in range(2)] == ['4,5', '6,7']


def test_gpus_are_those_that_we_may_use(stand_in, tiny_recipe, monkeypatch, capsys):
  """CUDA_VISIBLE_DEVICES is counted, and what is divided are its entries."""
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '6,GPU-8932f937,3,1')
  folder = stand_in('')
  assert local.run(job(folder, processes=2, gpus_per_node=2, first_gpu=1)) == 0
  assert [told(folder, i)['variables']['CUDA_VISIBLE_DEVICES'] for i in range(2)] == [
    'GPU-8932f937',
    '3',
  ]
  assert commands.main(['launch', f'--config={tiny_recipe}', '--gpus_per_node=8']) == 2
  assert 'leaves this command 4; ask for no more' in capsys.readouterr().err

  monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
  monkeypatch.setattr(local.glob, 'glob', lambda pattern: [f'/dev/nvidia{i}' for i in range(8)])
  counts = {}
  for text in ('6,3', '', '-1', '2,-1,3'):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', text)
    counts[text] = local.gpus_here()
  assert counts == {'6,3': 2, '': 0, '-1': 0, '2,-1,3': 1}
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES')
  assert local.gpus_here() == 8
  monkeypatch.setattr(local.glob, 'glob', lambda pattern: [])
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
  assert local.gpus_here() == 0


@pytest.mark.parametrize(
  'codes, expected',
  [
    ((0, 0, 0), 0),
    ((75, 75, 75), 75),
    ((0, 75, 75), 75),
    ((0, 1, 75), 1),
    ((2, 2, 2), 2),
    ((-9, 134, 134), 1),
    ((0, 0, -15), 1),
    ((2, 1, 75), 2),
  ],
)
def test_exit_code(codes, expected):
  assert local.exit_code(codes) == expected


def test_one_that_dies_ends_the_others(stand_in, monkeypatch):
  monkeypatch.setattr(local, 'PATIENCE', 0.5)
  folder = stand_in("""
if index == '1':
  os.kill(os.getpid(), signal.SIGKILL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # hangs in a collective, and hears nothing
time.sleep(600)""")
  began = time.monotonic()
  assert local.run(job(folder)) == 1
  assert time.monotonic() - began < 15
  assert not any(alive(told(folder, index)['pid']) for index in range(3))


def test_sigterm_is_passed_on_and_75_comes_back(stand_in):
  folder = stand_in('time.sleep(600)')
  told_to_stop, codes = threading.Event(), []
  thread = threading.Thread(target=lambda: codes.append(local.run(job(folder), told_to_stop)))
  thread.start()
  wait_for(lambda: all((folder / 'run' / f'process-{i}').exists() for i in range(3)))
  time.sleep(0.2)
  told_to_stop.set()
  thread.join(20)
  assert codes == [75]


COMMAND = """
import sys
sys.path.insert(0, {root!r})
from vit_jax.launch import local
from vit_jax.launch.job import Job
sys.exit(local.run(Job('test', 'recipe.py', {workdir!r}, processes=2)))
"""


@pytest.mark.parametrize(
  'number, expected', [(signal.SIGTERM, 75), (signal.SIGINT, 75), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_signals_to_the_launcher(stand_in, number, expected):
  """Also a launcher that is killed leaves no process behind."""
  folder = stand_in('time.sleep(600)')
  script = folder / 'elsewhere' / 'launcher.py'  # its own vit_jax is the real one
  script.parent.mkdir()
  script.write_text(COMMAND.format(root=str(ROOT), workdir=str(folder / 'run')))
  launcher = subprocess.Popen([sys.executable, str(script)], cwd=folder, stdout=subprocess.DEVNULL)
  try:
    wait_for(lambda: all((folder / 'run' / f'process-{i}').exists() for i in range(2)))
    time.sleep(0.2)
    launcher.send_signal(number)
    assert launcher.wait(20) == expected
  finally:
    if launcher.poll() is None:
      launcher.kill()
      launcher.wait()
  wait_for(lambda: not any(alive(told(folder, index)['pid']) for index in range(2)))


def test_what_is_printed_can_be_run(stand_in, tiny_recipe, capsys):
  folder = stand_in('')
  assert (
    commands.main(
      [
        'launch',
        '--processes=2',
        '--print',
        f'--config={tiny_recipe}',
        f'--workdir={folder / "run"}',
        '--config.steps=4',
      ]
    )
    == 0
  )
  text = capsys.readouterr().out
  assert text.count('JAX_PROCESS_ID=') == 2
  subprocess.run(
    ['bash', '-c', f'{text.strip()} ; wait'],
    check=True,
    cwd=folder,
    env={**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'},
  )
  for index in range(2):
    assert told(folder, index)['argv'][1:] == [
      'train',
      f'--config={tiny_recipe}',
      f'--workdir={folder / "run"}',
      '--config.steps=4',
    ]


@pytest.mark.slow
def test_two_real_processes_are_preempted_and_go_on(tiny_recipe, tmp_path):
  """With real training: SIGTERM to the launcher, 75, the same command again, 0."""
  argv = [
    sys.executable,
    '-m',
    'vit_jax',
    'launch',
    '--processes=2',
    f'--config={tiny_recipe}',
    f'--workdir={tmp_path}',
    '--config.steps=300',
    '--config.evals.test.every.steps=0',
    '--config.checkpoint.every.steps=100000',
  ]
  rows, log = tmp_path / 'metrics.jsonl', tmp_path / 'log'
  env = {**os.environ, 'JAX_NUM_CPU_DEVICES': '1'}
  with log.open('w') as file:
    launcher = subprocess.Popen(argv, env=env, stdout=file, stderr=subprocess.STDOUT)
  try:
    wait_for(lambda: rows.exists() and rows.read_text().count('\n') > 3, 200)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(60) == 75, log.read_text()
  finally:
    if launcher.poll() is None:
      launcher.kill()
      launcher.wait()
  assert not (tmp_path / 'summary.json').exists()
  again = subprocess.run(argv, env=env, timeout=280, capture_output=True, text=True)
  assert again.returncode == 0, again.stdout
  assert '[0] start: checkpoint of step' in again.stdout
  assert json.loads((tmp_path / 'summary.json').read_text())['steps'] == 300
