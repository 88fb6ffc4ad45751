"""A storm over what is kept from command to command."""

import pytest

from tests.storm import cache_damages
from tests.storm.verdicts import Storm


@pytest.mark.storm
def test_caches(world, nursery, tmp_path):
  Storm('caches', nursery, tmp_path).ride(cache_damages.cases(world, nursery)).must_be_calm()
