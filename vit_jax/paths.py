"""Paths that a person types."""

import os
import re
from pathlib import Path

from vit_jax.errors import UserError

_ADDRESS = re.compile(r'[A-Za-z][\w+.-]*:/')  # one slash is left of two where a Path was made of it


def local(text: str | os.PathLike[str]) -> Path:
  """A path on this machine, with `~` expanded. Every flag that takes a path goes through here.

  Raises:
    UserError: it is an address, such as gs://bucket/run, or `~NAME` of an unknown user.
  """
  text = os.fspath(text)
  if _ADDRESS.match(text):
    raise UserError(
      f'{text} is an address, but a path on this machine is needed; mount the storage, and name '
      'the folder where it is mounted'
    )
  try:
    return Path(text).expanduser()
  except RuntimeError:
    raise UserError(
      f'{text}: the home folder of this user is unknown; write the path out'
    ) from None
