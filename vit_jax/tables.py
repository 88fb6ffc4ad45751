"""Tables: rows as aligned text, as Markdown, and as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vit_jax.writes import write


def as_text(head: Sequence[str], rows: Sequence[Sequence[Any]], align: str = '') -> str:
  """Columns side by side, two spaces apart. None is shown as '-', a float with two digits.

  Args:
    head: column names, '_' shown as a space; empty: no line of names.
    align: '<' or '>' per column; by default text is on the left and numbers on the right.
  """
  lines = [[name.replace('_', ' ') for name in head]] if head else []
  lines += [[_cell(value) for value in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  align = align or ''.join(
    '<' if all(isinstance(row[i], str) for row in rows) else '>' for i in range(len(widths))
  )
  return '\n'.join(
    '  '.join(
      f'{cell:{side}{width}}' for cell, side, width in zip(line, align, widths, strict=True)
    ).rstrip()
    for line in lines
  )


def as_markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  lines = [head, ['---'] * len(head), *([_cell(value) for value in row] for row in rows)]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
  """A line of column names, those of all rows, and a line per row; None is left empty."""
  stream = io.StringIO()
  columns = dict.fromkeys(name for row in rows for name in row)
  writer = csv.DictWriter(stream, list(columns), restval='', lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  return stream.getvalue()


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
  """Writes `as_csv`; raises a UserError if the file cannot be written."""
  write(path, as_csv(rows))


def _cell(value: Any) -> str:
  if value is None:
    return '-'
  if isinstance(value, float):
    return f'{value:z,.2f}'
  return f'{value:,}' if isinstance(value, int) else value


def clock(seconds: float) -> str:
  """12.3 s, 4 min 05 s, 3 h 07 min."""
  if seconds < 60:
    return f'{seconds:.1f} s'
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 60:
    return f'{minutes} min {rest:02} s'
  hours, minutes = divmod(round(seconds / 60), 60)
  return f'{hours:,} h {minutes:02} min'
