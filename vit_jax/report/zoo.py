"""timm's table of models and their cost, beside ours."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from vit_jax.models import flops
from vit_jax.models.options import CaiTOptions, ResNetOptions
from vit_jax.report import counting
from vit_jax.report.counting import Spec
from vit_jax.report.papers import read_paper
from vit_jax.tables import as_text

NAME = 'timm'
TIMMS_WAY = (
  'gmacs: matrix products and convolutions; gmacs timms way: with normalizations, which its '
  'counter adds.'
)


class CostBesideTimm(NamedTuple):
  """A row of timm's table beside ours; `remark` says why a model is not comparable."""

  timm: str
  image_size: int
  model: str
  timm_parameters_M: float
  parameters_M: float | None
  off_percent: float | None
  gmacs: float | None  # products alone
  timm_gmacs: float
  gmacs_timms_way: float | None  # what timm's counter would give for our model
  gmacs_off_percent: float | None  # the difference of the latter from timm's
  remark: str


def compare(row: Mapping[str, str]) -> CostBesideTimm:
  timm, name, size = row['model'], row['ours'], int(row['image_size'])
  parameters, gmacs = float(row['parameters_M']), float(row['gmacs'])
  ours = off = products = timms_way = gmacs_off = None
  if name:
    spec = Spec(name, '', int(row['classes']), size)
    ours, (macs, _) = counting.parameters(spec) / 1e6, counting.forward_macs(spec)
    norms = normalizations(spec.build(), size, *flops.convolutions(counting.traced(spec)))
    products, timms_way = macs / 1e9, (macs + norms) / 1e9
    off, gmacs_off = 100 * (ours / parameters - 1), 100 * (timms_way / gmacs - 1)
  return CostBesideTimm(
    timm, size, name, parameters, ours, off, products, gmacs, timms_way, gmacs_off, row['remark']
  )


def normalizations(model: Any, size: int, outputs: int, weights: int) -> int:
  """What timm's counter (fvcore's norm_flop_counter) adds to the products for a square image.

  5 for each input of a LayerNorm or a GroupNorm, 2 of a BatchNorm that uses running statistics,
  4 for each standardized weight. In a ResNet a norm follows each convolution.

  Args:
    outputs, weights: of all convolutions, as `flops.convolutions` counts them.
  """
  o = model.options
  if isinstance(o, ResNetOptions):
    return 2 * outputs
  patches, D, L = math.prod(model.grid((size, size))), o.width, o.depth
  if isinstance(o, CaiTOptions):
    return 5 * D * (2 * L * patches + o.class_depth * (patches + 2) + patches + 1)
  return 5 * D * (2 * L + 1) * (patches + 1 + o.distilled) + 5 * outputs + 4 * weights


def table() -> tuple[str, list[dict[str, Any]]]:
  """(timm's table beside ours as text, its rows for a CSV file)."""
  rows = [compare(row) for row in read_paper(NAME)]
  text = f'{as_text(CostBesideTimm._fields, rows)}\n\n{TIMMS_WAY}'
  return text, [row._asdict() for row in rows]
