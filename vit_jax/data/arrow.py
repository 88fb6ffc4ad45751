"""Parquet and Arrow files: their rows, and the images in them."""

import bisect
import functools
import hashlib
import importlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vit_jax.data import identity
from vit_jax.errors import UserError, first_line
from vit_jax.paths import shown
from vit_jax.reads import content, opened

CHUNKS = 4  # row groups of a Parquet file that are kept in memory


def arrow(module: str) -> Any:
  """A module of pyarrow; raises a UserError that says how to install it."""
  try:
    return importlib.import_module(module)
  except ImportError:
    raise UserError("parquet and arrow files need pyarrow: pip install 'vit-jax[data]'") from None


def holds_images(kind: Any) -> bool:
  types = arrow('pyarrow.types')
  if types.is_struct(kind):
    return any(kind.field(i).name == 'bytes' for i in range(kind.num_fields))
  return types.is_binary(kind) or types.is_large_binary(kind)


def class_names(schema: Any) -> dict[str, list[str]]:
  """Column -> names of its classes, as `datasets` writes them into the schema."""
  stored = json.loads((schema.metadata or {}).get(b'huggingface', b'{}'))
  found = {}
  for name, feature in stored.get('info', {}).get('features', {}).items():
    inner = feature.get('feature', feature) if isinstance(feature, dict) else {}
    if isinstance(inner, dict) and 'names' in inner:
      found[name] = inner['names']
  return found


class ArrowFile:
  """Rows of a Parquet file, or of an Arrow stream as `datasets` writes it.

  A Parquet file is read by row groups, of which the last few are kept: in order it is fast, at
  random each row costs a row group. An Arrow file is mapped into memory.
  """

  def __init__(self, path: Path):
    self.path, self._lock = path, threading.Lock()
    try:
      opened(path).close()  # pyarrow waits for a pipe
      if path.suffix == '.parquet':
        self._file = arrow('pyarrow.parquet').ParquetFile(path, memory_map=True)
        meta = self._file.metadata
        sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        self.schema = self._file.schema_arrow
      else:
        self._table = _mapped(path)
        sizes, self.schema = [self._table.num_rows], self._table.schema
    except (OSError, arrow('pyarrow').ArrowInvalid) as error:
      raise UserError(f'{shown(path)} is damaged: {first_line(error)}') from None
    self._starts = [sum(sizes[:i]) for i in range(len(sizes))]
    self._chunk = functools.lru_cache(maxsize=CHUNKS)(self._read_chunk)

  def rows(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The cells of some columns, row by row."""
    if self.path.suffix == '.parquet':
      batches = self._file.iter_batches(columns=list(columns))
    else:
      batches = self._table.select(list(columns)).to_batches()
    for batch in batches:
      yield from batch.to_pylist() if columns else ({} for _ in range(batch.num_rows))

  def _read_chunk(self, chunk: int, column: str) -> Any:
    if self.path.suffix == '.parquet':
      return self._file.read_row_group(chunk, columns=[column])[column].combine_chunks()
    return self._table[column]

  def cell(self, row: int, column: str) -> Any:
    chunk = bisect.bisect_right(self._starts, row) - 1
    with self._lock:
      cells = self._chunk(chunk, column)
    return cells[row - self._starts[chunk]].as_py()


def _mapped(path: Path) -> Any:
  """The table of an Arrow stream or file."""
  pyarrow = arrow('pyarrow')
  source = pyarrow.memory_map(str(path))
  try:
    return pyarrow.ipc.open_stream(source).read_all()
  except pyarrow.ArrowInvalid:
    return pyarrow.ipc.open_file(source).read_all()


class ArrowRows:
  """A `Store` of the images in tables; a key is 'FILE:ROW'."""

  def __init__(self, root: Path, column: str, files: Sequence[ArrowFile]):
    self._root, self._column = root, column
    self._files = {os.path.relpath(file.path, root): file for file in files}
    self.seeks = all(file.path.suffix != '.parquet' for file in files)

  def read(self, key: str) -> bytes:
    name, _, row = key.rpartition(':')
    cell = self._files[name].cell(int(row), self._column)
    if isinstance(cell, Mapping):
      if cell['bytes'] is None and cell.get('path'):
        return content(self._root / cell['path'])
      cell = cell['bytes']
    if cell is None:
      raise OSError('the cell is empty')
    return cell

  def head(self, key: str, length: int) -> bytes:
    return self.read(key)[:length]

  def size(self, key: str) -> int:
    return len(self.read(key))

  def place(self, key: str) -> tuple[str, int]:
    name, _, row = key.rpartition(':')
    return name, int(row)

  def where(self, key: str) -> str:
    name, _, row = key.rpartition(':')
    return f'row {row} of {shown(self._root / name)}'

  def stamps(self, keys: Sequence[str], times: bool) -> bytes:
    files = sorted({key.rpartition(':')[0] for key in keys})
    total = hashlib.sha256(identity.stamps(self._root, files, times))
    for key in keys:
      total.update(os.fsencode(f'{key}\0'))
    return total.digest()
