"""A storm over weight files; a slice of it runs in CI."""

import pytest

from tests.storm import weight_files
from tests.storm.verdicts import Storm, drawn


def ride(count: int, world, nursery, folder) -> None:
  storm = Storm('weight files', nursery, folder)
  storm.ride(drawn(weight_files.cases(world), count, 'weights')).must_be_calm()


def test_a_few_weight_files(world, nursery, tmp_path):
  ride(15, world, nursery, tmp_path)


@pytest.mark.storm
def test_weight_files(world, nursery, tmp_path):
  ride(2_000, world, nursery, tmp_path)
