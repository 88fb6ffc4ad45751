"""Damages of what is kept from command to command: features, downloads. All of it is made again."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.fleet import Nursery, run_to_end
from tests.storm.kills import content
from tests.storm.run_damages import DAMAGES
from tests.storm.verdicts import Case, Outcome
from tests.storm.world import World

# Of what is in the way of the file that is made again: a person takes it away.
IN_THE_WAY = ('a folder', 'a loop', 'a pipe', 'a socket', 'a device')


def commands(world: World, cache: Path, out: Path) -> dict[str, list[str]]:
  """The commands that keep something, with the result in the file `out`."""
  where = f'--data_dir={cache}'
  return {
    'features': ['transfer', f'--weights={world.vit}', f'--data=folder:{world.images}',
                 '--methods=knn', f'--csv={out}', where],
    'download': ['predict', f'--weights=file://{world.vit}', f'--input={world.image}',
                 f'--output={out}', where],
  }  # fmt: skip


def cases(world: World, nursery: Nursery) -> list[Case]:
  """Every file that a command keeps, damaged in every way; the same command gives the same."""
  return [
    case
    for name in commands(world, world.folder, world.folder)
    for case in _cases_of(name, world, nursery)
  ]


def _cases_of(name: str, world: World, nursery: Nursery) -> Iterator[Case]:
  kept, cache = world.folder / f'kept-{name}', world.folder / 'cache'
  out = world.folder / 'made' / 'kept.csv'
  run_to_end(nursery, world.folder / 'lives', commands(world, kept, out)[name])
  argv, expected = commands(world, cache, out)[name], content(out)

  def check(outcome: Outcome) -> str:
    return '' if content(out) == expected else 'another result'

  def case(what: str, damage: Callable[[Path], object], expects: str) -> Case:
    def begin() -> None:
      shutil.rmtree(cache, ignore_errors=True)
      shutil.copytree(kept, cache)
      out.unlink(missing_ok=True)
      damage(cache)

    return Case(f'{name} kept, {what}', argv, expects, check, begin)

  files = sorted(str(path.relative_to(kept)) for path in kept.rglob('*') if path.is_file())
  assert files, name
  for file in files:
    for words, damage in DAMAGES.items():
      expects = 'either' if words in IN_THE_WAY else 'right'
      yield case(f'{file} is {words}', lambda c, f=file, d=damage: d(c / f), expects)
    left = f'.{Path(file).name}.0a.part'
    yield case(f'{left} is left', lambda c, f=file, n=left: (c / f).with_name(n).touch(), 'right')
