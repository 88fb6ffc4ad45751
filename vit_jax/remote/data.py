"""Prepared data sets at an address: each host copies the shards it needs once, and reads them here.

`--data_dir=gs://bucket/data` is a folder of the cache that knows its address. What describes a data
set is copied when it is looked for, and all files of a split when its first example is read:
training reads any other at any time.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from vit_jax.errors import writing
from vit_jax.paths import cache_dir, place
from vit_jax.remote.fetch import fetch_to
from vit_jax.remote.folder import RemoteFolder
from vit_jax.remote.transfers import at_once, check_room
from vit_jax.writes import write

NOTE = '.store.json'
_VERSION = re.compile(r'\d+\.\d+\.\d+')
_SHARD = re.compile(r'-(?P<split>[^-]+)\.(array_record|tfrecord)\b')
_log = logging.getLogger(__name__)


def data_folder(text: str | os.PathLike[str]) -> Path:
  """A folder of prepared data sets: a path as it is, or of an address the one that copies go to.

  Raises:
    UserError: as `place` does, or the cache cannot be written.
  """
  where = place(text)
  if isinstance(where, Path):
    return where
  folder = cache_dir().absolute() / 'data' / hashlib.sha256(where.encode()).hexdigest()[:12]
  with writing(folder):
    folder.mkdir(parents=True, exist_ok=True)
  if not (folder / NOTE).exists():
    write(folder / NOTE, json.dumps({'address': where}))
  return folder


def fetch_description(data_dir: Path, name: str) -> None:
  """Copies what describes NAME[/CONFIG][:VERSION], by default of its newest version.

  Nothing if `data_dir` has no address, or there is no such data set at it.
  """
  address = address_of(data_dir)
  if not address:
    return
  base, _, wanted = name.partition(':')
  there = RemoteFolder(f'{address}/{base}')
  versions = [each for each in there.names() if _VERSION.fullmatch(each)]
  newest = max(versions, key=lambda each: tuple(map(int, each.split('.'))), default='')
  version = wanted or newest
  if version in versions:
    _fetch(data_dir / base / version, lambda file: not _SHARD.search(file))


def fetch_splits(directory: Path, splits: Iterable[str]) -> None:
  """Copies the files of splits of the data set in `directory`; nothing if it has no address.

  Raises:
    UserError: the cache has no room for them.
    StoreFault: the store does not answer.
  """
  names = {*splits}

  def is_needed(file: str) -> bool:
    found = _SHARD.search(file)
    return bool(found) and found['split'] in names

  _fetch(directory, is_needed, f'{directory.parent.name}, {" and ".join(sorted(names))}')


def address_of(folder: Path) -> str:
  """Of the folder that copies of an address go to; '' of any other."""
  try:
    return json.loads((folder / NOTE).read_bytes())['address']
  except (OSError, ValueError, KeyError):
    return ''


def _fetch(directory: Path, is_needed: Callable[[str], bool], what: str = '') -> None:
  """Copies the files of a folder below one with an address; says so if they are of a `what`."""
  root = next((each for each in directory.parents if (each / NOTE).exists()), None)
  if root is None:
    return
  address = f'{address_of(root)}/{directory.relative_to(root).as_posix()}'
  sizes = {name: size for name, size in RemoteFolder(address).sizes().items() if is_needed(name)}
  if all(_is_here(directory / name, size) for name, size in sizes.items()):
    return
  locks = directory / '.locks'
  with writing(locks):
    locks.mkdir(parents=True, exist_ok=True)
  # One process or thread at a time, so that none replaces a file that another has begun to read.
  with FileLock(locks / 'all.lock'):
    missing = {name: size for name, size in sizes.items() if not _is_here(directory / name, size)}
    size, free = sum(missing.values()), shutil.disk_usage(root).free
    if what and missing:
      _log.info(
        'data: fetching %d of %d files of %s from %s, %.2f GB; %s has %.1f GB left',
        len(missing), len(sizes), what, address, size / 1e9, root, free / 1e9,
      )  # fmt: skip
    check_room(root, size, address)
    with tqdm(total=size, unit='B', unit_scale=True, disable=None if what else True) as bar:

      def get(name: str) -> None:
        fetch_to(f'{address}/{name}', directory / name)
        bar.update(missing[name])

      at_once(get, [(name,) for name in missing])


def _is_here(path: Path, size: int) -> bool:
  """Whether a file was copied whole; its checksum was compared then."""
  return path.is_file() and path.stat().st_size == size
