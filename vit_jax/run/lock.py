"""The lock of a run folder, so that one run trains in it.

The process that trains (process 0 of several) creates `RUN/lock.json`, writes who it is into it,
and touches it every few seconds. Only a process that was killed leaves it behind. An owner on this
host is gone if no process has its number and start time; one elsewhere, if it stops touching the
file. Exclusive creation of a file works on network disks, where flock often does not, and in
stores, where it is a conditional write, and touching is writing again.
"""

import contextlib
import json
import logging
import os
import socket
import tempfile
import threading
import time
import uuid
import zlib
from pathlib import Path
from typing import Any, Protocol, Self

from vit_jax.errors import RunFault, UserError, print_error
from vit_jax.parallel.processes import Processes
from vit_jax.remote.folder import RemoteFolder
from vit_jax.remote.mirror import Mirror
from vit_jax.run.files import read_object, write_json

POLL = 0.1  # seconds
BEAT = 10.0  # seconds from one touch to the next
SILENT = 120.0  # seconds without a touch, after which an owner elsewhere counts as gone

NAME = 'lock.json'

log = logging.getLogger(__name__)


class Folder(Protocol):
  """Where locks are: a folder on a disk, or in a store."""

  # Whether this call, and no other, has created the file.
  def create(self, name: str, data: bytes) -> bool: ...

  # The JSON object in a file; {} if there is none or it is being written.
  def read_object(self, name: str) -> dict[str, Any]: ...

  def replace(self, name: str, value: dict[str, Any]) -> None: ...

  # Makes a file, which holds `value`, a new one by `modified`.
  def touch(self, name: str, value: dict[str, Any]) -> None: ...

  # When a file was written, in seconds; raises a FileNotFoundError if there is none.
  def modified(self, name: str) -> float: ...

  # The time now by the same clock, which may differ from this host's.
  def clock(self) -> float: ...

  def remove(self, name: str) -> None: ...

  # Seconds from one look to the next.
  @property
  def poll(self) -> float: ...


class Lock:
  """Held until the end of `with` or of the process. All processes of a run enter it.

  Of a local copy of a run folder, the lock is in the store.
  """

  def __init__(self, folder: Path, here: Processes):
    mirror = Mirror.of(folder)
    self._folder: Folder = StoreFolder(mirror.there) if mirror else DiskFolder(folder)
    self._place, self._here = mirror.address if mirror else folder, here
    self._mine: dict[str, Any] = {}
    self._over = threading.Event()

  def __enter__(self) -> Self:
    """Raises a UserError if another process trains in the folder."""
    self._here.share(self._take)
    return self

  def __exit__(self, kind: type | None, *error: Any) -> None:
    """Raises a RunFault if the folder was lost meanwhile, unless an error ended the run."""
    try:
      if kind is None:
        self.check()
    finally:
      self._release()

  def check(self) -> None:
    """Raises a RunFault if the folder is not this run's any more; only its owner knows."""
    if self._mine and (lost := self._lost()):
      raise RunFault(lost)

  def _take(self) -> None:
    since = time.strftime('%Y-%m-%d %H:%M:%S %Z')
    mine = {**_this_process(), 'since': since, 'id': uuid.uuid4().hex}
    while self._owner() != mine:
      if not self._folder.create(NAME, _as_json(mine)):
        with contextlib.suppress(FileNotFoundError):  # it has been released meanwhile
          self._take_over(mine)
    self._mine = mine
    self._here.at_exit.append(lambda code: self._release())
    threading.Thread(target=self._beat, name='lock', daemon=True).start()

  def _take_over(self, mine: dict[str, Any]) -> None:
    """Replaces the lock of an owner that is gone; raises a UserError if it is not."""
    owner = self._owner()
    if self._lives(owner):
      raise UserError(
        f'{self._place} is being trained by {_words(owner)} since {owner.get("since", "?")}; wait '
        'until that ends, stop it, or choose another --workdir'
      )
    # Of several processes that get here, one at a time proceeds, and looks again.
    turn = f'lock.{zlib.crc32(json.dumps(owner).encode()):08x}'
    if not self._folder.create(turn, _as_json(mine)):
      time.sleep(POLL)
      if self._folder.clock() - self._folder.modified(turn) > BEAT:  # it was killed
        self._folder.remove(turn)
      return
    try:
      if self._owner() == owner:
        self._folder.replace(NAME, mine)
        log.warning('%s: took over the lock of %s, which is gone', self._place, _words(owner))
    finally:
      self._folder.remove(turn)

  def _lives(self, owner: dict[str, Any]) -> bool:
    """Whether the owner runs; on another host, waits for a touch."""
    this = _this_process()
    if all(owner.get(name) == this[name] for name in ('host', 'boot', 'namespace')):
      return _started(owner['pid']) in (0, owner['started'])
    touched, now = self._folder.modified(NAME), self._folder.clock()
    if owner and now - touched < SILENT:
      log.warning('%s: waiting for a sign of life of %s', self._place, _words(owner))
    end = time.monotonic() + SILENT - max(now - touched, 0.0)  # the clock may have been set back
    while time.monotonic() < end:
      time.sleep(self._folder.poll)
      if self._owner() != owner:
        return False  # the lock is another's now, which the caller looks at next
      if self._folder.modified(NAME) != touched:
        return True
    return False

  def _owner(self) -> dict[str, Any]:
    """What the lock says; {} if there is none or it is being written."""
    owner = self._folder.read_object(NAME)
    return owner if _this_process().keys() <= owner.keys() else {}

  def _beat(self) -> None:
    while not self._over.wait(BEAT):
      with contextlib.suppress(OSError, RunFault, UserError):  # the next beat may succeed
        if lost := not self._over.is_set() and self._lost():
          print_error(lost)
          self._here.leave(1)
        if not self._over.is_set():
          self._folder.touch(NAME, self._mine)

  def _lost(self) -> str:
    """Why the folder is not this run's any more; '' if it is, or the disk does not say now."""
    owner = self._owner()
    if owner == self._mine:
      return ''
    if owner:
      return f'{self._place} was taken over by {_words(owner)}: this process was silent'
    try:
      self._folder.modified(NAME)
    except (FileNotFoundError, NotADirectoryError):
      return (
        f'{self._place} was removed or replaced while this run trained in it, and what it wrote '
        'there since is lost; the same command begins or goes on from what is there'
      )
    except (OSError, RunFault, UserError):
      pass
    return ''

  def _release(self) -> None:
    self._over.set()
    with contextlib.suppress(OSError, RunFault, UserError):
      if self._mine and self._owner() == self._mine:
        self._folder.remove(NAME)


class DiskFolder:
  """A `Folder` on a disk, which may be of the network."""

  poll = POLL

  def __init__(self, path: Path):
    self._path = path

  def create(self, name: str, data: bytes) -> bool:
    self._path.mkdir(parents=True, exist_ok=True)
    try:
      descriptor = os.open(self._path / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
      return False
    with open(descriptor, 'wb') as file:
      file.write(data)
    return True

  def read_object(self, name: str) -> dict[str, Any]:
    return read_object(self._path / name, [])

  def replace(self, name: str, value: dict[str, Any]) -> None:
    write_json(self._path / name, value)

  def touch(self, name: str, value: dict[str, Any]) -> None:
    os.utime(self._path / name)

  def modified(self, name: str) -> float:
    return (self._path / name).stat().st_mtime

  def clock(self) -> float:
    with tempfile.NamedTemporaryFile(prefix='lock.', dir=self._path) as probe:
      return os.fstat(probe.fileno()).st_mtime

  def remove(self, name: str) -> None:
    (self._path / name).unlink()


class StoreFolder:
  """A `Folder` in a store."""

  poll = 1.0

  def __init__(self, there: RemoteFolder):
    self._there = there

  def create(self, name: str, data: bytes) -> bool:
    return self._there.create(name, data)

  def read_object(self, name: str) -> dict[str, Any]:
    return self._there.read_object(name, tries=2)  # a run that ends must not wait for long

  def replace(self, name: str, value: dict[str, Any]) -> None:
    self._there.write(name, _as_json(value))

  def touch(self, name: str, value: dict[str, Any]) -> None:
    self._there.write(name, _as_json(value), tries=1)

  def modified(self, name: str) -> float:
    return self._there.modified(name)

  def clock(self) -> float:
    name = f'lock.{uuid.uuid4().hex}'
    self._there.write(name, b'')
    try:
      return self._there.modified(name)
    finally:
      self._there.remove([name])

  def remove(self, name: str) -> None:
    self._there.remove([name], tries=1)


def _as_json(value: dict[str, Any]) -> bytes:
  return json.dumps(value).encode() + b'\n'


def _words(owner: dict[str, Any]) -> str:
  return f'process {owner.get("pid", "?")} on host {owner.get("host", "?")}'


def _this_process() -> dict[str, Any]:
  """`boot` and `namespace` distinguish hosts of one name, and containers on one host."""
  boot = namespace = ''
  with contextlib.suppress(OSError):
    boot = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    namespace = os.readlink('/proc/self/ns/pid')
  pid = os.getpid()
  place = {'host': socket.gethostname(), 'boot': boot, 'namespace': namespace}
  return {**place, 'pid': pid, 'started': _started(pid)}


def _started(pid: int) -> int:
  """When a process started, in ticks since boot, as numbers are reused.

  -1: there is none; 0: there is one, but this system does not say when it started.
  """
  with contextlib.suppress(OSError):
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return -1 if fields[0] in 'ZX' else int(fields[19])
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return -1
  except PermissionError:
    pass
  return 0
