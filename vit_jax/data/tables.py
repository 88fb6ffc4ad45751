"""Tables of examples: CSV, TSV, JSONL and Parquet files, and Hugging Face data sets on disk."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vit_jax.config import ImageData
from vit_jax.data import splits
from vit_jax.data.arrow import ArrowFile, ArrowRows, class_names, holds_images
from vit_jax.data.listing import Listing, Row, classes_of, make
from vit_jax.data.stores import Files, Store
from vit_jax.errors import UserError, first_line
from vit_jax.paths import local, shown

# Names of columns that need not be told.
IMAGES = ('image', 'path', 'file', 'file_name', 'filename', 'filepath', 'image_path', 'img')
LABELS = ('label', 'labels', 'class', 'target', 'category', 'fine_label')
SPLITS, GROUPS = ('split',), ('group',)
YES, NO = ('1', '1.0', 'true', 'yes'), ('0', '0.0', 'false', 'no', '')


class Table(NamedTuple):
  """Columns of a table, and where its images are."""

  name: str
  columns: tuple[str, ...]
  rows: Iterator[Mapping[str, Any]]  # without images that are stored in the table
  names: Mapping[str, Sequence[str]] = {}  # column -> class names, of numbered classes
  inside: tuple[str, ...] = ()  # columns that hold images


def open_table(place: str, data: ImageData, test_fraction: float | None) -> Listing:
  """Lists a table of examples; paths in it are relative to its folder.

  Raises:
    UserError: no such file, or a column is missing or unclear.
  """
  path = local(place)
  if not path.is_file():
    raise UserError(f'data.dir {place!r} is not a file; it should be a table ({_KINDS})')
  if path.suffix.lower() == '.parquet':
    return _of_arrow([(path, '')], f'table:{shown(path)}', path.parent, data, test_fraction)
  rows = _text_rows(path)
  first = next(rows, None)
  if first is None:
    raise UserError(f'{shown(path)} has no rows')
  table = Table(f'table:{shown(path)}', tuple(first), _chain(first, rows))
  return _listed(table, Files(path.parent), data, test_fraction)


_KINDS = '.csv, .tsv, .jsonl or .parquet'


def _chain(first: Mapping[str, Any], rest: Iterator[Mapping[str, Any]]) -> Iterator[Any]:
  yield first
  yield from rest


def _text_rows(path: Path) -> Iterator[dict[str, Any]]:
  kind = path.suffix.lower()
  if kind not in ('.csv', '.tsv', '.jsonl'):
    raise UserError(f'{shown(path)} is no table that is known: it should be {_KINDS}')
  with open(path, encoding='utf-8-sig', newline='') as file:
    try:
      if kind != '.jsonl':
        for row in csv.DictReader(file, delimiter='\t' if kind == '.tsv' else ',', strict=True):
          if None in row or None in row.values():
            raise UserError(f'{shown(path)}: row {row} has more or fewer cells than columns')
          yield row
        return
      for number, line in enumerate(file, 1):
        if line.strip():
          value = json.loads(line)
          if not isinstance(value, dict):
            raise UserError(f'{shown(path)}, line {number} is no JSON object')
          yield value
    except (csv.Error, ValueError) as error:
      raise UserError(f'{shown(path)} cannot be read: {first_line(error)}') from None


def _listed(table: Table, store: Store, data: ImageData, fraction: float | None) -> Listing:
  """The listing of a table, by the columns that are told or have a usual name."""
  image = _column(table, data.image, IMAGES, 'image')
  split = _column(table, data.split_by, SPLITS, 'split_by', optional=True)
  group = _column(table, data.group_by, GROUPS, 'group_by', optional=True)
  labels = data.label.split(',') if ',' in data.label else []
  for name in labels:
    _column(table, name, (), 'label')
  label = '' if labels else _column(table, data.label, LABELS, 'label', optional=fraction is None)
  rows, several = [], bool(labels or data.label_separator)
  for number, cells in enumerate(table.rows, 1):
    if labels:
      found = tuple(name for name in labels if _flag(cells[name], table, number, name))
    else:
      cell = cells.get(label) if label else None
      several = several or isinstance(cell, list | tuple)
      found = classes_of(cell, table.names.get(label, ()), data.label_separator)
    key = cells[image]
    if not isinstance(key, str) or not key:
      raise UserError(f'data set {table.name!r}, row {number} has no {image!r}, which names a file')
    rows.append(
      Row(
        os.path.normpath(key),
        found,
        str(cells.get(split) or '') if split else '',
        f'{cells[group]}' if group and cells.get(group) not in (None, '') else '',
      )
    )
  gone = set()
  if isinstance(store, Files):
    gone = {row.key for row in rows if not os.path.isfile(store.root / row.key)}
    rows = [row for row in rows if row.key not in gone]
  if twice := _repeated([row.key for row in rows]):
    raise UserError(f'data set {table.name!r} names {shown(twice)} twice; keep one row of it')
  names = table.names.get(label, ())
  return make(
    table.name,
    store,
    rows,
    test_fraction=fraction,
    several=several,
    class_names=names,
    left_out={'missing files': sorted(gone)} if gone else {},
  )


def _column(
  table: Table, wanted: str, usual: Sequence[str], key: str, *, optional: bool = False
) -> str:
  """The column that is meant, '' if there is none and it is optional."""
  if wanted:
    if wanted in table.columns:
      return wanted
    raise UserError(
      f'config.data.{key} is {wanted!r}, but {table.name} has these columns: '
      f'{", ".join(table.columns)}'
    )
  known = {name.lower(): name for name in table.columns}
  found = [known[name] for name in usual if name in known]
  if key == 'image' and table.inside and len(table.inside) == 1:
    return table.inside[0]
  if len(found) == 1 or (found and key == 'image' and len(table.inside) == 1):
    return found[0]
  if not found and optional:
    return ''
  several = f'has several that could be meant ({", ".join(found)})' if found else 'has none such'
  raise UserError(
    f'{table.name} {several}; name one, as in --config.data.{key}={(found or table.columns)[0]}: '
    f'its columns are {", ".join(table.columns)}'
  )


def _flag(cell: Any, table: Table, number: int, name: str) -> bool:
  """Whether the class of a column is right; an empty cell says that it is not."""
  text = '' if cell is None else str(cell).strip().lower()
  if text not in (*YES, *NO):
    raise UserError(
      f'data set {table.name!r}, row {number} has {cell!r} in column {name!r}; of several label '
      'columns each says 0 or 1'
    )
  return text in YES


def _repeated(keys: Sequence[str]) -> str | None:
  seen = set()
  return next((key for key in keys if key in seen or seen.add(key)), None)


def open_huggingface(place: str, data: ImageData, test_fraction: float | None) -> Listing:
  """Lists a Hugging Face data set on disk: parquet files, or what `save_to_disk` wrote.

  The split of a file is that of its folder, or of its name up to a hyphen.

  Raises:
    UserError: no such folder or file in it, or a column is missing or unclear.
  """
  root = local(place)
  if not root.is_dir():
    raise UserError(f'data.dir {place!r} is not a folder; it should be one of parquet files')
  files = sorted(path for kind in ('parquet', 'arrow') for path in root.rglob(f'*.{kind}'))
  files = [path for path in files if not path.name.startswith('cache-')]
  if not files:
    raise UserError(f'{shown(root)} has no .parquet or .arrow file')
  parts = [(path, splits.of_path(os.path.relpath(path, root))) for path in files]
  return _of_arrow(parts, f'huggingface:{shown(root)}', root, data, test_fraction)


def _of_arrow(
  parts: Sequence[tuple[Path, str]],
  name: str,
  root: Path,
  data: ImageData,
  fraction: float | None,
) -> Listing:
  files = [ArrowFile(path) for path, _ in parts]
  schema = files[0].schema
  for file in files[1:]:
    if file.schema.names != schema.names:
      raise UserError(f'{shown(file.path)} has other columns than {shown(files[0].path)}')
  inside = tuple(field.name for field in schema if holds_images(field.type))
  names = class_names(schema)
  image = data.image if data.image in inside else inside[0] if len(inside) == 1 else ''
  if inside and not image and not data.image:
    raise UserError(
      f'{name} has several columns of images ({", ".join(inside)}); name one, as in '
      f'--config.data.image={inside[0]}'
    )
  plain = [column for column in schema.names if column not in inside]

  def rows() -> Iterator[Mapping[str, Any]]:
    for file, (path, split) in zip(files, parts, strict=True):
      key = os.path.relpath(path, root)
      for number, cells in enumerate(file.rows(plain)):
        if split and not data.split_by:
          cells['split'] = split
        if image:
          cells[image] = f'{key}:{number}'
        yield cells

  named = any(split for _, split in parts) and 'split' not in schema.names
  columns = (*schema.names, *(['split'] if named else []))
  table = Table(name, columns, rows(), names, (image,) if image else ())
  store = ArrowRows(root, image, files) if image else Files(root)
  return _listed(table, store, data, fraction)
