"""The table of all models and their cost, and timm's table beside ours."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from vit_jax import models
from vit_jax.models import flops
from vit_jax.models.options import CaiTOptions, ResNetOptions
from vit_jax.report import counting
from vit_jax.report.counting import Spec
from vit_jax.report.papers import read_paper
from vit_jax.tables import as_text

TABLES = ('models', 'timm')
CLASSES = 1000
TOKENS, VOCABULARY = 32, 37_000  # of the Transformer's paper, arXiv:1706.03762 section 5.1
OTHER_CLASSES = {'DINOv2': 0, 'LeNet': 10}  # as published; by the part before the '-'
TIMMS_WAY = (
  'gmacs: matrix products and convolutions; gmacs timms way: with normalizations, which its '
  'counter adds.'
)


class Cost(NamedTuple):
  """A row of the table of all models; `size` is pixels of an image's side, or tokens of one."""

  model: str
  size: int
  parameters: int
  gmacs: float


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


def costs(names: Iterable[str] | None = None) -> list[Cost]:
  """Parameters and GMACs of the named models, by default of every usual name in `MODELS`.

  Images are of the size of the published weights, with a head of 1000 classes (LeNet-5: 10;
  DINOv2: none). Sentences have 32 tokens, and both vocabularies 37,000.
  """
  if names is None:
    names = [name for base, entry in models.MODELS.items() for name in entry.names(base)]
  rows = []
  for name in names:
    if models.reads_text(name):
      model = models.build(name, VOCABULARY, inputs=models.Texts(VOCABULARY))
      parameters = flops.count_parameters(model, (TOKENS, TOKENS))
      macs = flops.forward_macs(model, (TOKENS, TOKENS))
      rows.append(Cost(name, TOKENS, parameters, macs / 1e9))
      continue
    inputs = models.inputs_of(name)
    classes = OTHER_CLASSES.get(name.partition('-')[0], CLASSES)
    side, _ = inputs.size
    spec = Spec(name, '', classes, side, len(inputs.mean))
    macs, _ = counting.forward_macs(spec)
    rows.append(Cost(name, side, counting.parameters(spec), macs / 1e9))
  return rows


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


def table(name: str) -> tuple[str, list[dict[str, Any]]]:
  """(the table 'models' or 'timm' as text, its rows for a CSV file)."""
  if name == 'models':
    rows = costs()
    text = as_text(Cost._fields, rows)
  else:
    rows = [compare(row) for row in read_paper('timm')]
    text = f'{as_text(CostBesideTimm._fields, rows)}\n\n{TIMMS_WAY}'
  return text, [row._asdict() for row in rows]
