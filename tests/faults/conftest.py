"""The nursery that all processes come from."""

from __future__ import annotations

import pytest
from fleet import Nursery


@pytest.fixture(scope='session')
def nursery():
  nursery = Nursery()
  yield nursery
  nursery.close()
