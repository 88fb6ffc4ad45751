"""The local copy of a run folder at an address: what a host reads and writes in place of it.

A run at gs://bucket/run is written to this disk as any other, and copied to the store from here.
The store has

    index.json                     which files and checkpoints the run has; replaced as a whole
    checkpoints/STEP-TOKEN/        the files of one save; manifest.json has their checksums
    lock.json, config.json, ...    as in a local run folder (`run/folder.py`)

A save is uploaded under a new name, and only index.json, which is written last, makes it the
checkpoint of its step. So whatever ends an upload, a checkpoint is there until its successor is;
and a reader needs no listing, which may lag: it reads index.json.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Self

from filelock import FileLock

from vit_jax.errors import RunFault, first_line, writing
from vit_jax.fields import whole
from vit_jax.paths import cache_dir
from vit_jax.redaction import redacted
from vit_jax.remote.folder import RemoteFolder
from vit_jax.remote.note import Note
from vit_jax.remote.transfers import Entry, at_once, check_room, entry

INDEX, MANIFEST = 'index.json', 'manifest.json'
CHECKPOINTS = 'checkpoints'
# What is not copied: checkpoints go their own way, and the others are of this host alone.
LEFT_OUT = (CHECKPOINTS, 'replaced', 'damaged', 'wandb')
# Files of a checkpoint that hold arrays; all others are small, and read when steps are listed.
_ARRAYS = re.compile(r'(^|/)(d/[0-9a-f]+|c(/\d+)*|\d+(\.\d+)*)$')
_log = logging.getLogger(__name__)


class Mirror:
  """The local copy of a run folder.

  Attributes:
    address: of the run folder in the store.
    folder: the copy.
    note: what is known of the copy.
  """

  def __init__(self, address: str, folder: Path):
    self.address, self.folder = address, folder.absolute()
    self.note = Note(self.folder.parent)

  @classmethod
  def at(cls, address: str, process: int | None = None) -> Self:
    """The copy of an address to read, or with `process` that in which a process trains."""
    mark = hashlib.sha256(address.encode()).hexdigest()[:12]
    name = re.sub(r'[^\w.+=,-]', '_', redacted(address).rpartition('/')[2]) or 'run'
    home = cache_dir() / 'runs' / (mark if process is None else f'{mark}-{process}')
    mirror = cls(address, home / name)
    with writing(home):
      mirror.folder.mkdir(parents=True, exist_ok=True)
      mirror.note.begin(address)
    return mirror

  @classmethod
  def of(cls, folder: Path) -> Self | None:
    """The mirror whose copy a folder is; None of any other folder."""
    address = Note(folder.absolute().parent).address
    return cls(address, folder) if address else None

  @cached_property
  def there(self) -> RemoteFolder:
    """The run folder in the store."""
    return RemoteFolder(self.address)

  def alone(self) -> FileLock:
    """Held while one process of this host brings a copy up to date that others read too."""
    return FileLock(self.folder.parent / 'lock')

  def index(self) -> dict[str, Any]:
    """{'id': of the start that wrote last, 'files': name -> Entry, 'checkpoints': step -> name}.

    Without a run there, all are empty.

    Raises:
      RunFault: it is damaged. Nothing here may be taken for old then.
    """
    data = self.there.read(INDEX)
    try:
      found = {'id': '', 'files': {}, CHECKPOINTS: {}, **json.loads(data or b'{}')}
      names = [*found['files'], *found[CHECKPOINTS], *found[CHECKPOINTS].values()]
    except (AttributeError, ValueError, TypeError):
      raise RunFault(
        f'{self.address}/{INDEX} is damaged: it does not hold what the run has; put a copy there'
      ) from None
    self._check_names(names, INDEX)
    return found

  def _check_names(self, names: Iterable[str], source: str) -> None:
    """Raises a RunFault for a name from the store that leaves the folder of the run."""
    for name in names:
      path = PurePosixPath(str(name))
      if not path.parts or path.is_absolute() or '..' in path.parts:
        raise RunFault(f'{self.address}/{source} names {name!r}, which is no file of a run')

  def write_index(self, index: Mapping[str, Any]) -> None:
    self.there.write(INDEX, json.dumps(index).encode())

  # From the store.

  def pull(self) -> None:
    """Makes the copy what the store has; arrays of checkpoints are fetched when they are read.

    Raises:
      UserError: this disk has no room for it.
    """
    index = self.index()
    self.pull_files(index['files'])
    self.pull_checkpoints(index[CHECKPOINTS])

  def pull_files(self, files: Mapping[str, Entry]) -> None:
    """Fetches the files that differ, and removes those that the run does not have."""
    here = self.files()
    for name in here.keys() - files.keys():
      (self.folder / name).unlink(missing_ok=True)
    # What was judged elsewhere is in no index.
    judged = [
      name for name in self.there.names() if name.startswith('evaluation-') and name not in files
    ]
    stale = [name for name in files if name not in here or entry(self.folder / name) != files[name]]
    self._get([(name, self.folder / name, None) for name in [*stale, *judged]])

  def pull_checkpoints(self, there: Mapping[str, str], keep: Iterable[int] = ()) -> None:
    """Makes the checkpoints here those of the store: of each what a list of them needs.

    Args:
      there: step -> name.
      keep: steps that stay as they are here.

    Raises:
      RunFault: none that is there can be read. Of one that is damaged a line says so.
    """
    known = self.note.uploaded()
    for step in self.steps():
      if step not in keep and not same(known.get(step), there.get(str(step))):
        shutil.rmtree(self.folder / CHECKPOINTS / str(step))
    for step in known.keys() - set(map(int, there)):
      self.note.set_uploaded(step, None)
    for step, name in there.items():
      if int(step) in keep:
        continue
      try:
        if known.get(int(step)) != name:
          self.note.set_uploaded(int(step), name, self._manifest(name))
        self.complete(int(step), arrays=False)
      except (FileNotFoundError, ValueError) as error:
        where = f'{self.address}/{CHECKPOINTS}/{name}'
        _log.warning('%s is damaged (%s), and passed over', where, first_line(error))
        shutil.rmtree(self.folder / CHECKPOINTS / step, ignore_errors=True)
        self.note.set_uploaded(int(step), None)
    if there and not self.steps():
      raise RunFault(
        f'no checkpoint in {self.address}/{CHECKPOINTS} is good; put a copy of one there, or '
        f'remove {self.address} to start again'
      )

  def _manifest(self, name: str) -> dict[str, Entry]:
    """The files of a save; raises a ValueError if what says so is damaged."""
    path = f'{CHECKPOINTS}/{name}/{MANIFEST}'
    try:
      files = json.loads(self.there.read(path) or b'')
      sound = bool(files) and all(_is_entry(each) for each in files.values())
    except (AttributeError, ValueError):
      sound = False
    if not sound:
      raise ValueError(f'{MANIFEST} does not say which files it has')
    self._check_names(files, path)
    return files

  def complete(self, step: int, arrays: bool = True) -> None:
    """Fetches what is missing here of a checkpoint.

    Raises:
      FileNotFoundError, ValueError: the store does not have it, or something else.
    """
    name = self.note.uploaded().get(step)
    if name is None:
      return
    files = self.note.files_of(name)
    target = self.folder / CHECKPOINTS / str(step)
    missing = [
      file
      for file, (size, _) in files.items()
      if (arrays or not _ARRAYS.search(file)) and _size(target / file) != size
    ]
    self._get(
      [(f'{CHECKPOINTS}/{name}/{file}', target / file, files[file]) for file in missing],
      f'step {step}' if arrays else '',
    )

  def _get(self, wanted: list[tuple[str, Path, Entry | None]], what: str = '') -> None:
    """Downloads (name, path, entry to compare with); of a `what` a line says so."""
    size = sum(found[0] for _, _, found in wanted if found)
    check_room(self.folder.parent, size, self.address)
    if what and wanted:
      _log.info('fetching %s of %s, %s bytes', what, self.address, f'{size:,}')

    def fetch(name: str, path: Path, wanted: Entry | None) -> None:
      try:
        self.there.get(name, path)
      except FileNotFoundError:
        if wanted is None:
          return  # it was removed meanwhile
        raise
      if wanted is not None and entry(path) != wanted:
        path.unlink()
        raise ValueError(f'{name} in the store is not what was uploaded')

    at_once(fetch, wanted)

  # To the store.

  def files(self) -> dict[str, tuple[int, int]]:
    """Size and time of modification, in ns, of each file of the run here but for checkpoints."""
    return {
      os.path.relpath(path, self.folder): (stat.st_size, stat.st_mtime_ns)
      for path in _walk(self.folder)
      if (stat := _stat(path))
    }

  def steps(self) -> list[int]:
    """The steps of finished checkpoints here."""
    folder = self.folder / CHECKPOINTS
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(step for name in names if (step := whole(name)) is not None)

  def files_of(self, step: int) -> dict[str, int]:
    """Size of each file of a checkpoint here."""
    folder = self.folder / CHECKPOINTS / str(step)
    paths = (Path(top) / name for top, _, names in os.walk(folder) for name in names)
    return {os.path.relpath(path, folder): path.stat().st_size for path in paths}

  def put(self, name: str) -> Entry | None:
    """Uploads a file of the run; of one that grows, whole lines. None if it is gone by now."""
    path = self.folder / name
    try:
      if path.suffix == '.jsonl':
        data = path.read_bytes()
        data = data[: data.rfind(b'\n') + 1]
        self.there.write(name, data)
        return [len(data), hashlib.sha256(data).hexdigest()]
      found = entry(path)
      self.there.put(path, name)
      return found
    except FileNotFoundError:
      return None

  def put_checkpoint(self, step: int, name: str, files: Iterable[str]) -> dict[str, Entry]:
    """Uploads files of a checkpoint under the name of its save."""
    folder, sent = self.folder / CHECKPOINTS / str(step), {}

    def send(file: str) -> None:
      sent[file] = entry(folder / file)
      self.there.put(folder / file, f'{CHECKPOINTS}/{name}/{file}')

    at_once(send, [(file,) for file in files])
    return sent

  def put_manifest(self, name: str, files: Mapping[str, Entry]) -> None:
    self.there.write(f'{CHECKPOINTS}/{name}/{MANIFEST}', json.dumps(files).encode())

  def remove_saves(self, kept: Iterable[str]) -> None:
    """Removes all saves in the store but these: replaced ones, and those cut short."""
    for name in set(self.there.names(CHECKPOINTS)) - {*kept}:
      self.there.remove_folder(f'{CHECKPOINTS}/{name}')


def same(here: str | None, there: str | None) -> bool:
  """Whether a checkpoint here is the one in the store, by the names of their saves."""
  return here is not None and here == there


def _is_entry(value: Any) -> bool:
  return isinstance(value, list) and [type(part) for part in value] == [int, str] and value[0] >= 0


def _walk(folder: Path) -> Iterator[Path]:
  for top, folders, names in os.walk(folder):
    if Path(top) == folder:
      folders[:] = [name for name in folders if name not in LEFT_OUT]
    yield from (Path(top) / name for name in names if not name.startswith(('.', 'lock')))


def _stat(path: Path) -> os.stat_result | None:
  try:
    return path.stat()
  except FileNotFoundError:  # it was replaced or removed meanwhile
    return None


def _size(path: Path) -> int | None:
  stat = _stat(path)
  return None if stat is None else stat.st_size
