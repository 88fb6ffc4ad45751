"""Files that are read whole: regular ones. A pipe or a device may keep a reader waiting."""

import contextlib
import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

SPECIAL = 'a pipe, socket or device'


def opened(path: str | os.PathLike[str]) -> BufferedReader:
  """Opens a regular file to read; raises an OSError (ENXIO) for what is none."""
  file = open(path, 'rb', opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
  if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
    return file
  file.close()
  raise OSError(errno.ENXIO, f'it is {SPECIAL}', os.fspath(path))


def content(path: str | os.PathLike[str]) -> bytes:
  """The bytes of a regular file; raises as `opened`."""
  with opened(path) as file:
    return file.read()


def is_special(mode: int) -> bool:
  """Whether `st_mode` is of neither a file nor a folder."""
  return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def first_special(folder: Path) -> Path | None:
  """A pipe, socket or device at any depth of a folder, for libraries that open what they find."""
  places = [os.fspath(folder)]
  while places:
    with contextlib.suppress(OSError), os.scandir(places.pop()) as entries:  # it may go meanwhile
      for entry in entries:
        if entry.is_dir(follow_symlinks=False):
          places.append(entry.path)
        elif not entry.is_file(follow_symlinks=False):
          with contextlib.suppress(OSError):  # a broken link, which whoever reads it reports
            if is_special(os.stat(entry.path).st_mode):
              return Path(entry.path)
  return None
