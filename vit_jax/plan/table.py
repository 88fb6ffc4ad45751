"""Plans as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vit_jax.config import Experiment
from vit_jax.errors import UserError
from vit_jax.plan import estimate
from vit_jax.plan.answer import Plan
from vit_jax.plan.chips import GIB
from vit_jax.plan.collectives import KINDS
from vit_jax.plan.topology import Topology


def row(x: Experiment, place: Topology, plan: Plan | UserError) -> dict[str, Any]:
  """One row for the CSV file; GiB, GB and TFLOP are those of one device (in one step)."""
  cells: dict[str, Any] = {
    'model': x.model.name,
    'topology': place.name,
    'chips': place.chips,
    'batch': x.batch_size,
    'accumulate': x.optim.accumulate,
    'remat': x.model.options.get('remat', 'none'),
  }
  names = (
    'devices',
    'mesh',
    'images_a_pass',
    'answer',
    'needed_gib',
    'available_gib',
    'parameters_gib',
    'optimizer_gib',
    'batch_gib',
    'activations_gib',
    'temporaries_gib',
    'tflop',
    'model_tflop',
    'hbm_gb',
    *(f'{kind}_gb' for kind in KINDS),
    'sent_gb',
    'bound_images_per_second',
    'bound_mfu',
    'limited_by',
    'recipe_steps',
    'recipe_exaflop',
    'recipe_hours_at_least',
    'compile_seconds',
    'versions',
  )
  cells |= dict.fromkeys(names, '')
  if isinstance(plan, UserError):
    return cells | {'answer': f'refused: {plan}'}
  fits = {True: 'fits', False: 'out of memory', None: 'memory not known'}[plan.fits]
  cells |= {
    'devices': plan.devices,
    'mesh': mesh_words(plan),
    'answer': fits,
    'images_a_pass': f'{estimate.images_a_pass(plan.setup):g}',
    'needed_gib': _gib(plan.compiled.bytes),
    'available_gib': _gib(plan.available),
    'recipe_steps': plan.setup.steps,
    'recipe_exaflop': _round(plan.exaflops),
    'model_tflop': _round(plan.step_flops / plan.devices / 1e12),
    'compile_seconds': f'{plan.compiled.seconds:.0f}',
    'versions': ' '.join(f'{name}={v}' for name, v in plan.compiled.versions.items()),
  }
  cells |= {
    f'{part}_gib': _gib(plan.bytes[part])
    for part in ('parameters', 'optimizer', 'batch', 'activations', 'temporaries')
    if part in plan.bytes
  }
  if plan.work is None:
    return cells
  moved = {kind: sum(r.bytes for r in plan.work.rows if r.kind == kind) for kind in KINDS}
  cells |= {f'{kind}_gb': _round(size / 1e9) for kind, size in moved.items()}
  cells |= {
    'tflop': _round(plan.work.flops / 1e12),
    'hbm_gb': _round(plan.work.traffic / 1e9),
    'sent_gb': _round(sum(r.near + r.far for r in plan.work.rows) / 1e9),
  }
  if plan.work.roofline:
    cells |= {
      'bound_images_per_second': f'{plan.images_per_second:.0f}',
      'bound_mfu': f'{plan.mfu:.3f}',
      'limited_by': plan.work.roofline.limit,
      'recipe_hours_at_least': _round(plan.hours),
    }
  return cells


def mesh_words(plan: Plan) -> str:
  """'replica=32 fsdp=8': the axes that are used."""
  shape = plan.setup.mesh.shape
  return ' '.join(f'{axis}={size}' for axis, size in shape.items() if size > 1) or 'one device'


def _gib(size: float) -> str:
  return _round(size / GIB) if size else ''


def _round(number: float) -> str:
  return f'{number:.4g}'


COLUMNS = {
  'model': 'model',
  'topology': 'topology',
  'mesh': 'mesh',
  'batch': 'batch',
  'images_a_pass': 'images a device',
  'answer': 'answer',
  'needed_gib': 'needs GiB',
  'available_gib': 'of GiB',
  'tflop': 'TFLOP a step',
  'sent_gb': 'GB sent',
  'bound_images_per_second': 'images/s <=',
  'bound_mfu': 'MFU <=',
  'limited_by': 'limited by',
  'recipe_hours_at_least': 'hours >=',
}


def markdown(rows: Sequence[dict[str, Any]]) -> str:
  """The columns that a person looks at first."""
  lines = [list(COLUMNS.values()), ['---'] * len(COLUMNS)]
  lines += [[str(cells[name]) for name in COLUMNS] for cells in rows]
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)
