"""Run folders by path or address: the folder of this disk in which each is read or written."""

import os
from pathlib import Path

from vit_jax.paths import Place, place
from vit_jax.remote.folder import RemoteFolder
from vit_jax.remote.mirror import INDEX, Mirror


def run_folder(text: str | os.PathLike[str]) -> Path:
  """The folder to read a run from: a path as it is, or the local copy of an address, up to date.

  Raises:
    UserError: as `place` and `RemoteFolder` do.
    StoreFault: the store does not answer.
  """
  where = place(text)
  if isinstance(where, Path):
    return where
  mirror = Mirror.at(where)
  with mirror.alone():
    mirror.pull()
  return mirror.folder


def find_run(address: str) -> Path | None:
  """As `run_folder`; None if there is no run at an address."""
  return run_folder(address) if RemoteFolder(address).read_object(INDEX) else None


def training_folder(where: Place, process: int) -> Path:
  """The folder in which a process trains a run; of an address a copy of its own, as it was left."""
  return where if isinstance(where, Path) else Mirror.at(where, process).folder
