"""A storm over images; a slice of it runs in CI."""

import pytest

from tests.storm import hostile_images
from tests.storm.verdicts import Storm

EACH, RUNS = 220, 10  # images through each reader, runs of training


def ride(each: int, runs: int, world, nursery, folder) -> None:
  storm = Storm('images', nursery, folder)
  cases = [*hostile_images.cases(world, each), *hostile_images.training(world, runs)]
  storm.ride(cases).must_be_calm()


def test_a_few_images(world, nursery, tmp_path):
  ride(5, 1, world, nursery, tmp_path)


@pytest.mark.storm
def test_images(world, nursery, tmp_path):
  ride(EACH, RUNS, world, nursery, tmp_path)
