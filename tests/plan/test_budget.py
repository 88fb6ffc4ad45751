"""A budget of the compiled step: its bytes, temporaries and collectives may not grow by 2 %.

It needs the compilers (`pip install -e '.[plan]'`) of the versions in tests/golden/budget.json,
which constraints.txt pins. A program that is as it was is not compiled. After a change for the
better: UPDATE_GOLDEN=1 pytest tests/plan/test_budget.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vit_jax.errors import UserError
from vit_jax.parallel import topology
from vit_jax.plan import compilers

GOLDEN = Path(__file__).parents[1] / 'golden' / 'budget.json'
BUDGET = json.loads(GOLDEN.read_text())
GROWTH = 1.02


@pytest.fixture(scope='module')
def measured(tmp_path_factory) -> dict[str, dict]:
  for name, row in BUDGET.items():
    platform = topology.parse(name).chip.platform
    try:
      compilers.require(topology.parse(name).chip)
    except UserError as error:
      pytest.skip(str(error))
    here = compilers.versions(platform)
    if not updating() and here != row['versions']:
      pytest.skip(f'the budget is of {row["versions"]}, and here are {here}')
  # In a process of its own: the tests' XLA flags are for a CPU.
  env = {
    name: value
    for name, value in os.environ.items()
    if name not in ('XLA_FLAGS', 'JAX_NUM_CPU_DEVICES', 'JAX_COMPILATION_CACHE_DIR')
  }
  known = GOLDEN
  if updating():  # all anew, as they may be counted in another way
    known = tmp_path_factory.mktemp('budget') / 'none.json'
    known.write_text('{}')
  done = subprocess.run(
    [sys.executable, Path(__file__).with_name('budget.py'), known, *BUDGET],
    env=env,
    text=True,
    capture_output=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  rows = {row.pop('topology'): row for row in map(json.loads, done.stdout.splitlines())}
  if updating():
    GOLDEN.write_text(json.dumps(rows, indent=2) + '\n')
  return rows


def updating() -> bool:
  return bool(os.environ.get('UPDATE_GOLDEN'))


@pytest.mark.parametrize('name', BUDGET)
def test_the_step_stays_within_its_budget(name, measured):
  budget, figures = BUDGET[name].get('figures', {}), measured[name]['figures']
  grown = {
    key: (budget.get(key, 0.0), value)
    for key, value in figures.items()
    if value > GROWTH * budget.get(key, 0.0)
  }
  assert not grown or updating()
