"""A storm over run folders; a slice of it runs in CI."""

import pytest

from tests.storm import run_damages
from tests.storm.verdicts import Storm, drawn


def ride(count: int, world, nursery, folder) -> None:
  cases = drawn(run_damages.cases(world), count, 'runs')
  Storm('run folders', nursery, folder).ride(cases).must_be_calm()


def test_a_few_run_folders(world, nursery, tmp_path):
  ride(6, world, nursery, tmp_path)


@pytest.mark.storm
def test_run_folders(world, nursery, tmp_path):
  ride(220, world, nursery, tmp_path)
