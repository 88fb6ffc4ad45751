"""A storm over images; a slice of it runs in CI."""

import pytest

from tests.storm import hostile_images
from tests.storm.verdicts import Case, Storm, drawn

EACH, RUNS = 220, 10  # images through each reader, runs of training


def ride(cases: list[Case], nursery, folder) -> None:
  Storm('images', nursery, folder).ride(cases).must_be_calm()


def test_a_few_images(world, nursery, tmp_path):
  cases = drawn(hostile_images.cases(world, 2), 12, 'a few images')
  ride([*cases, *hostile_images.training(world, 1)], nursery, tmp_path)


@pytest.mark.storm
def test_images(world, nursery, tmp_path):
  cases = [*hostile_images.cases(world, EACH), *hostile_images.training(world, RUNS)]
  ride(cases, nursery, tmp_path)
