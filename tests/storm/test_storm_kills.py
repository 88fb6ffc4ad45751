"""A storm of kills over every command that writes."""

import re

import pytest

from tests.storm import kills
from tests.storm.verdicts import ONLY, Storm


def ride(names, each: int, world, nursery, folder) -> None:
  storm = Storm('kills', nursery, folder)
  for name in filter(re.compile(ONLY).search, names):
    kills.ride(storm, name, each, world, nursery, folder)
  storm.must_be_calm()


def test_a_few_kills(world, nursery, tmp_path):
  ride(['convert'], 2, world, nursery, tmp_path)


@pytest.mark.storm
def test_kills(world, nursery, tmp_path):
  ride(kills.COMMANDS, 11, world, nursery, tmp_path)
