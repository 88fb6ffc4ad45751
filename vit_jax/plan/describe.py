"""Plans as text, and as rows of a table."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vit_jax.config import Experiment
from vit_jax.errors import UserError
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.parallel.chips import GIB
from vit_jax.plan import estimate, planner, program, roofline
from vit_jax.plan.collectives import KINDS
from vit_jax.plan.estimate import option
from vit_jax.plan.planner import Plan, Work
from vit_jax.plan.program import Case
from vit_jax.plan.saves import save_lines, save_of
from vit_jax.tables import as_markdown, as_text

log = logging.getLogger(__name__)

# Columns of the CSV file; GiB, GB and TFLOP are those of one device (in one step).
CELLS = (
  'model', 'topology', 'chips', 'batch', 'accumulate', 'remat', 'devices', 'mesh',
  'images_per_pass', 'answer', 'needed_gib', 'available_gib', 'parameters_gib', 'optimizer_gib',
  'batch_gib', 'activations_gib', 'temporaries_gib', 'tflop', 'model_tflop', 'hbm_gb',
  *(f'{kind}_gb' for kind in KINDS), 'sent_gb', 'bound_images_per_second', 'bound_mfu',
  'limited_by', 'recipe_steps', 'recipe_exaflop', 'recipe_hours_at_least', 'compile_seconds',
  'versions',
)  # fmt: skip
# Those of the Markdown table, and what they are called there.
COLUMNS = {
  'model': 'model', 'topology': 'topology', 'mesh': 'mesh', 'batch': 'batch',
  'images_per_pass': 'images per device', 'answer': 'answer', 'needed_gib': 'needs GiB',
  'available_gib': 'of GiB', 'tflop': 'TFLOP per step', 'sent_gb': 'GB sent',
  'bound_images_per_second': 'images/s <=', 'bound_mfu': 'MFU <=', 'limited_by': 'limited by',
  'recipe_hours_at_least': 'hours >=',
}  # fmt: skip
FITS = {True: 'fits', False: 'out of memory', None: 'memory not known'}


def plan_text(plan: Plan, bandwidth: float = 0.0) -> str:
  """A plan in full.

  Args:
    bandwidth: of a host to the store of the run folder in MB/s, 0 if not known.
  """
  trainer, x, chip = plan.trainer, plan.trainer.experiment, plan.topology.chip
  of = f' of {plan.topology.chips} chips' if chip.devices > 1 else ''
  passes = f', {x.optim.accumulate} times per step' if x.optim.accumulate > 1 else ''
  limit = f', of {plan.available / GIB:.2f} GiB that a step may use' if plan.available else ''
  lines = [
    f'{x.name}: {x.model.name}, {trainer.parameters / 1e6:,.1f} M parameters, on '
    f'{plan.topology.name}: {plan.devices} devices{of} ({chip.kind})',
    f'mesh: {rules.words(trainer.mesh)}; batch {x.batch_size:,}: '
    f'{estimate.examples_per_pass(trainer):g} {trainer.domain.examples} per device at the same time'
    f'{passes}',
    '',
    f'memory of one device{limit}',
    *(f'  {name:18}{size / GIB:9.3f} GiB' for name, size in plan.bytes.items() if size),
    f'  {_fit(plan)}',
    '',
    *(_work_lines(plan, plan.work) if plan.work else []),
    '',
    *save_lines(save_of(trainer, plan.seconds), bandwidth),
  ]
  notes = _notes(plan)
  return '\n'.join([*lines, *([''] if notes else []), *notes])


def _fit(plan: Plan) -> str:
  needed, available = plan.compiled.bytes, plan.available
  if plan.fits is None:
    return f'together {needed / GIB:.3f} GiB'
  if plan.fits:
    return f'fits: {needed / GIB:.2f} GiB, {(available - needed) / GIB:.2f} GiB to spare'
  if not needed:
    return 'does not fit: ' + plan.compiled.out_of_memory.split('\n')[0]
  too_much = f'{needed / GIB:.2f} GiB, {(needed - available) / GIB:.2f} GiB too much'
  return f'does not fit: {too_much}; try --search'


def _work_lines(plan: Plan, work: Work) -> list[str]:
  own = plan.step_flops / plan.devices
  moved = [
    (f'  {each.kind}', each.axes, each.count, each.bytes / 1e6, (each.near + each.far) / 1e6)
    for each in work.collectives
  ]
  lines = [
    'one device in one step',
    f"  {work.flops / 1e12:.3f} TFLOP of matrix products, {own / 1e12:.3f} of them the model's own",
    f'  {work.traffic / 1e9:.3f} GB through HBM',
    '',
    as_text(('collectives', 'over', 'count', 'MB', 'MB sent'), moved or [('  none', *[''] * 4)]),
  ]
  if work.roofline is None:
    return lines
  bound = work.roofline
  return [
    *lines,
    '',
    f'bound (not a forecast): at most {plan.examples_per_second:,.0f} '
    f'{plan.trainer.domain.examples}/s, '
    f'{plan.examples_per_second / plan.devices:,.1f} per device, MFU at most {plan.mfu:.1%}; '
    f'limited by {bound.limit}',
    f'  least ms per step: compute {bound.compute * 1e3:.2f}, HBM {bound.memory * 1e3:.2f}, '
    f'links {bound.near * 1e3:.2f}, between nodes {bound.far * 1e3:.2f}',
    f'recipe: {plan.trainer.steps:,} steps, {plan.exaflops:,.2f} exaFLOP, at least '
    f'{plan.hours:,.2f} hours',
  ]


def _notes(plan: Plan) -> list[str]:
  notes = []
  if later := plan.trainer.experiment.phases[1:]:
    names = ', '.join(phase.name for phase in later)
    notes.append(f'This is the first phase; {names} follow: `train --dry_run` estimates them.')
  if plan.work and plan.work.roofline:
    notes.append(f'The bound assumes {roofline.ASSUMPTIONS}.')
  if len(plan.trainer.domain.rows) > 1:
    notes.append('All is of the longest batches; shorter ones have about as many tokens.')
  if plan.topology.chip.platform == 'cuda':
    notes.append(
      'A step may use the share of the memory that JAX takes '
      f'({program.GPU_SHARE[0]}, {program.GPU_SHARE[1]} unless set).'
    )
  if plan.work and plan.work.unknown_loops:
    notes.append(f'{plan.work.unknown_loops} loops of unknown length are counted once.')
  return notes


def search_text(plans: Sequence[Plan], given: Experiment, bandwidth: float = 0.0) -> str:
  """A table of the plans, the best one in full, and what to add to the command of `given`."""
  rows = []
  for plan in plans:
    needed = plan.compiled.bytes / GIB
    speed = f'{plan.examples_per_second:,.0f}', f'{plan.mfu:.1%}'
    images = f'{estimate.examples_per_pass(plan.trainer):g}'
    how = flags(plan.trainer.experiment, given)
    rows.append((*speed, needed, plan.available / GIB - needed, images, how))
  head = ('images/s <=', 'MFU <=', 'GiB', 'to spare', 'per pass', 'how')
  table, paste = as_text(head, rows, '>>>>><'), f'the best one, to paste:\n{rows[0][-1]}'
  return f'{table}\n\n{plan_text(plans[0], bandwidth)}\n\n{paste}'


def flags(x: Experiment, given: Experiment) -> str:
  """What to add to the command line of `given` to run it as `x`."""
  axes = [
    axis
    for axis in meshes.AXES
    if axis in ('replica', 'fsdp') or (getattr(x.mesh, axis), getattr(given.mesh, axis)) != (1, 1)
  ]
  parts = [f'--config.mesh.{axis}={getattr(x.mesh, axis)}' for axis in axes]
  if remat := option(x, 'remat', ''):
    parts.append(f'--config.model.remat={remat}')
  return ' '.join([*parts, f'--config.optim.accumulate={x.optim.accumulate}'])


def plan_rows(cases: Sequence[Case], cache: Path | None) -> Iterator[dict[str, Any]]:
  """The row of each case, as soon as it is planned; that of a refused one says why."""
  for number, case in enumerate(cases, 1):
    words = f'{case.experiment.model.name} on {case.topology.name}'
    log.debug(f'{number} of {len(cases)}: {words} ...')
    try:
      yield row(case, planner.make_plan(case, cache))
    except UserError as error:
      yield row(case, error)


def row(case: Case, plan: Plan | UserError) -> dict[str, Any]:
  """One row of the CSV file; None is not known."""
  x, topology = case.experiment, case.topology
  cells: dict[str, Any] = dict.fromkeys(CELLS) | {
    'model': x.model.name,
    'topology': topology.name,
    'chips': topology.chips,
    'batch': x.batch_size,
    'accumulate': x.optim.accumulate,
    'remat': option(x, 'remat', 'none'),
  }
  if isinstance(plan, UserError):
    return cells | {'answer': f'refused: {plan}'}
  shape = plan.trainer.mesh.shape
  cells |= {
    'devices': plan.devices,
    'mesh': ' '.join(f'{axis}={n}' for axis, n in shape.items() if n > 1) or 'one device',
    'answer': FITS[plan.fits],
    'images_per_pass': f'{estimate.examples_per_pass(plan.trainer):g}',
    'needed_gib': _short(plan.compiled.bytes / GIB) if plan.compiled.bytes else None,
    'available_gib': _short(plan.available / GIB) if plan.available else None,
    'recipe_steps': plan.trainer.steps,
    'recipe_exaflop': _short(plan.exaflops),
    'model_tflop': _short(plan.step_flops / plan.devices / 1e12),
    'compile_seconds': f'{plan.compiled.seconds:.0f}',
    'versions': ' '.join(f'{name}={v}' for name, v in plan.compiled.versions.items()),
  }
  for part, size in plan.bytes.items():
    if size and f'{part}_gib' in CELLS:
      cells[f'{part}_gib'] = _short(size / GIB)
  if plan.work:
    moved = plan.work.collectives
    for kind in KINDS:
      cells[f'{kind}_gb'] = _short(sum(each.bytes for each in moved if each.kind == kind) / 1e9)
    cells['tflop'] = _short(plan.work.flops / 1e12)
    cells['hbm_gb'] = _short(plan.work.traffic / 1e9)
    cells['sent_gb'] = _short(sum(each.near + each.far for each in moved) / 1e9)
  if plan.work and plan.work.roofline:
    cells['bound_images_per_second'] = f'{plan.examples_per_second:.0f}'
    cells['bound_mfu'] = f'{plan.mfu:.3f}'
    cells['limited_by'] = plan.work.roofline.limit
    cells['recipe_hours_at_least'] = _short(plan.hours)
  return cells


def _short(number: float) -> str:
  return f'{number:.4g}'


def markdown(rows: Sequence[dict[str, Any]]) -> str:
  cells = [[str(row[name] or '') for name in COLUMNS] for row in rows]
  return as_markdown(list(COLUMNS.values()), cells)
