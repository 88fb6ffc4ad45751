"""A storm over command lines; a slice of it runs in CI."""

import pytest

from tests.storm import command_lines, recipe_files
from tests.storm.verdicts import Storm, drawn


def ride(count: int, flags: int, recipes: int, world, nursery, folder) -> None:
  cases = drawn(command_lines.overrides(world), count, 'overrides')
  cases += drawn(command_lines.flag_cases(world), flags, 'flags')
  cases += drawn(recipe_files.cases(world), recipes, 'recipes')
  Storm('command lines', nursery, folder).ride(cases).must_be_calm()


def test_a_few_command_lines(world, nursery, tmp_path):
  ride(60, 10, 10, world, nursery, tmp_path)


@pytest.mark.storm
def test_command_lines(world, nursery, tmp_path):
  ride(900, 500, 200, world, nursery, tmp_path)
