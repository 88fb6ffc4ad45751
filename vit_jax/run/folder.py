"""The run folder: everything that training leaves, read and written here and nowhere else.

    config.json              the resolved recipe
    identity.json            classes, data, length, versions (identity.py)
    lock.json                while a process trains here (lock.py)
    metrics.jsonl            a row per log interval and evaluation (writers.py)
    events.jsonl             when it ran, and where the time went (events.py)
    checkpoints/STEP/        (checkpoint.py, checkpoint_writer.py); beside it replaced/, damaged/
    predictions/NAME.npz     what it predicted for each example (predictions.py)
    predictions/NAME.classes.csv, .mistakes.csv   each class, and the files that are wrong
    translations/NAME.json   its translation of each sentence (translations.py)
    vocabularies.json        the tokens of a translation run
    summary.json             the result, of a run that has ended
    evaluation-STEP.json     what `vit_jax evaluate` found later
    data.json                what was found in its data, in full
    sharding.txt, report.html, figures/NAME.png

Small files are replaced as a whole. A reader keeps the good part of a file and says in
`Run.faults` what it left out.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any

from vit_jax import layouts, models
from vit_jax.config import Checkpoint, Experiment
from vit_jax.data.view import inputs_of
from vit_jax.errors import UserError
from vit_jax.fields import whole
from vit_jax.parallel.processes import Processes
from vit_jax.parallel.watchdog import Watchdog
from vit_jax.paths import Place, local
from vit_jax.remote.transfers import check_room
from vit_jax.run.checkpoint import Checkpoints
from vit_jax.run.checkpoint_writer import CheckpointWriter
from vit_jax.run.events import EventLog
from vit_jax.run.files import read_object, write_json, write_text
from vit_jax.run.identity import Identity, differences
from vit_jax.run.lock import Lock
from vit_jax.run.measured import Measured
from vit_jax.run.predictions import Predictions, write_predictions
from vit_jax.run.translations import Translations, write_translations
from vit_jax.run.uploads import Uploads
from vit_jax.run.writers import MetricsWriter
from vit_jax.tables import as_csv
from vit_jax.writes import replacing


class Run(Measured):
  """One run folder, which may not exist yet. What it says is read by `Measured`.

  Raises:
    UserError: an address of no store, or a path that checkpoints could not be read back from.
    StoreFault: the store does not answer.
  """

  def write_config(self, x: Experiment) -> None:
    self.path.mkdir(parents=True, exist_ok=True)
    write_text(self.path / 'config.json', x.to_json())

  def check_same(self, x: Experiment) -> None:
    """Raises a UserError unless the run here is of this experiment."""
    if changed := differences(self.experiment, x):
      raise UserError(
        f'{self.place} holds another run: {"; ".join(changed[:4])}; choose another '
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

  @property
  def known_vocabularies(self) -> Any:
    """Those of a translation run; raises a UserError if they are missing or damaged."""
    if found := self.vocabularies:
      return found
    raise UserError(
      f'{self.place} has no vocabularies.json that can be read; the command that trained it makes '
      'it again'
    )

  # Training: process 0 holds the lock, and writes.

  def lock(self, here: Processes) -> Lock:
    return Lock(self.path, here)

  def uploads(self, here: Processes, options: Checkpoint, limit: float) -> Uploads | None:
    """What copies this run to the store that it is in; None of a run on a disk."""
    return Uploads(self.mirror, here, options, limit) if self.mirror else None

  def goes_on(self, x: Experiment) -> bool:
    """Whether there are checkpoints.

    Raises:
      UserError: they are of another experiment. Its length may be another one, if it is a run
        without phases: `claim` compares the steps.
    """
    found = self._has_checkpoints()
    if found:
      self.check_same(x if x.then else self._of_length(x))
    return found

  def length_before(self, x: Experiment) -> int:
    """The steps of the run here, if it goes on and its recipe has another length now; else 0."""
    if not self._has_checkpoints() or not self.identity:
      return 0
    return self.identity.steps if self.experiment.length != x.length else 0

  def check_room(self, options: Checkpoint, state: int) -> None:
    """Raises a UserError if the copy of a run in a store has no room for its checkpoints.

    Args:
      state: bytes of one.
    """
    if self.mirror:
      most = options.keep_last + options.keep_best + 1  # one more is written before one is removed
      if options.upload_every > 1:
        most += 1 + options.keep_best  # while they are uploaded
      here = sum(sum(self.mirror.files_of(step).values()) for step in self.mirror.steps())
      check_room(self.path, max(0, most * state - here), f'{self.place} with its checkpoints')

  def _has_checkpoints(self) -> bool:
    folder = self.path / 'checkpoints'
    return folder.is_dir() and any(whole(path.name) is not None for path in folder.iterdir())

  def _of_length(self, x: Experiment) -> Experiment:
    """`x` with the length of the run here."""
    return dataclasses.replace(x, **dataclasses.asdict(self.experiment.length))

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
      longer = self.experiment.length != x.length
      identity = self.identity.goes_on_as(identity, self.place, accept_data, longer)
      if longer:  # it has not ended any more
        (self.path / 'summary.json').unlink(missing_ok=True)
    self.write_config(x)
    write_json(self.path / 'identity.json', dataclasses.asdict(identity))
    return identity

  def metrics_writer(self, x: Experiment, resume_step: int) -> MetricsWriter:
    return MetricsWriter(x, self.path, self.metrics, resume_step, self.place)

  def event_log(self, watch: Watchdog) -> EventLog:
    return EventLog(self.path / 'events.jsonl', watch)

  def write_sharding(self, table: str) -> None:
    write_text(self.path / 'sharding.txt', table + '\n')

  def write_data(self, found: Sequence[Mapping[str, Any]]) -> None:
    write_json(self.path / 'data.json', {'found': found})

  def write_predictions(self, name: str, found: Predictions) -> None:
    write_predictions(self.path / 'predictions' / f'{name}.npz', found)

  def write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes predictions/NAME.csv; nothing if there are no rows."""
    if rows:
      write_text(self.path / 'predictions' / f'{name}.csv', as_csv(rows))

  def write_vocabularies(self, vocabularies: Any) -> None:
    write_json(self.path / 'vocabularies.json', vocabularies.to_keys())

  def write_translations(self, name: str, found: Translations) -> None:
    write_translations(self.path / 'translations' / f'{name}.json', found)

  def write_summary(self, summary: Mapping[str, Any]) -> None:
    """The last write of a run: with it, the run has ended."""
    write_json(self.path / 'summary.json', summary)

  def write_evaluation(self, step: int, results: Mapping[str, Any]) -> None:
    path = self.path / f'evaluation-{step}.json'
    write_json(path, results)
    self._upload(path)

  def write_report(self, html: str) -> Place:
    """Returns where it is."""
    path = self.path / 'report.html'
    write_text(path, html)
    self._upload(path)
    return self.within(path)

  @contextmanager
  def figure(self, name: str) -> Iterator[IO[bytes]]:
    """A file to write a PNG to, which becomes figures/NAME.png."""
    path = self.path / 'figures' / f'{name}.png'
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as file:
      yield file
    self._upload(path)

  def _upload(self, path: Path) -> None:
    """Of what is written after training, which uploads what it writes itself."""
    if self.mirror:
      self.mirror.put(str(path.relative_to(self.path)))

  # What it has learned.

  def checkpoints(self, options: Checkpoint | None = None) -> Checkpoints:
    """Those saved here, to read; `options` are the recipe's by default."""
    return Checkpoints(self.path, options or self.experiment.checkpoint)

  def checkpoint_writer(
    self, options: Checkpoint, here: Processes, uploads: Uploads | None = None
  ) -> CheckpointWriter:
    return CheckpointWriter(self.path, options, here, uploads)

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
    return f'{self.place} at step {step}: {line}'
