"""Errors that are reported in one sentence, and their exit codes."""

import difflib
import errno
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from vit_jax.redaction import one_line

# Exit codes: saved, run the same command again; a fault in the user's input.
PREEMPTED, USERS_FAULT = 75, 2


class UserError(Exception):
  """A fault in the user's input, in one sentence: what, where, what would be right.

  The command line prints it without a traceback and exits with 2.
  """


class RunFault(Exception):
  """A fault in the run, not of the user, in one sentence; the exit code is 1."""


def print_error(sentence: object) -> None:
  """One line, whatever the names in it are; secrets of addresses are not shown."""
  text = f'vit_jax: {one_line(sentence)}\n'
  encoding = getattr(sys.stderr, 'encoding', None) or 'utf-8'
  sys.stderr.write(text.encode(encoding, 'backslashreplace').decode(encoding))
  sys.stderr.flush()


def first_line(error: BaseException) -> str:
  return str(error).partition('\n')[0]


def verdict(error: BaseException) -> tuple[int, str | None]:
  """(exit code, the sentence to print) for an error that ends a command; None: a traceback."""
  if isinstance(error, UserError):
    return USERS_FAULT, str(error)
  if isinstance(error, RunFault):
    return 1, str(error)
  if sentence := _platform_sentence(error):
    return USERS_FAULT, sentence
  if sentence := storage_sentence(error, 'the run folder or the data folder'):
    return USERS_FAULT, sentence
  return 1, _memory_sentence(error)


def _chain(error: BaseException) -> Iterator[BaseException]:
  """An error, and what caused it."""
  seen: BaseException | None = error
  while seen is not None:
    yield seen
    seen = seen.__cause__ or seen.__context__


def _platform_sentence(error: BaseException) -> str | None:
  """A sentence if JAX could not start its devices, which it says by errors of several kinds."""
  trace = error.__traceback__
  while trace is not None and trace.tb_next is not None:
    trace = trace.tb_next
  if trace is None or trace.tb_frame.f_globals.get('__name__') != 'jax._src.xla_bridge':
    again = _asked_again(error)
    if again is None:
      return None
    error = again
  asked, why = os.environ.get('JAX_PLATFORMS', ''), first_line(error)
  what = f'JAX finds no device for JAX_PLATFORMS={asked}' if asked else 'JAX finds no device'
  return f'{what}{": " * bool(why)}{why}; unset JAX_PLATFORMS, or install jax for that platform'


def _asked_again(error: BaseException) -> BaseException | None:
  """What JAX says of its devices, where it removed its own frames from the trace of the error."""
  bridge: Any = sys.modules.get('jax._src.xla_bridge')
  removed = any('JAX has removed' in note for note in getattr(error, '__notes__', ()))
  if removed and str(error).startswith('Unable to initialize backend'):  # of several, one did
    return error
  if not removed or bridge is None or bridge.backends_are_initialized():
    return None
  try:
    bridge.get_backend()
  except Exception as again:  # of several kinds
    return again
  return None


def _memory_sentence(error: BaseException) -> str | None:
  """A sentence if there was not enough memory, of the host or of a device."""
  for seen in _chain(error):
    if isinstance(seen, MemoryError) or str(seen).startswith('RESOURCE_EXHAUSTED'):
      why = first_line(seen)
      return (
        f'there is not enough memory{f" ({why})" * bool(why)}; make the batch, the images or the '
        'model smaller'
      )
  return None


@contextmanager
def writing(path: object) -> Iterator[None]:
  """Around writing a file that the user named: raises a UserError if that fails."""
  try:
    yield
  except OSError as error:
    raise UserError(
      f'{path} cannot be written ({error.strerror}); make room, or choose another'
    ) from None


def nearest(word: str, known: Iterable[str]) -> str:
  """A hint: "did you mean 'x'?" with the nearest known words, or the list of all."""
  known = sorted(known)
  close = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
  if close:
    return 'did you mean ' + ' or '.join(repr(name) for name in close) + '?'
  return 'known: ' + ', '.join(known)


def first_few(faults: Sequence[str]) -> str:
  """Up to five faults in one line, and how many more there are."""
  more = f' and {len(faults) - 5} more' if len(faults) > 5 else ''
  return '; '.join(faults[:5]) + more


def storage_sentence(error: BaseException, where: object) -> str | None:
  """A sentence if a full or read-only disk is the cause of `error`, else None.

  Checkpoint writers wrap the system's error, sometimes as text only, so the whole chain is read.
  """
  for seen in _chain(error):
    code = seen.errno if isinstance(seen, OSError) else None
    for number, words in _STORAGE_FAULTS.items():
      named = number not in _WRONG_PLACES and os.strerror(number) in str(seen)
      if code == number or named:
        place = getattr(seen, 'filename', None) or where
        if number in _WRONG_PLACES:
          return f'{words} ({place}); remove or rename it, and run the same command again'
        return (
          f'{words} ({place}); what was saved before is intact: make room or choose another '
          '--workdir, and run the same command again'
        )
  return None


# A name on the disk that is not what is wanted there. By their number alone.
_WRONG_PLACES = {
  errno.ENAMETOOLONG: 'a name is too long',
  errno.ELOOP: 'a link points to itself',
  errno.EISDIR: 'a folder is there in place of a file',
  errno.EEXIST: 'a file is there in place of a folder',
  errno.ENXIO: 'a pipe, socket or device is there in place of a file',
}
_STORAGE_FAULTS = {
  **_WRONG_PLACES,
  errno.ENOSPC: 'the disk is full',
  errno.EDQUOT: 'the disk quota is used up',
  errno.EFBIG: 'a file grew beyond the size limit',
  errno.EROFS: 'the file system is read-only',
  errno.EACCES: 'permission was denied',
  errno.EPERM: 'permission was denied',
  errno.ENOTDIR: 'a part of the path is a file, not a folder',
}
