"""What is said of runs on each kind of data: their metrics, curves and costs, in words."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vit_jax.errors import UserError
from vit_jax.run import Run


class Metric(NamedTuple):
  """How a metric is shown.

  Attributes:
    cell, fact: its format in a table, and where it stands alone.
    perfect: its best value, if more is better.
  """

  label: str
  cell: str = '.4f'
  fact: str = '.3f'
  perfect: float = 1.0


class Kind(NamedTuple):
  """One kind of data.

  Attributes:
    does: what such a run does, in words.
    caption: names the headline metric.
    metrics: of an evaluation, by key; the first is the headline.
    facts: those below the headline.
    panels: title -> (metric, how `plots.curves` draws it).
    size, example: the unit of the size of an example, and its name.
    compared: the metrics by which systems are compared; the first is the headline.
    note: what its columns mean.
  """

  does: str
  caption: str
  metrics: Mapping[str, Metric]
  facts: tuple[str, ...]
  unit: str
  panels: Mapping[str, tuple[str, Mapping[str, Any]]]
  size: str
  example: str
  compared: tuple[str, ...]
  note: str


SECONDS = (
  'seconds: of one training, with compilation; in all: with every choice made on held-out '
  "examples, and with the teacher's."
)
KINDS = {
  'images': Kind(
    does='learns from images',
    caption='Accuracy (top-1)',
    metrics={
      'top1': Metric('top-1', fact='.1%'),
      'top5': Metric('top-5', fact='.1%'),
      'loss': Metric('loss'),
      'ece': Metric('calibration error', fact='.1%'),
      'class_top1': Metric('mean over classes', fact='.1%'),
      'map': Metric('mean average precision', fact='.1%'),
      'f1': Metric('F1, mean over classes', fact='.1%'),
      'micro_f1': Metric('F1 of all decisions', fact='.1%'),
    },
    facts=('map', 'f1', 'class_top1', 'top5', 'ece', 'loss'),
    unit='images',
    panels={
      'Loss': ('loss', {}),
      'Accuracy': ('top1', {'percent': True}),
      'Learning rate': ('lr', {}),
      'Images per second': ('images_per_second', {'from_zero': True}),
    },
    size='pixels',
    example='image',
    compared=('top1',),
    note='top1 and spread (standard deviation over seeds) in percent, on the test images. pixels: '
    "of the image's shorter side. mflops: matrix products and convolutions of one image, 2 FLOP "
    f'per multiply-accumulate. {SECONDS}',
  ),
  'pairs': Kind(
    does='translates sentences',
    caption='BLEU',
    metrics={
      'bleu': Metric('BLEU', '.2f', '.1f', 100.0),
      'chrf': Metric('chrF', '.2f', '.1f', 100.0),
      'exact': Metric('exact match', '.2%', '.1%'),
      'loss': Metric('loss per token'),
      'aer': Metric('alignment error rate'),
      'aligned': Metric('words aligned right', '.2%', '.1%'),
    },
    facts=('chrf', 'exact', 'loss', 'aer', 'aligned'),
    unit='tokens',
    panels={
      'Loss per token': ('loss', {}),
      'Accuracy per token': ('accuracy', {'percent': True}),
      'BLEU': ('bleu', {'from_zero': True}),
      'Learning rate': ('lr', {}),
      'Tokens per second': ('tokens_per_second', {'from_zero': True}),
    },
    size='tokens',
    example='sentence',
    compared=('bleu', 'exact'),
    note='bleu, its spread (standard deviation over seeds) and exact match in percent, on the test '
    'sentences. tokens: of a pair of mean length, both sides with their ends. mflops: matrix '
    'products of one forward pass over that pair, 2 FLOP per multiply-accumulate. '
    f'{SECONDS}',
  ),
}


def kind_of(runs: Sequence[Run]) -> str:
  """The kind of data of all these runs; raises a UserError if they differ in it."""
  first, *others = runs
  other = next((run for run in others if run.kind != first.kind), None)
  if other is not None:
    raise UserError(
      f'{first.place} {KINDS[first.kind].does} and {other.place} {KINDS[other.kind].does}: these '
      'cannot be compared; name runs of one kind'
    )
  return first.kind
