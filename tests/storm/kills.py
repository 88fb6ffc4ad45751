"""Kills of every command that writes; the same command after it must end as if alone."""

import hashlib
import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.fleet import Life, Nursery
from tests.storm.verdicts import Storm, generator, sentences
from tests.storm.world import World
from vit_jax.run.lock import _started

# Readings of a clock, which differ from run to run.
CLOCKED = re.compile(r'seconds|per_second|fraction_of_peak|device|time|date|minutes')


class Command(NamedTuple):
  """A command in a folder of its own: what it is called with, and the files that it must leave."""

  argv: Callable[[World, Path], list[str]]
  leaves: tuple[str, ...]  # patterns


COMMANDS = {
  'train': Command(
    lambda w, f: ['train', f'--config={w.recipe}', f'--workdir={f}/run'],
    ('run/summary.json', 'run/metrics.jsonl', 'run/predictions/*.csv'),
  ),
  'evaluate': Command(
    lambda w, f: ['evaluate', f'--workdir={f}/run'], ('run/evaluation-*.json', 'run/summary.json')
  ),
  'transfer': Command(
    lambda w, f: ['transfer', f'--weights={w.vit}', f'--data=folder:{w.images}', '--methods=knn',
                  f'--csv={f}/out.csv', f'--data_dir={f}/data'],
    ('out.csv',),
  ),
  'sweep': Command(
    lambda w, f: ['sweep', f'--config={w.recipe}', f'--workdir={f}/sweep', '--grid.seed=0,1'],
    ('sweep/*/summary.json', 'sweep/*/metrics.jsonl'),
  ),
  'compare': Command(
    lambda w, f: ['compare', f'--config={w.recipe}', f'--workdir={f}/all', f'--json={f}/out.json'],
    ('all/*/summary.json', 'all/*/*/summary.json'),
  ),
  'convert': Command(
    lambda w, f: ['convert', f'--from={w.vit}', f'--to={f}/out.safetensors'], ('out.safetensors',)
  ),
  'finetune': Command(
    lambda w, f: ['finetune', f'--weights={w.run}', f'--data={w.images}', f'--workdir={f}/tuned'],
    ('tuned/summary.json', 'tuned/metrics.jsonl'),
  ),
  'export': Command(
    lambda w, f: ['export', str(w.vit), f'--to={f}/export', '--formats=timm'],
    ('export/timm/config.json', 'export/timm/model.safetensors'),
  ),
  'prepare': Command(
    lambda w, f: ['prepare', f'folder:{w.images}', '--to=kept', f'--data_dir={f}/data'],
    ('data/kept/1.0.0/*.json', 'data/kept/1.0.0/*array_record*'),
  ),
  'report': Command(
    lambda w, f: ['report', f'{f}/run', f'--page={f}/page.html'], ('page.html',)
  ),
}  # fmt: skip


def timeless(value):
  """JSON without readings of a clock."""
  if isinstance(value, dict):
    return {key: timeless(item) for key, item in value.items() if not CLOCKED.search(key)}
  return [timeless(item) for item in value] if isinstance(value, list) else value


def content(path: Path) -> str:
  data = path.read_bytes()
  if path.suffix in ('.json', '.jsonl'):
    lines = [data] if path.suffix == '.json' else data.splitlines()
    data = json.dumps([timeless(json.loads(line)) for line in lines], sort_keys=True).encode()
  elif path.suffix == '.csv' and b'seconds' in data:
    data = b'\n'.join(line.rpartition(b',')[0] for line in data.splitlines())
  return hashlib.sha256(data).hexdigest()


def left(command: Command, folder: Path) -> dict[str, str]:
  """The files that a command has left, and what they hold."""
  paths = (path for pattern in command.leaves for path in folder.glob(pattern) if path.is_file())
  return {str(path.relative_to(folder)): content(path) for path in paths}


def children_of(pid: int) -> list[int]:
  """The processes that a process has started."""
  listed = Path(f'/proc/{pid}/task').glob('*/children')
  return [int(child) for path in listed for child in path.read_text().split()]


def begun(world: World, folder: Path) -> Path:
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir()
  return folder


def prepared(name: str, world: World, folder: Path) -> Path:
  begun(world, folder)
  if name in ('evaluate', 'report'):
    shutil.copytree(world.run, folder / 'run')
  return folder


def ride(storm: Storm, name: str, count: int, world: World, nursery: Nursery, place: Path) -> None:
  """Kills a command `count` times at random moments, and compares what it leaves in the end."""
  command, rng, folder = COMMANDS[name], generator(f'kills of {name}'), place / 'same'
  plant = {0: {'whole': True, 'cwd': str(place)}}
  prepared(name, world, folder)
  argv = command.argv(world, folder)
  began = time.monotonic()
  life = Life(nursery, place / 'lives', argv, plant=plant)
  codes = life.ended(300)
  seconds, expected = time.monotonic() - began, left(command, folder)
  if codes != [0] or not expected:
    storm.note(
      name, 'traceback', f'alone: {codes}, leaves {list(expected)}: {life.log(0)[-800:]}', argv
    )
    return
  for number in range(count):
    prepared(name, world, folder)
    moment = rng.uniform(0.05, 1.0) * seconds
    life = Life(nursery, place / 'lives', argv, plant=plant)
    deadline = time.monotonic() + moment
    while life.running() and time.monotonic() < deadline:
      time.sleep(0.005)
    children = children_of(life.pids[0]) if life.running() else []
    life.signal(signal.SIGKILL, 0)
    life.ended(60)
    deadline = time.monotonic() + 60  # they save and end by themselves
    while any(_started(pid) >= 0 for pid in children) and time.monotonic() < deadline:
      time.sleep(0.1)
    life = Life(nursery, place / 'lives', argv, plant=plant)
    (code,) = life.ended(300)
    found = left(command, folder)
    where = f'{name}, kill {number} after {moment:.1f} of {seconds:.1f} s'
    if code is None:
      storm.note(where, 'hang', 'the command after it', argv)
    elif code != 0 and 'Traceback' not in life.log(0) and len(sentences(life.log(0))) == 1:
      # What was finished before the kill may be refused: nothing is missing.
      same = found == expected
      why = '' if same else f'refused: {life.log(0)[-500:]}'
      storm.note(where, 'sentence' if same else 'silent', why, argv)
    elif code != 0:
      storm.note(where, 'traceback', f'exit code {code}: {life.log(0)[-1000:]}', argv)
    elif found != expected:
      differ = [
        key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)
      ]
      storm.note(where, 'silent', f'other results in {differ}', argv)
    else:
      storm.note(where, 'right')
