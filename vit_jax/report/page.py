"""The page of a run: report.html, one file that runs no script and loads nothing from elsewhere."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vit_jax.errors import UserError, writing
from vit_jax.report import goodput, learned, maps, plots
from vit_jax.report.plots import Line
from vit_jax.report.render import Picture, picture, render
from vit_jax.report.results import METRICS, comparison, on_other_data, results
from vit_jax.report.samples import samples
from vit_jax.run import Predictions, Run

MAJORITY = 'Always the most frequent class'  # reached without a model
MATRIX_CLASSES = 100  # with more classes only the worst pairs are listed
WORST_PAIRS = 8


def write_page(
  run_dirs: Sequence[Path | str], page: Path | None = None, *, weights: bool = True
) -> Path:
  """Writes report.html into the first run folder, and each run's maps into its figures/NAME.png.

  Several runs are compared on one page. A run that has not ended gives a page of what it has.

  Args:
    page: written instead, and nothing into the run folders.
    weights: whether to read those of runs that have ended, and draw what the model has learned.

  Returns the path of the page.

  Raises:
    UserError: a folder is not a run folder, or the page cannot be written.
  """
  runs = [Run(path) for path in run_dirs]
  if not runs:
    raise UserError('no run folder is named; name at least one, such as runs/earth_climate')
  maps_of = [
    {
      name: maps.map_figure(predictions)
      for name, predictions in run.predictions.items()
      if predictions.raster
    }
    for run in runs
  ]
  text = render('run.html', **_page(runs, maps_of, weights))
  if page is not None:
    with writing(page):
      page.write_text(text, 'utf-8')
    return page
  with writing(runs[0].path / 'report.html'):
    path = runs[0].write_report(text)
    for run, figures in zip(runs, maps_of, strict=True):
      for name, figure in figures.items():
        with run.figure(name) as file:
          plots.save_png(figure, file)
  return path


def _page(
  runs: Sequence[Run], maps_of: Sequence[Mapping[str, Figure]], weights: bool
) -> dict[str, Any]:
  """The values of templates/run.html."""
  labels, majority = _labels(runs), _majority(runs)
  return {
    'title': ' and '.join(dict.fromkeys(run.name for run in runs)),
    'leads': [(_lead(run), bool(run.summary)) for run in runs],
    'judged': runs[0].headline,
    'bars': _bars(runs, labels, majority),
    'results': results(runs, labels),
    'comparison': comparison(runs, labels),
    'training': _training(runs, labels, majority),
    'other_data': on_other_data(runs, labels),
    'runs': [
      _run(run, label, f' of {label}' if len(runs) > 1 else '', figures, weights)
      for run, label, figures in zip(runs, labels, maps_of, strict=True)
    ],
  }


def _run(
  run: Run, label: str, of: str, figures: Mapping[str, Figure], weights: bool
) -> dict[str, Any]:
  """The part of the page about one run; `of` follows the names of its parts."""
  others_first = sorted(figures, key=lambda name: name in run.evals)
  splits = [
    _split(name + of, predictions)
    for name, predictions in run.predictions.items()
    if name in run.evals or not predictions.raster
  ]
  versions = run.summary.get('versions', {}).items()
  return {
    'label': label,
    'of': of,
    'facts': _facts(run),
    'maps': [_map(name + of, run.predictions[name], figures[name]) for name in others_first],
    'features': _features(run),
    'splits': splits,
    'learned': learned.section(run, of) if weights else learned.Section(),
    'hours': goodput.read_goodput(run.path),
    'made_with': ', '.join(f'{name} {version}' for name, version in versions),
    'recipe': json.dumps(run.config, indent=2),
    'faults': run.faults,  # last: the others read the files
  }


def _labels(runs: Sequence[Run]) -> list[str]:
  """The name of each run's folder, or its path where two have the same.

  Folders of a sweep are named by its keys: those with the same value in all runs are left out.
  """
  parts = [run.path.name.split(',') for run in runs]
  common = set.intersection(*map(set, parts)) if len(runs) > 1 else set()
  short = [','.join(part for part in mine if part not in common) for mine in parts]
  names = [name or run.path.name for name, run in zip(short, runs, strict=True)]
  return [
    str(run.path) if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)
  ]


def _lead(run: Run) -> list[str]:
  summary, words = run.summary, [run.config['model']['name']]
  if 'parameters' in summary:
    words.append(f'{summary["parameters"]:,} parameters')
  words.append(f'{run.last_step:,} steps')
  if 'seconds' in summary:
    words.append(f'{summary["seconds"]["train"]:,.0f} s of training')
  words.append(f'seed {run.config["seed"]}')
  return [*words, summary['device']] if 'device' in summary else words


def _bars(
  runs: Sequence[Run], labels: Sequence[str], majority: float | None
) -> list[tuple[str, str, float, str]]:
  """(name, note, top-1, kind) of each run, below the majority class."""
  rows = [] if majority is None else [(MAJORITY, '', majority, '')]
  for run, label in zip(runs, labels, strict=True):
    result = run.result(runs[0].headline)
    if 'top1' in result:
      note = f'{label}, seed {run.config["seed"]}' if len(runs) > 1 else ''
      rows.append((run.config['model']['name'], note, result['top1'], 'ours'))
  return rows


def _majority(runs: Sequence[Run]) -> float | None:
  """Share of the most frequent class in the first eval; None where no label of it is known."""
  judged = next((p for run in runs if (p := run.predictions.get(runs[0].headline))), None)
  if judged is None or not judged.labeled_N.any():
    return None
  return float(np.bincount(judged.label_N[judged.labeled_N]).max() / judged.labeled_N.sum())


def _facts(run: Run) -> dict[str, str]:
  split, facts = run.headline, {}
  result = run.result(split)
  for key in ('top5', 'ece'):
    if key in result:
      facts[f'{METRICS[key]}, {split}'] = f'{result[key]:.1%}'
  if 'loss' in result:
    facts[f'loss, {split}'] = f'{result["loss"]:.3f}'
  for name, seconds in run.summary.get('seconds', {}).items():
    facts[f'seconds, {name}'] = f'{seconds:,.0f}'
  for name, label, form in (
    ('images_per_second', 'images per second, median', ',.0f'),
    ('fraction_of_peak', 'share of peak FLOP/s, median', '.0%'),
  ):
    values = run.series(f'train/{name}')[1]
    if len(values):
      facts[label] = format(np.median(values), form)
  return facts


def _training(runs: Sequence[Run], labels: Sequence[str], majority: float | None) -> list[Picture]:
  """Loss, accuracy, learning rate and throughput over steps."""
  levels = {} if majority is None else {MAJORITY: majority}
  panels: dict[str, tuple[str, dict[str, Any]]] = {
    'Loss': ('loss', {}),
    'Accuracy': ('top1', {'percent': True, 'levels': levels}),
    'Learning rate': ('lr', {}),
    'Images per second': ('images_per_second', {'from_zero': True}),
  }
  return [
    _curves(name, lines, **options)
    for name, (metric, options) in panels.items()
    if (lines := _lines(runs, labels, metric))
  ]


def _features(run: Run) -> list[Picture]:
  """Accuracy of features over steps, a picture for each data set with more than one step."""
  pictures = []
  for name, metrics in run.features.items():
    lines = [
      Line(metric, *run.series(f'{name}/{metric}'), color, points=True)
      for metric, color in zip(metrics, plots.colors(len(metrics)), strict=False)
    ]
    if all(len(line.step_T) > 1 for line in lines):
      pictures.append(_curves(name, lines, percent=True))
  return pictures


def _curves(name: str, lines: Sequence[Line], **options: Any) -> Picture:
  words = '; '.join(f'{line.label}: {line.value_T[-1]:.4g}' for line in lines)
  return picture(plots.curves(lines, **options), f'{name} over steps. Last values: {words}', name)


def _lines(runs: Sequence[Run], labels: Sequence[str], metric: str) -> list[Line]:
  """One run: training and every eval split. Several: a color each, training faint."""
  lines, colors = [], plots.colors(max(len(runs), 1 + len(runs[0].evals)))
  alone = len(runs) == 1
  for r, (run, label) in enumerate(zip(runs, labels, strict=True)):
    for i, split in enumerate(['train', *(run.evals if alone else [run.headline])]):
      augmented = split == 'train' and metric in METRICS
      name = f'{label}, {split}'
      if alone:
        name = 'train, as augmented' if augmented else split
      color, faint = colors[i if alone else r], augmented and not alone
      series = run.series(f'{split}/{metric}')
      if len(series[0]):
        lines.append(Line(name, *series, color, points=split != 'train', faint=faint))
  return lines


def _map(name: str, predictions: Predictions, figure: Figure) -> tuple[str, Picture]:
  description = (
    f'Maps of {name}: predicted classes, true classes, and where they agree; '
    f'{maps.agreement(predictions)}. The share of each class that is found is listed beside.'
  )
  return name, picture(figure, description)


def _split(name: str, predictions: Predictions) -> dict[str, Any]:
  """Images, confusions and calibration of a split."""
  parts = {'name': name, 'sample': samples(predictions), 'calibration': None, 'confusion': None}
  if not predictions.labeled_N.any():
    return parts
  if len(predictions.class_names) <= MATRIX_CLASSES:
    words = f'Confusion matrix of {name}; its largest entries are listed beside it as text'
    matrix = plots.confusion(predictions)
    parts['confusion'] = picture(matrix, words, 'Confusion', 'percent of each true class')
  words = f'Accuracy against confidence on {name}'
  note = 'accuracy at each confidence; on the dotted line if calibrated'
  parts['calibration'] = picture(plots.reliability(predictions), words, 'Calibration', note)
  return parts | {'worst_pairs': _worst_pairs(predictions)}


def _worst_pairs(predictions: Predictions) -> list[tuple[str, str]]:
  """(the mistake, how often), the most frequent first."""
  counts_KK, names = predictions.confusion_KK, predictions.class_names
  wrong_KK = counts_KK * (1 - np.eye(len(names), dtype=counts_KK.dtype))
  worst = np.argsort(-wrong_KK, axis=None, kind='stable')[:WORST_PAIRS]
  return [
    (f'{names[k]} taken for {names[j]}', f'{wrong_KK[k, j]} of {counts_KK[k].sum()}')
    for k, j in zip(*np.unravel_index(worst, wrong_KK.shape), strict=True)
    if wrong_KK[k, j]
  ]
