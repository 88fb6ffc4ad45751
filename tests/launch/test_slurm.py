"""Real Slurm, two nodes on this host: submit, preempt, save, queue again, go on, finish.

pytest -m slurm -n 0 tests/launch/test_slurm.py
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from slurm_cluster import Cluster, why_not

from vit_jax import commands
from vit_jax.report.goodput import goodput, read_goodput

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(bool(why_not()), reason=why_not())]
STEPS = 200


@pytest.fixture
def cluster(tmp_path, monkeypatch):
  """Two nodes; what is submitted from here, in tmp_path, runs as we do. Leaves no process."""
  with Cluster(tmp_path / 'slurm') as cluster:
    monkeypatch.chdir(tmp_path)
    for name, value in {
      'SLURM_CONF': str(cluster.conf),
      'PYTHONPATH': str(Path(__file__).parents[2]),
      'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
      'JAX_NUM_CPU_DEVICES': '1',
      'PYTHONUNBUFFERED': '1',
    }.items():
      monkeypatch.setenv(name, value)
    yield cluster
  monkeypatch.delenv('SLURM_CONF')
  wait_for(lambda: not cluster.processes(), 20, lambda: f'left behind: {cluster.processes()}')


def wait_for(what: Callable[[], object], seconds: float, told: Callable[[], str]) -> None:
  deadline = time.monotonic() + seconds
  while not what():
    assert time.monotonic() < deadline, told()
    time.sleep(0.2)


def test_preempted_saved_queued_again_and_finished(cluster, tiny_recipe, tmp_path):
  workdir = tmp_path / 'run'
  assert (
    commands.main(
      [
        'launch',
        '--target=slurm',
        '--submit',
        '--nodes=2',
        f'--config={tiny_recipe}',
        f'--workdir={workdir}',
        '--name=preempt',
        f'--config.steps={STEPS}',
        '--config.evals.test.every.steps=0',
        '--config.checkpoint.every.steps=100000',
        '--time=10',
      ]
    )
    == 0
  )
  [job] = re.findall(r'\d+', cluster.run('squeue', '--noheader', '--format=%i'))

  def log() -> str:
    path = tmp_path / f'preempt-{job}.log'
    return path.read_text() if path.exists() else ''

  def told() -> str:
    return f'job {job}: {cluster.state(job)}\n{log()}\n{cluster.logs()}'

  metrics = workdir / 'metrics.jsonl'
  wait_for(lambda: metrics.exists() and metrics.read_text().count('\n') > 3, 120, told)
  cluster.run('scancel', '--signal=TERM', job)

  wait_for(lambda: 'queued again' in log(), 60, told)
  [saved] = map(int, re.findall(r'stopped and saved at step (\d+)', log()))
  assert 0 < saved < STEPS
  assert [path.name for path in (workdir / 'checkpoints').iterdir() if path.name.isdigit()] == [
    str(saved)
  ]
  wait_for(lambda: f'start: checkpoint of step {saved} ' in log(), 120, told)
  wait_for(lambda: cluster.state(job) in ('COMPLETED', ''), 180, told)

  summary = json.loads((workdir / 'summary.json').read_text())
  assert summary['steps'] == STEPS and summary['device'].startswith('2 x ')
  # Rows of the log end where the second start took over: nothing was trained twice.
  steps = [json.loads(line)['step'] for line in metrics.read_text().splitlines()]
  assert steps == sorted(steps) and steps[-1] == STEPS
  print(goodput([workdir])[0])
  spent = read_goodput(workdir)
  assert spent is not None and spent.starts == 2 and spent.ended
  assert spent.total == pytest.approx(spent.wall, rel=0.01)
  assert spent.seconds['down'] > 0.0 and spent.seconds['lost'] == 0.0


def test_a_users_fault_is_not_queued_again(cluster, tiny_recipe, tmp_path):
  """Exit code 2 ends the job, whatever --requeue says."""
  (tmp_path / 'gone.py').write_text(tiny_recipe.read_text())
  assert (
    commands.main(
      [
        'launch',
        '--target=slurm',
        '--submit',
        '--nodes=2',
        '--config=gone.py',
        f'--workdir={tmp_path / "run"}',
        '--name=fault',
      ]
    )
    == 0
  )
  (tmp_path / 'gone.py').unlink()
  [job] = re.findall(r'\d+', cluster.run('squeue', '--noheader', '--format=%i'))
  wait_for(lambda: cluster.state(job) in ('FAILED', ''), 60, cluster.logs)
  log = (tmp_path / f'fault-{job}.log').read_text()
  assert 'there is no file gone.py' in log and 'queued again' not in log
  assert not list(tmp_path.glob('*.faults'))


def submit(recipe: Path, workdir: Path, cluster: Cluster, *flags: str) -> str:
  """The number of a job of two nodes."""
  assert (
    commands.main(
      [
        'launch',
        '--target=slurm',
        '--submit',
        '--nodes=2',
        f'--config={recipe}',
        f'--workdir={workdir}',
        '--name=job',
        *flags,
      ]
    )
    == 0
  )
  [job] = re.findall(r'\d+', cluster.run('squeue', '--noheader', '--format=%i'))
  return job


def test_a_cancelled_job_stays_cancelled(cluster, stand_in, tiny_recipe, tmp_path):
  """Its processes save and exit with 75 all the same."""
  folder = stand_in('time.sleep(600)')
  job = submit(tiny_recipe, tmp_path / 'run', cluster)
  wait_for(lambda: len(list((tmp_path / 'run').glob('process-*'))) == 2, 30, cluster.logs)
  time.sleep(1)
  cluster.run('scancel', job)
  wait_for(lambda: not cluster.run('squeue', '--noheader', '--format=%i'), 60, cluster.logs)
  log = (folder / f'job-{job}.log').read_text()
  assert cluster.state(job) == 'CANCELLED' and log.count('saved') == 2
  assert 'queued again' not in log


def test_a_killed_process_is_a_fault_and_the_job_starts_again(
  cluster, stand_in, tiny_recipe, tmp_path
):
  folder = stand_in("""
first = not (workdir / 'once').exists()
time.sleep(0.5)
if first and index == '1':
  (workdir / 'once').touch()
  os.kill(os.getpid(), signal.SIGKILL)
sys.exit(134 if first else 0)""")
  job = submit(tiny_recipe, tmp_path / 'run', cluster)
  wait_for(lambda: cluster.state(job) == 'COMPLETED', 60, cluster.logs)
  log = (folder / f'job-{job}.log').read_text()
  assert log.count('hello from') == 4 and log.count('failed with exit code') == 1
  assert not list(folder.glob('*.faults'))


def test_each_node_runs_the_setup_before_the_training(cluster, stand_in, tiny_recipe, tmp_path):
  folder = stand_in("print('told', os.environ['TOLD'])")
  job = submit(
    tiny_recipe,
    tmp_path / 'run',
    cluster,
    '--setup=export TOLD=something; echo set up $SLURMD_NODENAME',
  )
  wait_for(lambda: cluster.state(job) == 'COMPLETED', 60, cluster.logs)
  lines = (folder / f'job-{job}.log').read_text().splitlines()
  assert sorted(lines[:2]) == ['set up n1', 'set up n2']
  assert lines.count('told something') == 2
