"""The page of a run: report.html, one file that runs no script and loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vit_jax.errors import UserError
from vit_jax.report import goodput, learned, maps, plots, samples
from vit_jax.report.plots import Line
from vit_jax.report.results import METRICS, comparison, features, results, row
from vit_jax.report.run import Predictions, Run, read_run

CSS = Path(__file__).with_name('page.css')
BASELINES = {'majority': 'Always the commonest class', 'colour_histogram': 'Colours alone'}
MATRIX_CLASSES = 100  # of more classes only the worst pairs are told
WORST_PAIRS = 8

DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def write_page(
  run_dirs: Sequence[Path | str], page: Path | None = None, *, weights: bool = True
) -> Path:
  """Writes report.html into the first run folder, and each run's maps into its figures/NAME.png.

  Several runs are compared on one page. A run that has not ended gives a page of what there is.

  Args:
    page: to be written instead, and nothing into the run folders.
    weights: whether to read those of runs that have ended, and draw what the model has learnt.

  Returns the path of the page.

  Raises:
    UserError: a folder is not a run folder, or the page cannot be written.
  """
  runs = [read_run(path) for path in run_dirs]
  if not runs:
    raise UserError('no run folder is named; name at least one, such as runs/earth_climate')
  title = ' and '.join(dict.fromkeys(run.name for run in runs))
  maps_of = [
    {
      name: maps.map_figure(predictions)
      for name, predictions in run.predictions.items()
      if predictions.raster
    }
    for run in runs
  ]
  labels = _labels(runs)
  parts = [
    f'<h1>{escape(title)}</h1>',
    *(_lead(run) for run in runs),
    _bars(runs),
    results(runs, labels),
    comparison(runs, labels),
  ]
  if len(runs) > 1:
    parts += [_training(runs), features(runs, labels)]
  for run, label, figures in zip(runs, labels, maps_of, strict=True):
    of = f' of {label}' if len(runs) > 1 else ''
    parts += [f'<h2>{escape(label)}</h2>' if of else '', _facts(run)]
    parts += [
      _map(name + of, run.predictions[name], figure)
      for name, figure in sorted(figures.items(), key=lambda item: item[0] in run.evals)
    ]
    parts.append('' if of else _training(runs) + features(runs, labels) + _features(run))
    parts += [
      _split(name + of, predictions)
      for name, predictions in run.predictions.items()
      if name in run.evals or not predictions.raster
    ]
    parts.append(learned.section(run, of) if weights else '')
    spent = goodput.read_goodput(run.path)
    parts.append(goodput.bar(spent) if spent else '')
    parts.append(_config(run))
  body = '\n'.join(part for part in parts if part)
  path = page or runs[0].path / 'report.html'
  try:
    path.write_text(DOCUMENT.format(title=escape(title), css=CSS.read_text(), body=body), 'utf-8')
    for run, figures in zip(runs, maps_of, strict=True) if page is None else ():
      for name, figure in figures.items():
        (run.path / 'figures').mkdir(exist_ok=True)
        plots.save_png(figure, run.path / 'figures' / f'{name}.png')
  except OSError as error:
    raise UserError(
      f'the report cannot be written to {path.parent} ({error.strerror}); make room '
      'there, or make the folder writable'
    ) from None
  return path


def _labels(runs: Sequence[Run]) -> list[str]:
  """The name of each run's folder, or its path where two have the same.

  Folders of a sweep are called by its keys: those that have one value in all of them are left out.
  """
  parts = [run.path.name.split(',') for run in runs]
  common = set.intersection(*map(set, parts)) if len(runs) > 1 else set()
  names = [
    ','.join(part for part in mine if part not in common) or run.path.name
    for run, mine in zip(runs, parts, strict=True)
  ]
  return [
    str(run.path) if names.count(name) > 1 else name for run, name in zip(runs, names, strict=True)
  ]


def _lead(run: Run) -> str:
  """One line: what was trained, and for how long."""
  summary, words = run.summary, [run.config['model']['name']]
  if 'parameters' in summary:
    words.append(f'{summary["parameters"]:,} parameters')
  words.append(f'{run.last_step:,} steps')
  if 'seconds' in summary:
    words.append(f'{summary["seconds"]["train"]:,.0f} s of training')
  words += [f'seed {run.config["seed"]}'] + [summary[key] for key in ('device',) if key in summary]
  line = ' · '.join(escape(str(word)) for word in words)
  if not summary:
    line += ' · <span class="open">this run has not ended</span>'
  return f'<p class="lead">{line}</p>'


def _bars(runs: Sequence[Run]) -> str:
  """The accuracy that headlines tell, below what it takes no model to reach."""
  split = runs[0].evals[0]
  rows = [(label, note, top1, '') for label, note, top1 in _baselines(runs)]
  for run, label in zip(runs, _labels(runs), strict=True):
    result = run.result(split)
    if 'top1' in result:
      note = f'{label}, seed {run.config["seed"]}' if len(runs) > 1 else ''
      rows.append((run.config['model']['name'], note, result['top1'], 'ours'))
  lines = [
    f'<tr class="{kind}"><th scope="row">{escape(label)}<small>{escape(note)}</small></th>'
    f'<td><div class="track"><div class="bar" style="width:{100 * top1:.2f}%"></div></div>'
    f'</td><td class="value">{top1:.1%}</td></tr>'
    for label, note, top1, kind in rows
  ]
  if not lines:
    return ''
  return (
    f'<table class="bars"><caption>Accuracy (top-1) on {escape(split)}</caption>\n'
    f'<tbody>\n{chr(10).join(lines)}\n</tbody></table>'
  )


def _baselines(runs: Sequence[Run]) -> list[tuple[str, str, float]]:
  """(name, what it is, top-1) of the baselines, from the first run that judged them."""
  judged = next((run.summary['baselines'] for run in runs if 'baselines' in run.summary), {})
  return [
    (
      BASELINES[key] if key in BASELINES else key.replace('_', ' '),
      ', '.join(
        str(judged[key][part]) for part in ('feature', 'classifier') if part in judged[key]
      ),
      judged[key]['top1'],
    )
    for key in sorted(judged, key=lambda key: judged[key]['top1'])
  ]


def _facts(run: Run) -> str:
  """Single figures of a run."""
  split, facts = run.evals[0], {}
  result = run.result(split)
  for key in ('top5', 'ece'):
    if key in result:
      facts[f'{METRICS[key]}, {split}'] = f'{result[key]:.1%}'
  if 'loss' in result:
    facts[f'loss, {split}'] = f'{result["loss"]:.3f}'
  if 'seconds' in run.summary:
    for name, seconds in run.summary['seconds'].items():
      facts[f'seconds, {name}'] = f'{seconds:,.0f}'
  for name, label, form in (
    ('images_per_second', 'images a second, median', ',.0f'),
    ('fraction_of_peak', 'share of peak FLOP/s, median', '.0%'),
  ):
    values = run.series(f'train/{name}')[1]
    if len(values):
      facts[label] = format(np.median(values), form)
  items = [
    f'<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>' for name, value in facts.items()
  ]
  return f'<dl class="facts">\n{chr(10).join(items)}\n</dl>' if items else ''


def _training(runs: Sequence[Run]) -> str:
  """Loss, accuracy, learning rate and throughput over steps."""
  panels = [
    ('Loss', _lines(runs, 'loss'), {}),
    (
      'Accuracy',
      _lines(runs, 'top1'),
      {'percent': True, 'levels': {name: top1 for name, _, top1 in _baselines(runs)}},
    ),
    ('Learning rate', _lines(runs, 'lr'), {}),
    ('Images a second', _lines(runs, 'images_per_second'), {'from_zero': True}),
  ]
  figures = [_curves(name, lines, options) for name, lines, options in panels if lines]
  return f'<h2>Training</h2>\n<div class="pair">{chr(10).join(figures)}</div>' if figures else ''


def _features(run: Run) -> str:
  """Accuracy of features over steps, a picture for each data set that was judged more than once."""
  figures = []
  for name, metrics in run.features.items():
    series = {metric: run.series(f'{name}/{metric}') for metric in metrics}
    lines = [
      Line(metric, *values, colour, points=True)
      for (metric, values), colour in zip(series.items(), plots.colours(len(series)), strict=False)
    ]
    if all(len(line.step_T) > 1 for line in lines):
      figures.append(_curves(name, lines, {'percent': True}))
  return f'<div class="pair">{chr(10).join(figures)}</div>' if figures else ''


def _curves(name: str, lines: Sequence[Line], options: Mapping[str, Any]) -> str:
  words = '; '.join(f'{line.label}: {line.value_T[-1]:.4g}' for line in lines)
  svg = plots.to_svg(plots.curves(lines, **options), f'{name} over steps. Last values: {words}')
  return f'<figure><figcaption>{escape(name)}</figcaption>{svg}</figure>'


def _lines(runs: Sequence[Run], metric: str) -> list[Line]:
  """One run: training and every eval split. Several: a colour each, training faint."""
  lines, colours = [], plots.colours(max(len(runs), 1 + len(runs[0].evals)))
  for r, (run, of) in enumerate(zip(runs, _labels(runs), strict=True)):
    splits = ['train', *run.evals] if len(runs) == 1 else ['train', run.evals[0]]
    for i, split in enumerate(splits):
      step_T, value_T = run.series(f'{split}/{metric}')
      colour = colours[i if len(runs) == 1 else r]
      name = 'train, as augmented' if split == 'train' and metric in METRICS else split
      label = name if len(runs) == 1 else f'{of}, {split}'
      if len(step_T):
        lines.append(
          Line(
            label,
            step_T,
            value_T,
            colour,
            points=split != 'train',
            faint=len(runs) > 1 and split == 'train' and metric in METRICS,
          )
        )
  return lines


def _map(name: str, predictions: Predictions, figure: Figure) -> str:
  words = maps.agreement(predictions)
  svg = plots.to_svg(
    figure,
    f'Maps of {name}: predicted classes, true classes, and where they '
    f'agree; {words}. The share found of each class is listed beside.',
  )
  return f'<h2>Map of {escape(name)}</h2>\n<figure class="map">{svg}</figure>'


def _split(name: str, predictions: Predictions) -> str:
  """Images, confusions and calibration of a split."""
  parts = []
  if len(predictions.images_SHWC):
    parts += [
      f'<h2>Images of {escape(name)}</h2>',
      '<p class="note">Drawn at random. Below each: the prediction and its confidence, and '
      'the true class where it is another.</p>',
      samples.image_grid(predictions),
    ]
  if predictions.labelled_N.any():
    figures = []
    if len(predictions.class_names) <= MATRIX_CLASSES:
      svg = plots.to_svg(
        plots.confusion(predictions),
        f'Confusion matrix of {name}; its largest entries are listed beside it as text',
      )
      figures.append(
        '<figure><figcaption>Confusion <small>percent of each true class</small>'
        f'</figcaption>{svg}</figure>'
      )
    svg = plots.to_svg(plots.reliability(predictions), f'Accuracy against confidence on {name}')
    figures.append(
      '<div><figure><figcaption>Calibration <small>accuracy at each confidence; on '
      f'the dotted line if calibrated</small></figcaption>{svg}</figure>'
      f'{_worst_pairs(predictions)}</div>'
    )
    parts += [
      f'<h2>Mistakes on {escape(name)}</h2>',
      f'<div class="pair">{chr(10).join(figures)}</div>',
    ]
  return '\n'.join(parts)


def _worst_pairs(predictions: Predictions) -> str:
  counts_KK, names = predictions.confusion_KK, predictions.class_names
  wrong_KK = counts_KK * (1 - np.eye(len(names), dtype=counts_KK.dtype))
  worst = np.argsort(-wrong_KK, axis=None, kind='stable')[:WORST_PAIRS]
  rows = [
    row(f'{names[k]} taken for {names[j]}', [f'{wrong_KK[k, j]} of {counts_KK[k].sum()}'])
    for k, j in zip(*np.unravel_index(worst, wrong_KK.shape), strict=True)
    if wrong_KK[k, j]
  ]
  if not rows:
    return ''
  return (
    '<h3>Most frequent mistakes</h3>\n<table class="results"><tbody>\n'
    f'{chr(10).join(rows)}\n</tbody></table>'
  )


def _config(run: Run) -> str:
  text = escape(json.dumps(run.config, indent=2))
  versions = run.summary['versions'] if 'versions' in run.summary else {}
  made_with = ', '.join(f'{name} {version}' for name, version in versions.items())
  return (
    '<details><summary>The resolved recipe</summary>\n'
    f'<p class="note">{escape(made_with)}</p>\n<pre>{text}</pre></details>'
  )
