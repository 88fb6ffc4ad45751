"""What is known of the local copy of a run folder, beside it on this disk.

Its address, which start of the run wrote it last (`id`), and which checkpoints it has. If the index
in the store has the same id, no other host has gone on with the run.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vit_jax.remote.transfers import Entry
from vit_jax.writes import replacing

NAME = '.mirror.json'


class Note:
  """Stored in the folder that the copy is in, as are the manifests of its checkpoints."""

  def __init__(self, home: Path):
    self._path = home / NAME

  def begin(self, address: str) -> None:
    """Of a new copy."""
    if not self._path.exists():
      self._write({'address': address})

  @property
  def address(self) -> str:
    """Of the run in the store; '' if the folder is no copy."""
    try:
      return str(self._read()['address'])
    except (OSError, ValueError, KeyError, TypeError):
      return ''

  @property
  def id(self) -> str:
    """Of the start of the run that wrote this copy last; '' if it is only read, or new."""
    return self._read().get('id', '')

  @id.setter
  def id(self, value: str) -> None:
    self._write({**self._read(), 'id': value})

  def uploaded(self) -> dict[int, str]:
    """The name in the store of each checkpoint here that is from there or was uploaded."""
    return {int(step): name for step, name in self._read().get('checkpoints', {}).items()}

  def set_uploaded(self, step: int, name: str | None, files: Mapping[str, Entry] = {}) -> None:
    """Notes that the checkpoint of a step here has these files in the store; None: it has not."""
    if name is not None:
      path = self._manifest(name)
      path.parent.mkdir(exist_ok=True)
      with replacing(path) as file:
        file.write(json.dumps(files).encode())
    known = self.uploaded()
    before = known.pop(step, None)
    if name is not None:
      known[step] = name
    self._write({**self._read(), 'checkpoints': known})
    if before not in (None, name):
      self._manifest(str(before)).unlink(missing_ok=True)

  def files_of(self, name: str) -> dict[str, Entry]:
    """Those of a checkpoint that is noted, by its name in the store."""
    return json.loads(self._manifest(name).read_bytes())

  def _read(self) -> dict[str, Any]:
    return json.loads(self._path.read_bytes())

  def _write(self, note: Mapping[str, Any]) -> None:
    with replacing(self._path) as file:
      file.write(json.dumps(note).encode())

  def _manifest(self, name: str) -> Path:
    return self._path.parent / 'manifests' / f'{name}.json'
