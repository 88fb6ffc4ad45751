"""A world that all storms read."""

import pytest

from tests.storm import world as worlds


@pytest.fixture(scope='session')
def world(write_images, nursery, tmp_path_factory) -> worlds.World:
  return worlds.make(tmp_path_factory.mktemp('world'), write_images, nursery)


@pytest.fixture
def place(tmp_path):
  """The folder in which the commands of a storm run."""
  return tmp_path
