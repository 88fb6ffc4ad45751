"""Errors that are reported in one sentence, and their exit codes."""

import difflib
import errno
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

# Exit codes: saved, run the same command again; a fault in the user's input.
PREEMPTED, USERS_FAULT = 75, 2


class UserError(Exception):
  """A fault in the user's input, in one sentence: what, where, what would be right.

  The command line prints it without a traceback and exits with 2.
  """


class RunFault(Exception):
  """A fault in the run, not of the user, in one sentence; the exit code is 1."""


def print_error(sentence: object) -> None:
  print(f'vit_jax: {sentence}', file=sys.stderr, flush=True)


def first_line(error: BaseException) -> str:
  return str(error).partition('\n')[0]


def verdict(error: BaseException) -> tuple[int, str | None]:
  """(exit code, the sentence to print) for an error that ends a command; None: a traceback."""
  if isinstance(error, UserError):
    return USERS_FAULT, str(error)
  if isinstance(error, RunFault):
    return 1, str(error)
  sentence = storage_sentence(error, 'the run folder or the data folder')
  return (1, None) if sentence is None else (USERS_FAULT, sentence)


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
  seen: BaseException | None = error
  while seen is not None:
    code = seen.errno if isinstance(seen, OSError) else None
    for number, words in _STORAGE_FAULTS.items():
      if code == number or os.strerror(number) in str(seen):
        return (
          f'{words} ({getattr(seen, "filename", None) or where}); what was saved before is intact: '
          'make room or choose another --workdir, and run the same command again'
        )
    seen = seen.__cause__ or seen.__context__
  return None


_STORAGE_FAULTS = {
  errno.ENOSPC: 'the disk is full',
  errno.EDQUOT: 'the disk quota is used up',
  errno.EFBIG: 'a file grew beyond the size limit',
  errno.EROFS: 'the file system is read-only',
  errno.EACCES: 'permission was denied',
  errno.EPERM: 'permission was denied',
  errno.ENOTDIR: 'a part of the path is a file, not a folder',
}
