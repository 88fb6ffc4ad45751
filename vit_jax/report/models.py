"""Tables of the zoo: what every model costs, and what timm's own table says of those it has."""

from __future__ import annotations

import csv
import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vit_jax import models
from vit_jax.errors import UserError
from vit_jax.models import flops
from vit_jax.models.cait import CaiT
from vit_jax.models.resnet import ResNet

CLASSES = 1000
OTHER_CLASSES = {'DINOv2': 0, 'LeNet': 10}  # as published; by what stands before the '-'
TIMM = Path(__file__).with_name('papers') / 'timm.csv'
# timm's names, without image size and training data, and ours.
OURS: dict[str, str] = {
  'vit_tiny_patch16': 'Ti/16', 'vit_small_patch8': 'S/8', 'vit_small_patch16': 'S/16',
  'vit_small_patch32': 'S/32', 'vit_base_patch8': 'B/8', 'vit_base_patch16': 'B/16',
  'vit_base_patch32': 'B/32', 'vit_large_patch14': 'L/14', 'vit_large_patch16': 'L/16',
  'vit_large_patch32': 'L/32', 'vit_huge_patch14': 'H/14', 'vit_giant_patch14': 'g/14',
  'vit_gigantic_patch14': 'G/14',
  'vit_tiny_r_s16_p8': 'R+Ti/16', 'vit_small_r26_s32': 'R26+S/32',
  'vit_base_r26_s32': 'R26+B/32', 'vit_base_r50_s16': 'R50+B/16', 'vit_large_r50_s32': 'R50+L/32',
  'deit_tiny_patch16': 'DeiT-Ti/16', 'deit_small_patch16': 'DeiT-S/16',
  'deit_base_patch16': 'DeiT-B/16', 'deit_tiny_distilled_patch16': 'DeiT-Ti/16-distilled',
  'deit_small_distilled_patch16': 'DeiT-S/16-distilled',
  'deit_base_distilled_patch16': 'DeiT-B/16-distilled',
  'deit3_small_patch16': 'DeiT3-S/16', 'deit3_medium_patch16': 'DeiT3-M/16',
  'deit3_base_patch16': 'DeiT3-B/16', 'deit3_large_patch16': 'DeiT3-L/16',
  'deit3_huge_patch14': 'DeiT3-H/14',
  'cait_xxs24': 'CaiT-XXS24', 'cait_xxs36': 'CaiT-XXS36', 'cait_xs24': 'CaiT-XS24',
  'cait_s24': 'CaiT-S24', 'cait_s36': 'CaiT-S36', 'cait_m36': 'CaiT-M36', 'cait_m48': 'CaiT-M48',
  'resnet18': 'ResNet-18', 'resnet34': 'ResNet-34', 'resnet50': 'ResNet-50',
  'resnet101': 'ResNet-101', 'resnet152': 'ResNet-152',
}  # fmt: skip
# Published without a head: ImageNet-21k weights whose own head is left away there.
HEADLESS = (
  'vit_small_patch8_224',
  'vit_large_patch32_224',
  'vit_huge_patch14_224',
  'vit_base_r50_s16_224',
)
_RESNET_D = 'its stem is a ResNet-D with BatchNorm, which no published weights have'
NOT_COMPARABLE = {
  'vit_small_resnet26d_224': _RESNET_D,
  'vit_small_resnet50d_s16_224': _RESNET_D,
  'vit_base_resnet26d_224': _RESNET_D,
  'vit_base_resnet50d_224': _RESNET_D,
}


class Cost(NamedTuple):
  """A row of the table of all models."""

  model: str
  image_size: int
  parameters: int
  gmacs: float


class Comparison(NamedTuple):
  """A row of timm's table beside ours; a model that is not comparable has the reason for it.

  `gmacs` are products alone, `gmacs_timms_way` what timm's counter makes of our model; the
  difference in percent is that of the latter.
  """

  timm: str
  image_size: int
  model: str
  timm_parameters_M: float
  parameters_M: float | None
  off_percent: float | None
  gmacs: float | None
  timm_gmacs: float
  gmacs_timms_way: float | None
  gmacs_off_percent: float | None
  reason: str


def costs(names: Iterable[str] | None = None) -> list[Cost]:
  """Parameters and GMACs of the named models, by default of every usual name in `MODELS`.

  Each at the image size of its published weights, with a head of 1000 classes (LeNet-5: 10;
  DINOv2: none).
  """
  if names is None:
    names = [name for base, entry in models.MODELS.items() for name in entry.names(base)]
  rows = []
  for name in names:
    inputs = models.inputs_of(name)
    shape = (inputs.size, inputs.size, len(inputs.mean))
    classes = OTHER_CLASSES.get(name.partition('-')[0], CLASSES)
    _, parameters, macs, _ = _cost(name, classes, shape)
    rows.append(Cost(name, inputs.size, parameters, macs / 1e9))
  return rows


def comparisons() -> list[Comparison]:
  """Every row of timm's table beside ours."""
  return [compare(row) for row in read_timm()]


def read_timm() -> list[dict[str, str]]:
  """timm's rows: model, image_size, parameters_M, gmacs, source."""
  with TIMM.open(newline='') as file:
    return list(csv.DictReader(file))


def compare(row: Mapping[str, str]) -> Comparison:
  """One row of timm's table beside ours."""
  timm, size = row['model'], int(row['image_size'])
  parameters, gmacs = float(row['parameters_M']), float(row['gmacs'])
  if timm in NOT_COMPARABLE:
    return Comparison(
      timm, size, '', parameters, None, None, None, gmacs, None, None, NOT_COMPARABLE[timm]
    )
  name = OURS[re.sub(r'(_\d+)?(_in21ft1k)?$', '', timm)]
  model, ours, macs, convolutions = _cost(name, 0 if timm in HEADLESS else CLASSES, (size, size, 3))
  timms_way = macs + normalisations(model, size, *convolutions)
  return Comparison(
    timm,
    size,
    name,
    parameters,
    ours / 1e6,
    100 * (ours / 1e6 / parameters - 1),
    macs / 1e9,
    gmacs,
    timms_way / 1e9,
    100 * (timms_way / 1e9 / gmacs - 1),
    '',
  )


@functools.cache  # timm lists shapes again for other weights
def _cost(
  name: str, num_classes: int, image_shape: tuple[int, int, int]
) -> tuple[Any, int, int, tuple[int, int]]:
  """(model, parameters, multiply-accumulates, `flops.convolutions`)."""
  model = models.build(name, num_classes)
  jaxpr = flops.trace(model, image_shape)
  return (
    model,
    flops.count_parameters(model, image_shape),
    flops.jaxpr_macs(jaxpr),
    flops.convolutions(jaxpr),
  )


def normalisations(model: Any, size: int, outputs: int, weights: int) -> int:
  """What timm's counter (fvcore's norm_flop_counter) adds to the products for a square image.

  5 for each number that a LayerNorm or a GroupNorm takes, 2 where a BatchNorm uses running
  statistics, 4 for each standardised weight. In a ResNet, which has the convolutions (of
  `outputs` numbers and `weights`) for itself, a norm follows each.
  """
  if isinstance(model, ResNet):
    return 2 * outputs
  patches, D, L = math.prod(model.grid((size, size))), model.width, model.depth
  if isinstance(model, CaiT):
    return 5 * D * (2 * L * patches + model.class_depth * (patches + 2) + patches + 1)
  return 5 * D * (2 * L + 1) * (patches + 1 + model.distilled) + 5 * outputs + 4 * weights


TABLES: dict[str, tuple[Any, Callable[[], list], str]] = {
  'models': (Cost, costs, ''),
  'timm': (
    Comparison,
    comparisons,
    "gmacs: matrix products and convolutions; timm's way: with "
    'normalisations, which its counter adds.',
  ),
}


def write_table(name: str, csv_path: Path | None = None) -> str:
  """The table 'models' or 'timm' as text, also written as CSV if a path is given.

  Raises:
    UserError: the file cannot be written.
  """
  kind, make, note = TABLES[name]
  rows = make()
  if csv_path is not None:
    write_csv(csv_path, [kind._fields, *rows])
  return as_text(kind._fields, rows) + (f'\n\n{note}' if note else '')


def write_csv(path: Path, lines: Iterable[Iterable[Any]]) -> None:
  """The lines, of which the first is the head.

  Raises:
    UserError: the file cannot be written.
  """
  try:
    with path.open('w', newline='') as file:
      csv.writer(file, lineterminator='\n').writerows(lines)
  except OSError as error:
    raise UserError(f'--csv: {path} cannot be written ({error.strerror})') from None


def as_text(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """Columns one below the other: words left, numbers right."""
  cells = [
    [field.replace('_', ' ') for field in head],
    *([_cell(value) for value in row] for row in rows),
  ]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  words = [all(isinstance(row[i], str) for row in rows) for i in range(len(head))]
  lines = [
    '  '.join(
      cell.ljust(width) if left else cell.rjust(width)
      for cell, width, left in zip(line, widths, words, strict=True)
    ).rstrip()
    for line in cells
  ]
  return '\n'.join(lines)


def _cell(value: Any) -> str:
  if value is None:
    return '-'
  if isinstance(value, float):
    return f'{value:z,.2f}'
  return f'{value:,}' if isinstance(value, int) else value
