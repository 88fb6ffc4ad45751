"""Where metrics go: `metrics.jsonl` always, TensorBoard and Weights & Biases when asked."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from vit_jax.config import Experiment
from vit_jax.errors import UserError


class Writer(Protocol):
  """One method to write a row of flat names, one to finish."""

  def write(self, step: int, row: Mapping[str, float]) -> None: ...

  def close(self) -> None: ...


class JsonlWriter:
  """One JSON object a line, flushed to the disk before `write` returns."""

  def __init__(self, path: Path, resume_step: int):
    """Keeps the rows up to `resume_step`; later ones belong to work that was lost."""
    kept = [json.dumps(row) + '\n' for row in read_rows(path) if row['step'] <= resume_step]
    write_atomically(path, ''.join(kept))
    self._file = open(path, 'a')

  def write(self, step: int, row: Mapping[str, float]) -> None:
    self._file.write(json.dumps({'step': step, **row}) + '\n')
    self._file.flush()
    os.fsync(self._file.fileno())

  def close(self) -> None:
    self._file.close()


class TensorBoardWriter:
  def __init__(self, workdir: Path, resume_step: int):
    try:
      from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
    except ImportError:
      raise UserError(
        "config.log.tensorboard needs the package tensorboardX: pip install 'vit-jax[log]'"
      ) from None
    self._writer = SummaryWriter(str(workdir / 'tensorboard'), purge_step=resume_step + 1)

  def write(self, step: int, row: Mapping[str, float]) -> None:
    for name, value in row.items():
      self._writer.add_scalar(name, value, step)

  def close(self) -> None:
    self._writer.close()


class WandbWriter:
  def __init__(self, workdir: Path, name: str, config: Mapping[str, Any]):
    try:
      import wandb  # pyright: ignore[reportMissingImports]
    except ImportError:
      raise UserError(
        "config.log.wandb needs the package wandb: pip install 'vit-jax[log]'"
      ) from None
    self._run = wandb.init(
      project='vit_jax',
      name=name,
      config=dict(config),
      dir=str(workdir),
      id=run_id(workdir),
      resume='allow',
    )

  def write(self, step: int, row: Mapping[str, float]) -> None:
    self._run.log(dict(row), step=step)

  def close(self) -> None:
    self._run.finish()


def run_id(workdir: Path) -> str:
  """The same for the same folder, and another for a folder of the same name elsewhere."""
  path = workdir.resolve()
  return f'{path.name}-{zlib.crc32(str(path).encode()):08x}'


def open_writers(x: Experiment, workdir: Path, resume_step: int) -> list[Writer]:
  """The writers that the experiment asks for, `metrics.jsonl` first."""
  opened: list[Writer] = [JsonlWriter(workdir / 'metrics.jsonl', resume_step)]
  if x.log.tensorboard:
    opened.append(TensorBoardWriter(workdir, resume_step))
  if x.log.wandb:
    opened.append(WandbWriter(workdir, x.name, json.loads(x.to_json())))
  return opened


def read_rows(path: Path) -> list[dict[str, float]]:
  """The rows of a metrics.jsonl, without a last line that a crash cut short."""
  if not path.exists():
    return []
  rows = []
  for line in path.read_text().splitlines(keepends=True):
    if line.endswith('\n'):
      rows.append(json.loads(line))
  return rows


def write_atomically(path: Path, text: str) -> None:
  """Writes a file that is either the old one or the new one, whole."""
  fresh = path.with_suffix(path.suffix + '.tmp')
  fresh.write_text(text)
  os.replace(fresh, path)
