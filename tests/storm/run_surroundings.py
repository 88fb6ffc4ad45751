"""What may happen around a run: its disk fills, its clock is set, its folder goes."""

import functools
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.storm.run_damages import commands
from tests.storm.verdicts import Case, Outcome
from tests.storm.world import World
from vit_jax.report.goodput import read_goodput
from vit_jax.run import Run

FREE = (0, 8, 64, 512)  # KiB that a small disk has left
LARGEST = (30_000, 100_000)  # bytes of a file, where no disk can be mounted
YEARS = 10 * 365 * 24 * 3600
# What is done to RUN at the second step, with OTHER another run and ASIDE a free name.
CHANGES = {
  'removed': 'rm -r RUN',
  'moved away': 'mv RUN ASIDE',
  'replaced by another run': 'mv RUN ASIDE; cp -r OTHER RUN',
  'replaced by a file': 'mv RUN ASIDE; echo > RUN',
  'replaced by an empty folder': 'mv RUN ASIDE; mkdir RUN',
  'replaced by a broken link': 'mv RUN ASIDE; ln -s nowhere RUN',
}
# Of a part of the folder: what is lost may be made again, or be named.
PARTS = {
  'checkpoints removed': 'rm -r RUN/checkpoints',
  'checkpoints replaced by a file': 'mv RUN/checkpoints ASIDE; echo > RUN/checkpoints',
  'metrics removed': 'rm RUN/metrics.jsonl',
  'config removed': 'rm RUN/config.json RUN/identity.json',
  'predictions replaced by a file': 'rm -rf RUN/predictions; echo > RUN/predictions',
}


def mounts() -> bool:
  """Whether this process may mount a disk."""
  probe = ['unshare', '-m', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']
  return os.geteuid() == 0 and subprocess.run(probe, capture_output=True).returncode == 0


def unmount(folder: Path) -> None:
  while os.path.ismount(folder):
    subprocess.run(['umount', folder], check=True)


def fresh(world: World, run: Path, *flags: str) -> list[str]:
  return ['train', f'--config={world.recipe}', f'--workdir={run}', '--config.steps=6', *flags]


def full_disks(world: World) -> Iterator[Case]:
  """Each command on a disk with little room, and a run that begins there."""
  disk = world.folder / 'disk'
  run = disk / 'run'
  argvs = {**commands(world, run), 'begin': fresh(world, disk / 'new')}
  argvs['predict'].append(f'--output={disk}/out.csv')
  argvs['report'][-1] = f'--page={disk}/page.html'

  def mount(free: int) -> None:
    unmount(disk)
    disk.mkdir(exist_ok=True)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=256m', 'tmpfs', disk], check=True)
    shutil.copytree(world.run, run)
    used = shutil.disk_usage(disk).used // 1024
    size = f'remount,size={used + free}k'
    subprocess.run(['mount', '-o', size, 'tmpfs', disk], check=True)

  def copy() -> None:
    shutil.rmtree(disk, ignore_errors=True)
    disk.mkdir()
    shutil.copytree(world.run, run)

  for name, argv in argvs.items():
    if mounts():
      for free in FREE:
        begin = functools.partial(mount, free)
        yield Case(f'{name} on a disk with {free} KiB left', argv, begin=begin, limit=180.0)
    else:
      for largest in LARGEST:
        what = f'{name} on a disk whose files end at {largest} bytes'
        yield Case(what, argv, begin=copy, limit=180.0, plant={'full': largest})


def clocks(world: World) -> Iterator[Case]:
  """Runs whose clock is set, before they start and while they run."""
  run = world.folder / 'clocked'

  def check(outcome: Outcome) -> str:
    spent = read_goodput(run)
    if spent is None:
      return 'there are no events'
    odd = {name: each for name, each in spent.seconds.items() if not 0 <= each < 3600}
    if odd or not 0 < spent.goodput <= 1:
      return f'goodput {spent.goodput} of {spent.wall} s, {odd}'
    summary = Run(run).summary['seconds']
    return '' if all(0 <= each < 3600 for each in summary.values()) else f'seconds: {summary}'

  for what, step, seconds in (
    ('set back', 0, -YEARS), ('set ahead', 0, YEARS), ('set back at step 2', 2, -YEARS),
    ('set ahead at step 2', 2, YEARS), ('set back by a minute at step 3', 3, -60.0),
  ):  # fmt: skip
    for begin in ('begins', 'goes on'):

      def make(begin=begin) -> None:
        shutil.rmtree(run, ignore_errors=True)
        if begin == 'goes on':
          shutil.copytree(world.run, run)

      argv = fresh(world, run, '--config.checkpoint.minutes=0.001')
      expects = 'either' if math.copysign(1, seconds) > 0 and step else 'right'
      checked = check if seconds < 0 else lambda outcome: ''
      plant = {'clock': [step, seconds]}
      name = f'a run {begin} with the clock {what}'
      yield Case(name, argv, expects, checked, make, 180.0, plant=plant)


def folders(world: World) -> Iterator[Case]:
  """Runs whose folder, or a part of it, is removed or replaced while they train."""
  run, aside = world.folder / 'under', world.folder / 'aside'

  def make() -> None:
    for place in (run, aside):
      if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
      else:
        place.unlink(missing_ok=True)

  for expects, changes in (('sentence', CHANGES), ('either', PARTS)):
    for what, words in changes.items():
      for word, path in (('RUN', run), ('OTHER', world.run), ('ASIDE', aside)):
        words = words.replace(word, str(path))
      plant = {'meanwhile': [3, ['sh', '-c', words]]}
      name = f'a run whose folder has its {what}' if changes is PARTS else f'a run folder {what}'
      yield Case(name, fresh(world, run), expects, begin=make, limit=180.0, plant=plant)


def cases(world: World) -> list[Case]:
  return [*full_disks(world), *clocks(world), *folders(world)]
