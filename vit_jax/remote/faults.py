"""What goes wrong with storage elsewhere: what passes is tried again, the rest is one sentence."""

import errno
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from vit_jax.errors import RunFault, UserError, first_line

TRIES = 4  # beside those of the clients themselves, which differ
WAIT = 1.0  # seconds before the second try; each later one waits twice as long
# Kinds of address whose package is in an extra of ours.
EXTRAS = {'gs': 'stores', 'gcs': 'stores', 's3': 'stores', 's3a': 'stores'}

_PASSING_CODES = {408, 409, 425, 429, 500, 502, 503, 504}
_PASSING_NUMBERS = {
  errno.EBUSY,
  errno.EIO,
  errno.EREMOTEIO,  # s3fs has it for a server's own fault
  errno.EAGAIN,
  errno.EPIPE,
  errno.ECONNRESET,
  errno.ECONNABORTED,
  errno.ECONNREFUSED,
  errno.ETIMEDOUT,
  errno.EHOSTUNREACH,
  errno.ENETUNREACH,
}
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # of this host, which says so itself
# Of the clients' own errors, which have no common class, and which are not imported for this.
_PASSING_NAMES = {
  'ChecksumError',
  'ClientConnectionError',
  'ClientPayloadError',
  'ConnectionClosedError',
  'ConnectTimeoutError',
  'ContentLengthError',
  'EndpointConnectionError',
  'HTTPClientError',
  'IncompleteReadError',
  'ProxyError',
  'ReadTimeoutError',
  'ResponseStreamingError',
  'TransportError',
}
_REFUSED_NAMES = {
  'DefaultCredentialsError',
  'NoCredentialsError',
  'PartialCredentialsError',
  'RefreshError',
}
T = TypeVar('T')
_log = logging.getLogger(__name__)


class StoreFault(RunFault):
  """A store did not do what it was asked to, however often."""


def retried(address: str, doing: str, call: Callable[[], T], tries: int = TRIES) -> T:
  """What `call` returns, which is called again after a fault that passes.

  Args:
    doing: what the call does, for the sentence: 'writing', 'listing'.

  Raises:
    FileNotFoundError, FileExistsError: as `call` does.
    UserError: this process may not do so.
    StoreFault: it failed for good, or too often.
  """
  number, wait = 1, WAIT
  while True:
    try:
      return call()
    except (FileNotFoundError, FileExistsError, UserError, StoreFault):
      raise
    except Exception as error:  # noqa: BLE001 (each kind of storage has its own)
      if any(getattr(each, 'errno', None) in _DISK for each in _chain(error)):
        raise
      if _refused(error):
        raise UserError(refusal(address, doing, error)) from None
      if not _passes(error):
        raise StoreFault(f'{doing} {address} failed: {reason(error)}') from error
      if number >= tries:
        raise StoreFault(
          f'{doing} {address} failed {number} times ({reason(error)}); what is on this machine is '
          'kept: run the same command again'
        ) from error
      _log.warning('%s %s: %s; trying again in %g s', doing, address, reason(error), wait)
    time.sleep(wait)
    number, wait = number + 1, 2 * wait


def refusal(address: str, doing: str, error: BaseException) -> str:
  return (
    f'{doing} {address} is not allowed ({reason(error)}); the environment must name credentials '
    'that may read and write there: GOOGLE_APPLICATION_CREDENTIALS, or AWS_ACCESS_KEY_ID and '
    'AWS_SECRET_ACCESS_KEY'
  )


def missing_package(address: str) -> str:
  """The sentence for an address whose package is not installed."""
  extra = EXTRAS.get(address.partition(':')[0], 'remote')
  return f"{address} needs a package for that kind of address; install 'vit-jax[{extra}]'"


def reason(error: BaseException) -> str:
  return first_line(error)[:200] or type(error).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
  seen: BaseException | None = error
  while seen is not None:
    yield seen
    seen = seen.__cause__


def _code(error: BaseException) -> int:
  """The status of an HTTP answer; 0 if the error has none."""
  answer: Any = getattr(error, 'response', None)
  if isinstance(answer, dict):  # botocore's
    return int(answer.get('ResponseMetadata', {}).get('HTTPStatusCode', 0))
  for name in ('code', 'status'):
    if str(found := getattr(error, name, '')).isdigit():
      return int(found)
  return 0


def _names(error: BaseException) -> set[str]:
  return {kind.__name__ for kind in type(error).__mro__}


def _refused(error: BaseException) -> bool:
  return any(
    isinstance(each, PermissionError)
    or _code(each) in (401, 403)
    or _names(each) & _REFUSED_NAMES
    or str(each).startswith('Forbidden: ')  # gcsfs has no other mark for it
    for each in _chain(error)
  )


def _passes(error: BaseException) -> bool:
  return any(
    isinstance(each, ConnectionError | TimeoutError | EOFError)
    or _code(each) in _PASSING_CODES
    or getattr(each, 'errno', None) in _PASSING_NUMBERS
    or _names(each) & _PASSING_NAMES
    for each in _chain(error)
  )
