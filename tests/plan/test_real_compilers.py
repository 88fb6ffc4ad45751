"""Plans through libtpu and the CUDA plugin, with no accelerator: `pytest -m slow tests/plan`.

Each part runs in a process of its own, as a user would start it: the tests' own XLA flags are for
a CPU. Half an hour on two cores, most of it the compilers'.
"""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vit_jax.errors import UserError
from vit_jax.parallel import topology
from vit_jax.parallel.chips import CHIPS, Chip
from vit_jax.plan import compilers

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def need(chip: Chip) -> None:
  try:
    compilers.require(chip)
  except UserError as error:
    pytest.skip(str(error))


def plan(tmp_path: Path, *flags: str, limit: float = 3000) -> tuple[list[dict[str, str]], str]:
  """(rows of the CSV file, what it printed)."""
  out = tmp_path / 'plan.csv'
  env = {
    name: value
    for name, value in os.environ.items()
    if name not in ('XLA_FLAGS', 'JAX_NUM_CPU_DEVICES', 'JAX_COMPILATION_CACHE_DIR')
  }
  done = subprocess.run(
    [sys.executable, '-m', 'vit_jax', 'plan', f'--csv={out}', f'--data_dir={tmp_path}', *flags],
    cwd=ROOT,
    env=env,
    text=True,
    capture_output=True,
    timeout=limit,
  )
  assert done.returncode == 0, done.stderr
  with out.open() as file:
    return list(csv.DictReader(file)), done.stdout


@pytest.mark.parametrize(
  'text',
  ['v4:2x2x1', 'v5e:4x4', '2*v5e:4x4', 'v5p:2x2x2', 'v6e:4x4', 'tpu7x:2x2x1', 'h100:8', 'h200:8x4'],
)
def test_a_small_model_on_every_chip(text, tmp_path):
  place = topology.parse(text)
  need(place.chip)
  [row], shown = plan(
    tmp_path,
    '--config=configs/vit_i1k.py:S/16',
    f'--topology={text}',
    '--config.model.unroll=False',
    '--config.batch_size=512',
    '--config.mesh.fsdp=4',
  )
  assert row['answer'] == 'fits' and int(row['chips']) == place.chips
  assert float(row['tflop']) == pytest.approx(float(row['model_tflop']), rel=0.05)
  assert 0 < float(row['bound_mfu']) <= 1 and 'all-gather' in shown


def test_out_of_memory_on_a_tpu_and_on_a_gpu(tmp_path):
  need(CHIPS['v5e'])
  need(CHIPS['h100'])
  rows, shown = plan(
    tmp_path,
    '--config=configs/vit_i21k.py:G/14',
    '--topology',
    'v6e:8x8',
    'h100:8',
    '--config.mesh.fsdp=8',
  )
  for row in rows:
    assert row['answer'] == 'out of memory'
    assert float(row['needed_gib']) > float(row['available_gib'])
  assert shown.count('out of memory') == 2


@pytest.mark.parametrize('images', [8, 16, 64])
def test_cost_as_the_pod_grows(images, tmp_path):
  """B/16 on 16 -> 64 -> 256 chips, so many images each: work flat within 5 %, state as 1/n.

  The memory is flat from 64 on: on 16 libtpu gathers weights in another way, and needs less.
  """
  need(CHIPS['v5e'])
  figures = []
  for chips, shape in ((16, '4x4'), (64, '8x8'), (256, '16x16')):
    [row], _ = plan(
      tmp_path,
      '--config=configs/vit_i1k.py:B/16',
      f'--topology=v5e:{shape}',
      f'--config.batch_size={images * chips}',
      '--config.mesh.replica=1',
      '--config.mesh.fsdp=-1',
    )
    figures.append(
      (
        float(row['tflop']),
        float(row['temporaries_gib'] or 0) + float(row['activations_gib']),
        chips * (float(row['parameters_gib']) + float(row['optimizer_gib'])),
      )
    )
  flops, temporaries, state = zip(*figures, strict=True)
  for values in (flops, temporaries[1:], state):
    assert max(values) <= 1.05 * min(values), figures
  assert temporaries[0] <= temporaries[1], figures


def test_search_finds_a_plan_for_the_largest(tmp_path):
  """ViT-G/14 on v5e:16x16, in under 20 minutes on two cores."""
  need(CHIPS['v5e'])
  began = time.monotonic()
  rows, shown = plan(
    tmp_path, '--config=configs/vit_i21k.py:G/14', '--topology=v5e:16x16', '--search', limit=1200
  )
  assert time.monotonic() - began < 1200
  assert rows[0]['answer'] == 'fits' and float(rows[0]['needed_gib']) < 15.75
  assert shown.splitlines()[-1].startswith('--config.mesh.replica=')
