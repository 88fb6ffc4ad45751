"""A scaling study: cost and error of runs of many sizes, and the law of the best of them.

A run is one point, taken at its end: in the middle of its learning rate schedule it has not yet
reached what that compute can give. A multiply-accumulate is 2 FLOP, a training step 3 forward
passes.
"""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_type_hints

import numpy as np

from vit_jax.config import lower_is_better
from vit_jax.config.evals import RESERVED
from vit_jax.errors import UserError, nearest
from vit_jax.report import counting, laws
from vit_jax.report.laws import Fit, Law
from vit_jax.report.results import differences
from vit_jax.run import Run
from vit_jax.tables import as_text, clock

EXA = 1e18
UNITS = {
  f'{prefix}FLOPs': 1000.0 ** (i + 2)
  for i, prefix in enumerate(('mega', 'giga', 'tera', 'peta', 'exa', 'zetta'))
}
BEYOND = 10  # times the largest compute, where the law is also evaluated


class Point(NamedTuple):
  """One run; a row of the CSV file."""

  run: str  # its folder
  data: str
  model: str  # its name, and the options that the runs differ in
  seed: int
  parameters: int
  examples: int  # of the training split: the data size
  images: int  # seen in training, counting repetitions
  gflops: float  # of a forward pass of one image in training
  exaflops: float  # of the whole training
  metric: str  # the accuracy that counts: 'test/top1', or of an eval, as 'digits/10-shot'
  error: float  # 1 - that accuracy
  loss: float  # nats, of the test split
  seconds: float  # of training


class Study(NamedTuple):
  """The law of the frontier of some points, and a test of it on the largest run."""

  points: Sequence[Point]
  best: list[Point]  # the frontier, by increasing compute
  fit: Fit  # to `best`
  held_out: Point  # the best of the largest compute
  blind: Fit  # to the frontier of the points of less compute

  @property
  def unit(self) -> str:
    """The unit of compute in which most numbers are above 1."""
    middle = EXA * float(np.median([point.exaflops for point in self.points]))
    fitting = [name for name, size in UNITS.items() if size <= middle]
    return fitting[-1] if fitting else next(iter(UNITS))

  @property
  def predicted(self) -> tuple[float, float, float]:
    """(error of the held-out run as the others predict it, lower bound, upper bound)."""
    return self.blind.predict(self.held_out.exaflops)


def read_points(paths: Sequence[Path], metric: str = '') -> list[Point]:
  """The points of run folders, or of tables that --csv wrote, by increasing compute.

  Args:
    metric: an accuracy that the runs have measured, such as 'digits/10-shot'; '' is the top-1
      of the test split.

  Raises:
    UserError: a folder is not a finished run from scratch that has measured `metric`, or its data
      set or metric is not that of the others.
  """
  tables = [path for path in paths if path.suffix == '.csv' and path.is_file()]
  runs = [Run(path) for path in paths if path not in tables]
  differing = [key.partition('.') for key in sorted(differences(runs))]
  options = [key for group, _, key in differing if group == 'model' and key != 'name']
  points = [_point(run, options, metric) for run in runs]
  points += [point for path in tables for point in _read_csv(path)]
  for point in points:
    if point.data != points[0].data:
      raise UserError(
        f'--scaling: {points[0].run} is of data set {points[0].data!r} and {point.run} of '
        f'{point.data!r}; errors on different data sets follow no common law; name runs of one'
      )
    wanted = metric or points[0].metric
    if point.metric != wanted:
      raise UserError(
        f'--scaling: {point.run} is judged by {point.metric} and not by {wanted}; '
        'name runs, or a table, of one metric'
      )
    if not point.error:
      raise UserError(
        f'--scaling: {point.run} has no error in {point.metric} on {point.data}, and a power law '
        'never reaches 0; leave it out'
      )
  return sorted(points, key=lambda point: (point.exaflops, point.error))


def _point(run: Run, options: Sequence[str], metric: str) -> Point:
  config, data, summary = run.config, run.config['data'], run.summary
  if 'examples' not in summary:
    raise UserError(
      f'--scaling: {run.place} has not ended: its summary.json is missing, or has no number of '
      'training examples; train it to its end, or leave it out'
    )
  if config['init_from']:
    raise UserError(
      f'--scaling: {run.place} started from {config["init_from"]}, so its compute is not all that '
      'went into it; leave it out'
    )
  split = 'test' if 'test' in run.evals else run.headline
  metric = metric or f'{split}/top1'
  known = {
    f'{judged}/{key}': value
    for judged, result in summary.items()
    if isinstance(result, dict) and judged not in RESERVED
    for key, value in result.items()
    if not lower_is_better(key)
  }
  if metric not in known:
    raise UserError(f'--metric: {run.place} has not measured {metric!r}; {nearest(metric, known)}')
  name, its = config['model']['name'], counting.options_of(run)
  macs = counting.run_macs(run, train=True)
  images = summary['steps'] * config['batch_size']
  folder = f':{Path(data["dir"]).name}' if data['name'] == 'folder' else ''
  return Point(
    run=run.path.resolve().name,
    data=data['name'] + folder,
    model=' '.join([name, *(f'{key}={its[key]}' for key in options if key in its)]),
    seed=config['seed'],
    parameters=summary['parameters'],
    examples=summary['examples'],
    images=images,
    gflops=2 * macs / 1e9,
    exaflops=6 * macs * images / EXA,
    metric=metric,
    error=round(1 - known[metric], 9),
    loss=summary.get(split, {}).get('loss', math.nan),
    seconds=summary['seconds']['train'],
  )


def _read_csv(path: Path) -> list[Point]:
  kinds = get_type_hints(Point)
  try:
    with path.open(newline='') as file:
      rows = list(csv.DictReader(file))
    return [Point(**{name: kinds[name](row[name]) for name in Point._fields}) for row in rows]
  except (KeyError, TypeError, ValueError, csv.Error):
    raise UserError(
      f'--scaling: {path} is not a table of runs; it needs the columns '
      f'{", ".join(Point._fields)}, as --csv writes them'
    ) from None


def study(points: Sequence[Point], resamples: int = laws.RESAMPLES) -> Study:
  """Fits the law to the frontier of all points, and of those with less than the largest compute.

  Raises:
    UserError: a frontier has too few points.
  """
  largest = max((point.exaflops for point in points), default=0.0)
  smaller = [point for point in points if point.exaflops < largest * (1 - 1e-9)]
  best, seen = (_frontier(some) for some in (points, smaller))
  if len(seen) < laws.LEAST_POINTS:
    raise UserError(
      f'--scaling: of the {len(points)} runs named {len(seen)} are on the frontier below the '
      f'largest compute, and a law of four constants needs {laws.LEAST_POINTS}; add runs of other '
      'sizes or lengths'
    )
  held_out = min((point for point in points if point not in smaller), key=lambda point: point.error)
  fit, blind = (laws.fit(*_arrays(some), resamples=resamples) for some in (best, seen))
  return Study(points, best, fit, held_out, blind)


def _frontier(points: Sequence[Point]) -> list[Point]:
  return [points[i] for i in laws.frontier(*_arrays(points))]


def _arrays(points: Sequence[Point]) -> np.ndarray:
  """Compute and error, (2, N)."""
  return np.array([(point.exaflops, point.error) for point in points]).reshape(-1, 2).T


def as_words(found: Study) -> str:
  points, unit = found.points, found.unit
  sizes = sorted({point.parameters for point in points})
  amounts = sorted({point.examples for point in points})
  lead = (
    f'{len(points)} runs on {points[0].data}, judged by {points[0].metric}: {len(sizes)} '
    f'models of {sizes[0]:,} to {sizes[-1]:,} parameters, {len(amounts)} data sizes '
    f'({", ".join(f"{amount:,}" for amount in amounts)}), '
    f'{clock(sum(point.seconds for point in points))} of training'
  )
  head = ('model', 'parameters', 'examples', 'images', unit, 'error %', 'loss')
  scale = EXA / UNITS[unit]
  rows = [
    (p.model, p.parameters, p.examples, p.images, scale * p.exaflops, 100 * p.error, p.loss)
    for p in found.best
  ]
  title = 'The frontier: no run of as little compute has a lower error.'
  return '\n\n'.join([lead, title, as_text(head, rows), _law_table(found), _prediction(found)])


def _law_table(found: Study) -> str:
  scale = UNITS[found.unit] / EXA
  ours = zip(found.fit.law.per(scale), *found.fit.interval(lambda law: law.per(scale)), strict=True)
  rows = [
    (name, 'TPUv3 core-days', *(f'{value:g}' for value in law))
    for name, law in laws.PUBLISHED.items()
  ]
  cells = (f'{value:.3g} ({low:.3g} to {high:.3g})' for value, low, high in ours)
  rows.insert(0, (f'{found.points[0].data}, here', found.unit, *cells))
  table = as_text(('error E of', 'C in', *Law._fields), rows)
  return f'E = a (C + d)^-b + c, in brackets what 90 % of the resampled frontiers give\n\n{table}'


def _prediction(found: Study) -> str:
  predicted, low, high = (100 * value for value in found.predicted)
  point, truth = found.held_out, 100 * found.held_out.error
  within = 'within' if low <= truth <= high else 'outside'
  further = BEYOND * point.exaflops
  lower, upper = 100 * found.fit.interval(lambda law: law(further))
  return (
    f'Held out: {point.model}, {point.images:,} images of {point.examples:,} examples. From '
    f'the runs of less compute: {predicted:.2f} % ({low:.2f} to {high:.2f}). Measured: '
    f'{truth:.2f} %, {within} the interval.\n'
    f'The law at {BEYOND} times the largest compute: {100 * found.fit.law(further):.2f} % '
    f'({lower:.2f} to {upper:.2f}).'
  )
