"""Damages of run folders, each followed by the commands that read them."""

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.storm.verdicts import Case, Outcome, generator
from tests.storm.world import World

Damage = Callable[[Path], None]


def _flip(path: Path, seed: str) -> None:
  data = bytearray(path.read_bytes())
  if data:
    rng = generator(seed)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _replace(path: Path, make: Callable[[Path], object]) -> None:
  path.unlink()
  make(path)


DAMAGES: dict[str, Damage] = {
  'emptied': lambda path: path.write_bytes(b'') and None,
  'cut': lambda path: os.truncate(path, path.stat().st_size // 2),
  'flipped': lambda path: _flip(path, path.name),
  'zeroed': lambda path: path.write_bytes(b'\0' * path.stat().st_size) and None,
  'a list': lambda path: path.write_text('[1, 2]\n') and None,
  'another object': lambda path: (
    path.write_text('{"step": "x", "steps": [], "a": null}\n') and None
  ),
  'gone': lambda path: path.unlink(),
  'a folder': lambda path: _replace(path, Path.mkdir),
  'a loop': lambda path: _replace(path, lambda p: p.symlink_to(p)),
  'a pipe': lambda path: _replace(path, os.mkfifo),
  'a socket': lambda path: _replace(path, lambda p: os.mknod(p, stat.S_IFSOCK | 0o600)),
  'a device': lambda path: _replace(path, lambda p: p.symlink_to('/dev/zero')),
}


def files_of(run: Path) -> list[str]:
  """Of each kind of file below checkpoints the first of the last checkpoint."""
  names = [str(path.relative_to(run)) for path in sorted(run.rglob('*')) if path.is_file()]
  last = max((run / 'checkpoints').glob('[0-9]*'), key=lambda path: int(path.name)).name
  return [name for name in names if not name.startswith('checkpoints/') or f'/{last}/' in name]


def whole(run: Path) -> Iterator[tuple[str, Callable[[Path], object]]]:
  """Damages of the folder as a whole."""
  yield 'no checkpoints', lambda copy: shutil.rmtree(copy / 'checkpoints')
  yield 'an empty folder', lambda copy: [shutil.rmtree(copy), copy.mkdir()]
  yield (
    'checkpoints is a file',
    lambda copy: [shutil.rmtree(copy / 'checkpoints'), (copy / 'checkpoints').write_text('')],
  )
  yield 'an empty checkpoint', lambda copy: (copy / 'checkpoints' / '99').mkdir()
  yield 'a strange checkpoint', lambda copy: (copy / 'checkpoints' / '²').mkdir()
  yield 'a checkpoint that is a file', lambda copy: (copy / 'checkpoints' / '98').write_text('')
  yield 'a lock of nobody', lambda copy: (copy / 'lock.json').write_text('{}')
  yield 'a lock of another host, touched in the future', _lock_ahead
  yield 'a clock that was set back', _events_ahead
  yield '300,000 rows', _rows
  yield 'a future clock', lambda copy: [os.utime(path, (2**32, 2**32)) for path in copy.rglob('*')]
  yield 'a clock at 0', lambda copy: [os.utime(path, (0, 0)) for path in copy.rglob('*')]
  yield (
    'left temporary files',
    lambda copy: [(copy / f'.{n}.00.part').write_text('x') for n in ('config.json', 'a')],
  )
  yield (
    'a temporary file that is a link',
    lambda copy: (copy / 'config.json.tmp').symlink_to('/dev/full'),
  )


def _lock_ahead(copy: Path) -> None:
  words = {'host': 'elsewhere', 'boot': '', 'namespace': '', 'pid': 1, 'started': 1}
  (copy / 'lock.json').write_text(json.dumps(words))
  os.utime(copy / 'lock.json', (2**32, 2**32))


def _events_ahead(copy: Path) -> None:
  path = copy / 'events.jsonl'
  events = [json.loads(line) for line in path.read_text().splitlines()]
  lines = [json.dumps({**event, 'time': event['time'] + 1e8}) + '\n' for event in events]
  path.write_text(''.join(lines))


def _rows(copy: Path) -> None:
  rows = ({'step': step, 'train/loss': step % 7 / 7} for step in range(300_000))
  with open(copy / 'metrics.jsonl', 'a') as file:
    file.writelines(json.dumps(row) + '\n' for row in rows)


def commands(world: World, copy: Path) -> dict[str, list[str]]:
  page = world.folder / 'made' / 'damaged.html'
  return {
    'train': ['train', f'--config={world.recipe}', f'--workdir={copy}'],
    'longer': ['train', f'--config={world.recipe}', f'--workdir={copy}', '--config.steps=5'],
    'evaluate': ['evaluate', f'--workdir={copy}'],
    'predict': ['predict', f'--weights={copy}', f'--input={world.image}'],
    'report': ['report', str(copy), f'--page={page}'],
  }


def _checked(page: Path) -> Callable[[Outcome], str]:
  """Complains of a page that has grown with the rows of its run."""
  return lambda outcome: 'the page is large' if page.stat().st_size > 2_000_000 else ''


def cases(world: World) -> tuple[list[Case], list[Case]]:
  """(damages of each file, damages of the whole), each before every command that reads a run."""
  copy, page = world.folder / 'damaged', world.folder / 'made' / 'damaged.html'

  def case(what: str, name: str, argv: list[str], damage: Callable[[Path], object]) -> Case:
    def begin() -> None:
      shutil.rmtree(copy, ignore_errors=True)
      shutil.copytree(world.run, copy)
      damage(copy)

    check = _checked(page) if name == 'report' else lambda outcome: ''
    plant = {'silent': 3.0} if 'lock' in what else {}
    return Case(f'{name} after: {what}', argv, 'either', check, begin, 180.0, plant=plant)

  by_command = commands(world, copy)
  of_files = [
    case(f'{file} is {words}', name, argv, lambda c, f=file, d=damage: d(c / f))
    for file in files_of(world.run)
    for words, damage in DAMAGES.items()
    for name, argv in by_command.items()
  ]
  of_all = [
    case(words, name, argv, change)
    for words, change in whole(world.run)
    for name, argv in by_command.items()
  ]
  return of_files, of_all
