"""Damages of run folders, each followed by the commands that read them."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.storm.verdicts import Case, generator
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


def commands(world: World, copy: Path) -> dict[str, list[str]]:
  page = world.folder / 'made' / 'damaged.html'
  return {
    'train': ['train', f'--config={world.recipe}', f'--workdir={copy}'],
    'longer': ['train', f'--config={world.recipe}', f'--workdir={copy}', '--config.steps=5'],
    'evaluate': ['evaluate', f'--workdir={copy}'],
    'predict': ['predict', f'--weights={copy}', f'--input={world.image}'],
    'report': ['report', str(copy), f'--page={page}'],
  }


def cases(world: World) -> list[Case]:
  copy = world.folder / 'damaged'
  found = []

  def add(what: str, name: str, argv: list[str], damage: Callable[[Path], object]) -> None:
    def begin() -> None:
      shutil.rmtree(copy, ignore_errors=True)
      shutil.copytree(world.run, copy)
      damage(copy)

    found.append(Case(f'{name} after: {what}', argv, 'either', begin=begin, limit=180.0))

  for file in files_of(world.run):
    for words, damage in DAMAGES.items():
      for name, argv in commands(world, copy).items():
        add(f'{file} is {words}', name, argv, lambda c, f=file, d=damage: d(c / f))
  for words, change in whole(world.run):
    for name, argv in commands(world, copy).items():
      add(words, name, argv, change)
  return found
