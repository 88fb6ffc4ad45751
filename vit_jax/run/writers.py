"""Where metrics go: `metrics.jsonl` always, TensorBoard and Weights & Biases when asked."""

import importlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from vit_jax.config import Experiment
from vit_jax.errors import UserError
from vit_jax.paths import Place
from vit_jax.run.files import NUMBERS, read_lines, write_text


def read_metrics(path: Path, faults: list[str]) -> list[dict[str, float]]:
  """The rows of a metrics.jsonl, in the order of the file."""
  return read_lines(path, _is_row, faults)


def _is_row(row: dict[str, Any]) -> bool:
  return 'step' in row and NUMBERS.issuperset(map(type, row.values()))


class MetricsWriter:
  """Writes to all of them; metrics.jsonl is on disk before `write` returns.

  Keeps the stored `rows` up to `resume_step`: later ones are of work that was lost. `place` is the
  run folder as the user calls it, if `folder` is a copy of it.
  """

  def __init__(
    self,
    x: Experiment,
    folder: Path,
    rows: list[dict[str, float]],
    resume_step: int,
    place: Place | None = None,
  ):
    self._tensorboard = _tensorboard(folder, resume_step) if x.log.tensorboard else None
    self._wandb = _wandb(x, folder, place or folder) if x.log.wandb else None
    path, kept = folder / 'metrics.jsonl', [row for row in rows if row['step'] <= resume_step]
    write_text(path, ''.join(json.dumps(row) + '\n' for row in kept))
    self._file = open(path, 'a')

  def write(self, step: int, row: Mapping[str, float]) -> None:
    self._file.write(json.dumps({'step': step, **row}) + '\n')
    self._file.flush()
    os.fsync(self._file.fileno())
    if self._tensorboard:
      for name, value in row.items():
        self._tensorboard.add_scalar(name, value, step)
    if self._wandb:
      self._wandb.log(dict(row), step=step)

  def close(self) -> None:
    self._file.close()
    if self._tensorboard:
      self._tensorboard.close()
    if self._wandb:
      self._wandb.finish()


def _tensorboard(folder: Path, resume_step: int) -> Any:
  package = _imported('tensorboardX', 'tensorboard')
  return package.SummaryWriter(str(folder / 'tensorboard'), purge_step=resume_step + 1)


def _wandb(x: Experiment, folder: Path, place: Place) -> Any:
  return _imported('wandb', 'wandb').init(
    project='vit_jax',
    name=x.name,
    config=json.loads(x.to_json()),
    dir=str(folder),
    id=wandb_id(place),
    resume='allow',
  )


def wandb_id(place: Place) -> str:
  """Stable for a run folder, and unlike that of a folder of the same name elsewhere."""
  path = place.resolve() if isinstance(place, Path) else PurePosixPath(place)
  return f'{path.name}-{zlib.crc32(str(path).encode()):08x}'


def _imported(package: str, key: str) -> Any:
  try:
    return importlib.import_module(package)
  except ImportError:
    raise UserError(
      f"config.log.{key} needs the package {package}: pip install 'vit-jax[log]'"
    ) from None
