"""Where the hours went: parts that sum to wall time, through kills, restarts and torn lines."""

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from test_page import page

from vit_jax import commands
from vit_jax.report.goodput import PHASES, account, goodput, read_goodput


def start(time: float, step: int) -> dict:
  return {'event': 'start', 'time': time, 'step': step, 'processes': 2, 'devices': 8}


def spent(time: float, at_step: int, /, **seconds: float) -> dict:
  return {'event': 'spent', 'time': time, 'step': at_step, 'seconds': seconds}


def upload(time: float, step: int, size: int, took: float) -> dict:
  return {'event': 'upload', 'time': time, 'step': step, 'bytes': size, 'took': took}


def end(time: float, step: int, code: int) -> dict:
  return {'event': 'end', 'time': time, 'step': step, 'code': code}


PREEMPTED_THEN_KILLED = [
  start(1000.0, 0),
  spent(1030.0, 0, init=20.0, compile=10.0),
  spent(1130.0, 100, step=90.0, data=5.0, save=5.0),
  end(1130.0, 100, 75),
  start(1200.0, 100),  # 70 s in the queue; goes on where it saved
  spent(1220.0, 100, init=20.0),
  spent(1320.0, 200, step=80.0, evaluate=20.0),
  spent(1360.0, 240, step=40.0),
  # kill -9 some time after step 240; the last checkpoint was at 220
  start(1400.0, 220),
  spent(1410.0, 220, init=10.0),
  spent(1510.0, 320, step=100.0),
  end(1510.0, 320, 0),
]


def write(folder: Path, events: list[dict], tail: str = '') -> Path:
  folder.mkdir(exist_ok=True)
  (folder / 'events.jsonl').write_text(''.join(json.dumps(e) + '\n' for e in events) + tail)
  return folder


def test_each_second_is_counted_once():
  result = account(PREEMPTED_THEN_KILLED)
  assert result.seconds == {
    'init': 50.0,
    'compile': 10.0,
    'data': 5.0,
    'evaluate': 20.0,
    'save': 5.0,
    'upload': 0.0,
    'step': 90.0 + 80.0 + 20.0 + 100.0,
    'lost': 20.0,
    'down': 70.0 + 40.0,
  }
  assert result.wall == result.total == 510.0
  assert result.goodput == pytest.approx(290 / 510)
  assert result.starts == 3 and result.ended


def test_uploads_are_counted_beside_the_time_of_the_run():
  """Waiting for one is a phase; what goes on beside training is not."""
  events = [
    start(0.0, 0),
    spent(10.0, 10, step=8.0, save=2.0),
    upload(12.0, 10, 2_000_000_000, 30.0),
    spent(20.0, 20, step=5.0, save=1.0, upload=4.0),
    upload(25.0, 20, 1_000_000_000, 10.0),
    end(25.0, 20, 0),
  ]
  result = account(events)
  assert result.seconds['upload'] == 4.0 and result.seconds['step'] == 13.0
  assert result.uploads == (2, 3_000_000_000, 40.0)
  assert result.uploads.summary == '2 checkpoints, 3 GB in 40.0 s (75 MB/s)'


def test_work_of_an_earlier_start_is_lost_when_its_checkpoint_is_damaged():
  """The second start trained 100 to 200; the third found only the checkpoint of step 50."""
  result = account(
    [
      start(0.0, 0),
      spent(100.0, 100, step=100.0),
      end(100.0, 100, 75),
      start(100.0, 100),
      spent(150.0, 200, step=50.0),
      start(150.0, 50),
      spent(200.0, 100, step=50.0),
    ]
  )
  assert result.seconds['lost'] == 50.0 + 50.0
  assert result.seconds['step'] == 50.0 + 50.0
  assert not result.ended


def made_up(rng: random.Random) -> tuple[list[dict], int]:
  """A run of several starts, each ended by preemption, kill -9 or the end; the last step."""
  time, step, saved = 1.7e9 + rng.random(), 0, 0
  events = []
  for last in [False] * rng.randrange(5) + [True]:
    events.append(start(time, saved))
    step = saved
    for _ in range(rng.randrange(1, 8)):
      seconds = {
        phase: rng.expovariate(1 / 30)
        for phase in rng.sample(('init', 'compile', 'data', 'evaluate', 'save'), rng.randrange(4))
      }
      taken = rng.randrange(0, 50)
      if taken:
        seconds['step'] = taken * rng.uniform(0.5, 2.0)
      time += sum(seconds.values()) * rng.uniform(0.998, 1.002)  # two clocks never agree
      step += taken
      events.append(spent(time, step, **seconds))
      saved = step if 'save' in seconds else saved
    if last or rng.random() < 0.5:
      saved = step
      events.append(end(time, step, 0 if last else 75))
    time += rng.expovariate(1 / 100)
  return events, step


@pytest.mark.parametrize('seed', range(20))
def test_the_parts_sum_to_wall_time_within_one_percent(seed, tmp_path):
  events, _ = made_up(random.Random(seed))
  result = read_goodput(write(tmp_path, events))
  assert result is not None
  assert result.wall == pytest.approx(events[-1]['time'] - events[0]['time'])
  assert result.total == pytest.approx(result.wall, rel=0.01)
  assert min(result.seconds.values()) >= 0.0


@pytest.mark.slow
def test_the_parts_of_a_real_run_sum_to_its_wall_time(lenet_recipe, tmp_path):
  command = [
    sys.executable,
    '-m',
    'vit_jax',
    'train',
    f'--config={lenet_recipe}',
    f'--workdir={tmp_path}',
    '--config.steps=8',
  ]
  subprocess.run(command, check=True, timeout=280, env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'})
  result = read_goodput(tmp_path)
  assert result is not None and result.starts == 1 and result.ended
  assert result.wall > 1.0 and result.total == pytest.approx(result.wall, rel=0.01)
  assert all(
    (seconds > 0.0) != (phase in ('lost', 'down')) for phase, seconds in result.seconds.items()
  )


def test_lost_and_kept_steps_are_all_steps():
  """At one second a step, `step` is the last step and `lost` the rest of what was trained."""
  for seed in range(20):
    events, last = made_up(random.Random(seed))
    trained = before = 0
    for event in events:
      if event['event'] == 'spent':
        event['seconds']['step'] = float(event['step'] - before)
        trained += event['step'] - before
      before = event['step']
    result = account(events)
    assert result.seconds['step'] == pytest.approx(last)
    assert result.seconds['lost'] == pytest.approx(trained - last)


def test_a_torn_last_line_is_passed_over(tmp_path):
  whole = read_goodput(write(tmp_path, PREEMPTED_THEN_KILLED[:-1]))
  torn = read_goodput(write(tmp_path, PREEMPTED_THEN_KILLED[:-1], '{"event": "end", "ti'))
  assert torn == whole


def test_table_and_csv(tmp_path, capsys):
  run, table = write(tmp_path / 'run', PREEMPTED_THEN_KILLED), tmp_path / 'hours.csv'
  assert commands.main(['report', '--goodput', str(run), f'--csv={table}']) == 0
  text = capsys.readouterr().out
  assert 'goodput 56.9% of 8 min 30 s, 3 starts' in text
  assert ['lost', '3.9%', '20.0', 's'] in [line.split()[:4] for line in text.splitlines()]
  rows = list(csv.DictReader(table.open()))
  assert [row['phase'] for row in rows] == [*PHASES, 'wall']
  assert sum(float(row['seconds']) for row in rows[:-1]) == float(rows[-1]['seconds']) == 510.0


def test_a_clock_that_was_set_is_reported(tmp_path):
  events = [start(0.0, 0), spent(100.0, 10, step=90.0)]
  assert 'a clock was set' in goodput([write(tmp_path, events)])[0]
  events[-1]['seconds']['data'] = 10.0
  assert 'a clock was set' not in goodput([write(tmp_path, events)])[0]


@pytest.mark.parametrize('text', [None, '', 'no json\n'])
def test_a_run_without_events_is_refused(text, tmp_path, capsys):
  if text is not None:
    (tmp_path / 'events.jsonl').write_text(text)
  assert commands.main(['report', '--goodput', str(tmp_path)]) == 2
  assert f'{tmp_path} has no events' in capsys.readouterr().err


def test_the_page_shows_a_bar(write_run):
  path = write_run()
  assert not [attrs for attrs in page(path).of('div') if attrs.get('class') == 'goodput']
  read = page(write(path, PREEMPTED_THEN_KILLED))
  [bar] = [attrs for attrs in read.of('div') if attrs.get('class') == 'goodput']
  assert 'step 56.9%' in bar['aria-label'] and 'down 21.6%' in bar['aria-label']
  widths = [
    float(attrs['style'].split(':')[1].rstrip('%'))
    for attrs in read.of('span')
    if attrs.get('class') in PHASES
  ]
  shown = account(PREEMPTED_THEN_KILLED).parts
  assert len(widths) == len(shown) and sum(widths) == pytest.approx(100, abs=0.1)


def test_hours_where_the_clock_was_set_back(tmp_path):
  """Between two starts: what did not run is not known, and no share is negative or above 1."""
  first = [
    {'event': 'start', 'time': 1e8, 'step': 0},
    {'event': 'spent', 'time': 1e8 + 10, 'step': 4, 'seconds': {'init': 2.0, 'step': 8.0}},
  ]
  second = [
    {'event': 'start', 'time': 50.0, 'step': 4},
    {'event': 'spent', 'time': 60.0, 'step': 8, 'seconds': {'init': 4.0, 'step': 6.0}},
  ]
  spent = account([*first, *second])
  assert spent.seconds['down'] == 0 and spent.wall == 20
  assert spent.goodput == 14 / 20
