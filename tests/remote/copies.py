"""Saves of a run in a store, without the training: what processes and hosts do to its copies."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from vit_jax import config
from vit_jax.parallel.processes import Processes
from vit_jax.remote.folder import RemoteFolder
from vit_jax.remote.mirror import Mirror
from vit_jax.run.uploads import Uploads

OPTIONS = config.Checkpoint()
in_memory = pytest.mark.parametrize('address', ['memory'], indirect=True)


class Saved:
  """A save that is on the disk at once."""

  def on_complete(self, call) -> None:
    call(True)


class Together:
  """Some of the processes of a run, as threads."""

  def __init__(self, count: int):
    self.count, self._barrier = count, threading.Barrier(count)
    self._values: dict[str, list] = {}

  def of(self, index: int) -> Processes:
    here = Processes(config.Limits(), index=index, count=self.count)
    numbers = iter(range(1000))

    def gather(value, name='', limit=None):
      name = name or f'gather-{next(numbers)}'
      self._values.setdefault(name, [None] * self.count)[index] = json.loads(json.dumps(value))
      self._barrier.wait(timeout=30)
      return self._values[name]

    here.gather = gather
    here.share = lambda make: gather(make() if index == 0 else None)[0]
    return here


def copying(
  mirror: Mirror, options: config.Checkpoint = OPTIONS, here: Processes | None = None
) -> Uploads:
  return Uploads(mirror, here or Processes(config.Limits()), options, 10)


def save(mirror: Mirror, step: int, **files: str) -> None:
  folder = mirror.folder / 'checkpoints' / str(step)
  for name, text in ({'_CHECKPOINT_METADATA': 'm'} | files).items():
    path = folder / name.replace('__', '/')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def drop(mirror: Mirror, step: int) -> None:
  shutil.rmtree(mirror.folder / 'checkpoints' / str(step))


def stored(address: str) -> dict:
  return RemoteFolder(address).read_object('index.json')


def upload(copies: Uploads, step: int) -> None:
  copies.begin(step)
  copies.save(step, (), Saved())
  copies.settle()


def another_host(cache: Path) -> None:
  """An empty disk."""
  shutil.rmtree(cache)
