"""A storm over run folders; a slice of it runs in CI."""

import pytest

from tests.storm import run_damages, run_surroundings
from tests.storm.verdicts import Case, Storm, drawn

FULL = 140  # damages of a file; those of the whole and of its surroundings are all tried


def drawn_cases(count: int, world) -> list[Case]:
  of_files, of_all = run_damages.cases(world)
  return [*drawn(of_files, count, 'runs'), *of_all, *run_surroundings.cases(world)]


def ride(cases: list[Case], world, nursery, folder) -> None:
  try:
    Storm('run folders', nursery, folder).ride(cases).must_be_calm()
  finally:
    run_surroundings.unmount(world.folder / 'disk')


def test_a_few_run_folders(world, nursery, tmp_path):
  ride(drawn(drawn_cases(60, world), 4, 'a few runs'), world, nursery, tmp_path)


@pytest.mark.storm
def test_run_folders(world, nursery, tmp_path):
  ride(drawn_cases(FULL, world), world, nursery, tmp_path)
