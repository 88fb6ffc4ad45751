"""A storm over command lines; a slice of it runs in CI."""

import pytest

from tests.storm import command_lines, job_scripts, late, recipe_files
from tests.storm.verdicts import Storm, drawn


def drawn_cases(counts: tuple[int, ...], world) -> list:
  parts = {
    'overrides': command_lines.overrides,
    'flags': command_lines.flag_cases,
    'recipes': recipe_files.cases,
    'jobs': job_scripts.scripts,
    'variables': job_scripts.environments,
    'late': late.cases,
  }
  return [
    case
    for (part, cases), count in zip(parts.items(), counts, strict=True)
    for case in drawn([*cases(world)], count, part)
  ]


FULL = 900, 500, 200, 150, 200, 100


def ride(counts: tuple[int, ...], world, nursery, folder) -> None:
  storm = Storm('command lines', nursery, folder).ride(drawn_cases(counts, world))
  for place in (world.folder / 'made', world.copy):
    for path in place.rglob('*'):
      if path.is_file() and b'token=t0k' in path.read_bytes():
        storm.note(f'a secret in {path}', 'silent', 'it is stored')
  storm.must_be_calm()


def test_a_few_command_lines(world, nursery, tmp_path):
  ride((36, 8, 6, 6, 2, 2), world, nursery, tmp_path)


@pytest.mark.storm
def test_command_lines(world, nursery, tmp_path):
  ride(FULL, world, nursery, tmp_path)
