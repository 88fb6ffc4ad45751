"""The run folder: everything that training leaves, read and written here and nowhere else.

    config.json              the resolved recipe
    identity.json            classes, data, length, versions (identity.py)
    lock.json                while a process trains here (lock.py)
    metrics.jsonl            a row per log interval and evaluation (writers.py)
    events.jsonl             when it ran, and where the time went (events.py)
    checkpoints/STEP/        (checkpoint.py, checkpoint_writer.py); beside it replaced/, damaged/
    predictions/NAME.npz     what it predicted for each example (predictions.py)
    translations/NAME.json   its translation of each sentence (translations.py)
    vocabularies.json        the tokens of a translation run
    summary.json             the result, of a run that has ended
    evaluation-STEP.json     what `vit_jax evaluate` found later
    sharding.txt, report.html, figures/NAME.png

Small files are replaced as a whole. A reader keeps the good part of a file and says in
`Run.faults` what it left out.
"""

import dataclasses
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np

from vit_jax import layouts, models
from vit_jax.config import Checkpoint, Experiment, resolve
from vit_jax.config.evals import HEADLINES
from vit_jax.data.view import inputs_of
from vit_jax.errors import UserError
from vit_jax.parallel.processes import Processes
from vit_jax.parallel.watchdog import Watchdog
from vit_jax.paths import local
from vit_jax.run.checkpoint import Checkpoints, check_path
from vit_jax.run.checkpoint_writer import CheckpointWriter
from vit_jax.run.events import EventLog, read_events
from vit_jax.run.files import read_object, replacing, write_json, write_text
from vit_jax.run.identity import Identity, differences, read_identity
from vit_jax.run.lock import Lock
from vit_jax.run.predictions import Predictions, read_predictions, write_predictions
from vit_jax.run.translations import Sentences, read_sentences, write_sentences
from vit_jax.run.writers import MetricsWriter, read_metrics


class Run:
  """One run folder, which may not exist yet. A file is read once, when it is first needed.

  Raises:
    UserError: an address, or a path that checkpoints could not be read back from.
  """

  def __init__(self, path: str | PathLike[str]):
    self.path = local(path)
    self.faults: list[str] = []  # a sentence for each part of a file that could not be read
    check_path(self.path)

  # What identifies the run.

  @property
  def exists(self) -> bool:
    """Whether training has begun here."""
    return (self.path / 'config.json').is_file()

  def write_config(self, x: Experiment) -> None:
    self.path.mkdir(parents=True, exist_ok=True)
    write_text(self.path / 'config.json', x.to_json())

  @cached_property
  def config(self) -> dict[str, Any]:
    """config.json as stored; raises a UserError if this is no run folder or the file is damaged."""
    if not self.exists:
      why = 'it has no config.json' if self.path.is_dir() else 'there is no such folder'
      raise UserError(
        f'{self.path} is not a run folder: {why}; name the folder that `vit_jax train` wrote, such '
        'as runs/earth_climate'
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

  def check_same(self, x: Experiment) -> None:
    """Raises a UserError unless the run here is of this experiment."""
    if changed := differences(self.experiment, x):
      raise UserError(
        f'{self.path} holds another run: {"; ".join(changed[:4])}; choose another '
        '--workdir, or delete that folder to start again'
      )

  @property
  def inputs(self) -> models.Inputs:
    """The images that the model expects."""
    return inputs_of(self.experiment.images, self.class_names)

  @property
  def vocabularies(self) -> Any:
    """The `Vocabularies` of a translation run; None of images, or if the file is damaged."""
    path = self.path / 'vocabularies.json'
    if not path.is_file():
      return None
    from vit_jax.data.vocabulary import Vocabularies  # here: it needs the extra `text`

    values = read_object(path, self.faults)
    try:
      return Vocabularies.from_keys(values)
    except (KeyError, UserError):
      self.faults.append(f'{path} is damaged: it does not hold the vocabularies of a run')
      return None

  @cached_property
  def translations(self) -> dict[str, Sentences]:
    """By the name of the eval."""
    found = {}
    for path in sorted((self.path / 'translations').glob('*.json')):
      if sentences := read_sentences(path, self.faults):
        found[path.stem] = sentences
    return found

  # Training: process 0 holds the lock, and writes.

  def lock(self, here: Processes) -> Lock:
    return Lock(self.path, here)

  def goes_on(self, x: Experiment) -> bool:
    """Whether there are checkpoints; raises a UserError if they are of another experiment."""
    folder = self.path / 'checkpoints'
    found = folder.is_dir() and any(path.name.isdigit() for path in folder.iterdir())
    if found:
      self.check_same(x)
    return found

  def claim(
    self, x: Experiment, identity: Identity, *, goes_on: bool = False, accept_data: bool = False
  ) -> Identity:
    """Writes the recipe and the identity that holds from now on, whose length is the first start's.

    Args:
      identity: what this start means.
      goes_on: whether the run here resumes.
      accept_data: whether it may do so on other data.

    Raises:
      UserError: the run here differs.
    """
    if goes_on and self.identity:
      identity = self.identity.goes_on_as(identity, self.path, accept_data)
    self.write_config(x)
    write_json(self.path / 'identity.json', dataclasses.asdict(identity))
    return identity

  def metrics_writer(self, x: Experiment, resume_step: int) -> MetricsWriter:
    return MetricsWriter(x, self.path, self.metrics, resume_step)

  def event_log(self, watch: Watchdog) -> EventLog:
    return EventLog(self.path / 'events.jsonl', watch)

  def write_sharding(self, table: str) -> None:
    write_text(self.path / 'sharding.txt', table + '\n')

  def write_predictions(self, name: str, found: Predictions) -> None:
    write_predictions(self.path / 'predictions' / f'{name}.npz', found)

  def write_vocabularies(self, vocabularies: Any) -> None:
    write_json(self.path / 'vocabularies.json', vocabularies.to_keys())

  def write_translations(self, name: str, found: Sentences) -> None:
    write_sentences(self.path / 'translations' / f'{name}.json', found)

  def write_summary(self, summary: Mapping[str, Any]) -> None:
    """The last write of a run: with it, the run has ended."""
    write_json(self.path / 'summary.json', summary)

  def write_evaluation(self, step: int, results: Mapping[str, Any]) -> None:
    write_json(self.path / f'evaluation-{step}.json', results)

  def write_report(self, html: str) -> Path:
    """Returns where it is."""
    path = self.path / 'report.html'
    write_text(path, html)
    return path

  def figure(self, name: str) -> AbstractContextManager[IO[bytes]]:
    """A file to write a PNG to, which becomes figures/NAME.png."""
    return replacing(self.path / 'figures' / f'{name}.png')

  # What it has learned.

  def checkpoints(self, options: Checkpoint | None = None) -> Checkpoints:
    """Those saved here, to read; `options` are the recipe's by default."""
    return Checkpoints(self.path, options or self.experiment.checkpoint)

  def checkpoint_writer(self, options: Checkpoint, here: Processes) -> CheckpointWriter:
    return CheckpointWriter(self.path, options, here)

  def variables(self, which: str | int = 'last') -> tuple[dict[str, Any], int]:
    """(the variables to evaluate with, as host arrays; their step) of 'last', 'best' or a step.

    Raises:
      UserError: there is no such checkpoint.
      Damaged: it is not what was saved.
    """
    with self.checkpoints() as checkpoints:
      step = checkpoints.pick(which)
      return checkpoints.load(step, variables=True), step

  def export(
    self, target: str | PathLike[str], layout: str | None = None, checkpoint: str | int = 'last'
  ) -> str:
    """Writes the model of a checkpoint to a .npz or .safetensors file; returns a sentence.

    Args:
      layout: 'timm', 'hf', 'google' or 'big_vision'; by default what suits the file.

    Raises:
      UserError: there is no such checkpoint, or the layout does not have this model.
    """
    variables, step = self.variables(checkpoint)
    x = self.experiment.model
    model = models.build(x.name, len(self.class_names), x.options, self.inputs)
    line = layouts.write(local(target), model, variables, layout, {'model': x.name})
    return f'{self.path} at step {step}: {line}'

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
      step = path.stem.removeprefix('evaluation-')
      if step.isdigit() and (results := read_object(path, self.faults)):
        found[int(step)] = results
    return dict(sorted(found.items()))

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
    keys = dict.fromkeys(key for row in self.metrics for key in row)
    found = {
      name: [key.partition('/')[2] for key in keys if key.startswith(f'{name}/')]
      for name in self._evals('few_shot', 'knn', 'linear')
    }
    return {name: metrics for name, metrics in found.items() if metrics}

  @property
  def last_step(self) -> int:
    return max((int(row['step']) for row in self.metrics), default=0)

  def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a metric. Of two rows of a step, the later one counts."""
    values = {row['step']: row[name] for row in self.metrics if name in row}
    steps = sorted(values)
    return np.array(steps, float), np.array([values[step] for step in steps], float)

  def result(self, eval_name: str) -> Mapping[str, float]:
    """The final metrics of an eval split; of an unfinished run the latest ones, or none."""
    if eval_name in self.summary:
      return self.summary[eval_name]
    prefix, latest = f'{eval_name}/', {}
    for row in self.metrics:
      latest |= {key.removeprefix(prefix): row[key] for key in row if key.startswith(prefix)}
    return latest
