"""What a run folder says of its run: recipe, identity, and what was measured."""

import itertools
from collections.abc import Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.config import Experiment, resolve
from vit_jax.config.evals import HEADLINES
from vit_jax.errors import UserError
from vit_jax.fields import whole
from vit_jax.paths import Place
from vit_jax.remote.mirror import Mirror
from vit_jax.remote.runs import run_folder
from vit_jax.run.checkpoint import check_path
from vit_jax.run.events import read_events
from vit_jax.run.files import read_object
from vit_jax.run.identity import Identity, read_identity
from vit_jax.run.predictions import Predictions, read_predictions
from vit_jax.run.translations import Translations, read_translations
from vit_jax.run.writers import read_metrics


class Measured:
  """Reads a run folder, and never writes. A file is read once, when it is first needed.

  Of an address, `path` is the local copy, which is brought up to date first (`remote/mirror.py`).
  """

  def __init__(self, path: str | PathLike[str]):
    self.path = run_folder(path)
    self.mirror = Mirror.of(self.path)
    self.faults: list[str] = []  # a sentence for each part of a file that could not be read
    check_path(self.path)

  @property
  def place(self) -> Place:
    """As the user calls it: `path`, or the address that it is a copy of."""
    return self.mirror.address if self.mirror else self.path

  def within(self, path: Path) -> Place:
    """The same of a file or folder in the run folder."""
    return f'{self.place}/{path.relative_to(self.path)}' if self.mirror else path

  # What identifies the run.

  @property
  def exists(self) -> bool:
    """Whether training has begun here."""
    return (self.path / 'config.json').is_file()

  @cached_property
  def config(self) -> dict[str, Any]:
    """config.json as stored; raises a UserError if this is no run folder or the file is damaged."""
    if not self.exists:
      why = 'it has no config.json' if self.path.is_dir() else 'there is no such folder'
      raise UserError(
        f'{self.place} is not a run folder: {why}; name the folder that `vit_jax train` wrote, '
        'such as runs/earth_climate'
      )
    path, faults = self.path / 'config.json', []
    values = read_object(path, faults)
    if faults or not {'name', 'data', 'model', 'checkpoint'} <= values.keys():
      raise UserError(
        f'{path} is damaged: it does not hold the recipe of a run; put a copy of it there'
      )
    return values

  @cached_property
  def experiment(self) -> Experiment:
    """The resolved recipe; raises as `config` does."""
    return resolve(self.config)

  @property
  def name(self) -> str:
    return self.config['name']

  @cached_property
  def identity(self) -> Identity | None:
    """None if identity.json is missing or damaged."""
    return read_identity(self.path / 'identity.json', self.faults)

  @property
  def class_names(self) -> tuple[str, ...]:
    """In the order of the labels; () if nothing in the folder names them."""
    if self.identity:
      return self.identity.class_names
    return next((found.class_names for found in self.predictions.values()), ())

  # What it has measured.

  @cached_property
  def metrics(self) -> list[dict[str, float]]:
    """The rows of metrics.jsonl, in the order of the file."""
    return read_metrics(self.path / 'metrics.jsonl', self.faults)

  @cached_property
  def events(self) -> list[dict[str, Any]]:
    return read_events(self.path / 'events.jsonl', self.faults)

  @cached_property
  def summary(self) -> dict[str, Any]:
    """Empty until the run has ended."""
    return read_object(self.path / 'summary.json', self.faults)

  @cached_property
  def evaluations(self) -> dict[int, dict[str, Any]]:
    """What `vit_jax evaluate` wrote, by step."""
    found = {}
    for path in self.path.glob('evaluation-*.json'):
      step = whole(path.stem.removeprefix('evaluation-'))
      if step is not None and (results := read_object(path, self.faults)):
        found[step] = results
    return dict(sorted(found.items()))

  @cached_property
  def found(self) -> list[str]:
    """A line on each data set as people have it: what was found there."""
    values = read_object(self.path / 'data.json', self.faults).get('found', [])
    lines = [each.get('line') for each in values if isinstance(each, dict)]
    return [line for line in lines if isinstance(line, str)]

  @cached_property
  def predictions(self) -> dict[str, Predictions]:
    """By name: the evals that measure, then other splits."""
    files = {file.stem: file for file in sorted((self.path / 'predictions').glob('*.npz'))}
    names = [name for name in self.evals if name in files] if files else []
    found = {}
    for name in dict.fromkeys([*names, *files]):
      if predictions := read_predictions(files[name], self.faults):
        found[name] = predictions
    return found

  @property
  def evals(self) -> list[str]:
    """The evals of the model's own head: the one that picks the best checkpoint, then by name."""
    best = self.config['checkpoint']['best'].partition('/')[0]
    return sorted(self._evals('classify', 'translate'), key=lambda name: (name != best, name))

  @property
  def headline(self) -> str:
    """The eval that headlines report; '' if there is none."""
    return next(iter(self.evals), '')

  @property
  def kind(self) -> str:
    """What it learns from: 'images' or 'pairs' of sentences."""
    return self.config['data'].get('kind', 'images')

  @property
  def headline_metric(self) -> str:
    """The metric that headlines report, such as 'top1'."""
    return HEADLINES[self.kind]

  def _evals(self, *kinds: str) -> list[str]:
    lines = self.config.get('evals', {})
    return sorted(name for name, line in lines.items() if line['kind'] in kinds)

  @property
  def features(self) -> dict[str, list[str]]:
    """The evals of features -> their metrics, such as '10-shot'."""
    keys = self._columns
    found = {
      name: [key.partition('/')[2] for key in keys if key.startswith(f'{name}/')]
      for name in self._evals('few_shot', 'knn', 'linear')
    }
    return {name: metrics for name, metrics in found.items() if metrics}

  @property
  def last_step(self) -> int:
    step_T, _ = self.series('step')
    return int(step_T[-1]) if len(step_T) else 0

  def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a metric. Of two rows of a step, the later one counts."""
    return self._columns.get(name, (np.zeros(0), np.zeros(0)))

  @cached_property
  def _columns(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Metric -> steps and values, which pages of long runs ask for often."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for names, group in itertools.groupby(self.metrics, tuple):  # many rows have the same metrics
      rows = list(group)
      steps = [row['step'] for row in rows]
      for name in names:
        all_steps, values = found.setdefault(name, ([], []))
        all_steps += steps
        values += [row[name] for row in rows]
    return {name: _in_order(*column) for name, column in found.items()}

  def result(self, eval_name: str) -> Mapping[str, float]:
    """The final metrics of an eval split; of an unfinished run the latest ones, or none."""
    if eval_name in self.summary:
      return self.summary[eval_name]
    prefix = f'{eval_name}/'
    return {
      name.removeprefix(prefix): float(value_T[-1])
      for name, (_, value_T) in self._columns.items()
      if name.startswith(prefix)
    }

  @cached_property
  def translations(self) -> dict[str, Translations]:
    """By the name of the eval."""
    found = {}
    for path in sorted((self.path / 'translations').glob('*.json')):
      if sentences := read_translations(path, self.faults):
        found[path.stem] = sentences
    return found


def _in_order(steps: list[float], values: list[float]) -> tuple[np.ndarray, np.ndarray]:
  step_T, value_T = _floats(steps), _floats(values)
  if (np.diff(step_T) > 0).all():
    return step_T, value_T
  order_T = np.argsort(step_T, kind='stable')
  step_T, value_T = step_T[order_T], value_T[order_T]
  last_T = np.append(np.diff(step_T) > 0, True)
  return step_T[last_T], value_T[last_T]


def _floats(numbers: list[float]) -> np.ndarray:
  try:
    return np.array(numbers, float)
  except OverflowError:  # a whole number beyond all floats, which a damaged file may hold
    return np.array([float(str(number)) for number in numbers])
