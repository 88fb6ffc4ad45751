"""Checkpoints and the event log of whole runs: saved, resumed, damaged."""

import json
import shutil
from pathlib import Path

import pytest

from vit_jax import commands
from vit_jax.errors import PREEMPTED, UserError
from vit_jax.run.checkpoint_writer import CheckpointWriter
from vit_jax.run.folder import Run
from vit_jax.train import loop


def command(recipe: Path, workdir: Path) -> list[str]:
  return [
    'train',
    f'--config={recipe}',
    f'--workdir={workdir}',
    '--config.steps=8',
    '--config.batch_size=16',
    '--config.eval_batch_size=16',
    '--config.evals.test.every.steps=4',
  ]


@pytest.fixture(scope='module')
def run(lenet_recipe, tmp_path_factory) -> Path:
  workdir = tmp_path_factory.mktemp('run')
  assert commands.main(command(lenet_recipe, workdir)) == 0
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
  whole = CheckpointWriter.save

  def save_and_fail(self, *args, **options):
    whole(self, *args, **options)
    raise UserError('a made-up fault')

  monkeypatch.setattr(CheckpointWriter, 'save', save_and_fail)
  assert commands.main(command(lenet_recipe, tmp_path / 'run')) == 2
  assert 'a made-up fault' in capsys.readouterr().err
  assert [path.name for path in (tmp_path / 'run' / 'checkpoints').iterdir()] == ['4']


def test_a_checkpoint_gets_its_metrics_when_the_run_comes_back_to_its_evaluation(
  lenet_recipe, tmp_path, monkeypatch
):
  monkeypatch.setattr(loop._Pulse, 'beat', stop)
  assert commands.main(command(lenet_recipe, tmp_path)) == PREEMPTED
  checkpoints = tmp_path / 'checkpoints'
  before = (checkpoints / '4').stat().st_mtime_ns
  monkeypatch.undo()
  seen = []
  whole = CheckpointWriter._make_way
  monkeypatch.setattr(
    CheckpointWriter,
    '_make_way',
    lambda self, step: (
      whole(self, step),
      seen.append([path.name for path in tmp_path.glob('replaced/*')]),
    ),
  )
  assert commands.main(command(lenet_recipe, tmp_path)) == 0
  assert seen == [['4']] and not list(tmp_path.glob('replaced/*'))
  with Run(tmp_path).checkpoints() as again:
    assert 4 not in again.steps() or (checkpoints / '4').stat().st_mtime_ns != before
    assert again.best_step() in (4, 8)


def stop(pulse: loop._Pulse, count: int) -> None:
  raise loop.Stopped


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
  assert commands.main(command(lenet_recipe, workdir)) == 0
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
    assert commands.main(command(lenet_recipe, workdir)) == 1
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
  assert commands.main(command(lenet_recipe, workdir)) == 0
  text = path.read_text()
  assert text.startswith(whole)
  assert json.loads(text[len(whole) :].splitlines()[0])['event'] == 'start'
