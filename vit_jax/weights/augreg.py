"""The weights of "How to train your ViT?" (Steiner et al. 2021, arXiv:2106.10270), by their index.

The index has a row for each pretraining and fine-tuning; its columns are described in
google-research/vision_transformer, vit_jax/checkpoint.py, get_augreg_df.
"""

import csv
from pathlib import Path
from urllib.parse import parse_qsl

from vit_jax.errors import UserError, nearest
from vit_jax.remote.fetch import fetch

PREFIX = 'augreg:'
DIRECTORY = 'https://storage.googleapis.com/vit_models/augreg'
_NUMBERS = ('epochs', 'lr', 'wd', 'do', 'sd', 'adapt_lr', 'adapt_steps', 'adapt_resolution')


def address(spec: str, cache: Path, directory: str) -> str:
  """The address of the file of 'augreg:B/16' or 'augreg:B/16?ds=i1k&aug=light1'.

  Takes the row with the best `final_val` that passes the filter, as recommended of those
  pretrained on i21k unless the filter names a `ds`. A filter on an `adapt_` column asks for
  fine-tuned weights: those with the best `adapt_final_val`.

  Raises:
    UserError: no row passes; names what the column could be.
  """
  name, _, query = spec.removeprefix(PREFIX).partition('?')
  filters = {'name': name, 'ds': 'i21k', **dict(parse_qsl(query, keep_blank_values=True))}
  with fetch(f'{directory}/index.csv', cache).open(newline='') as file:
    rows = list(csv.DictReader(file))
  for column, wanted in filters.items():
    known = {row.get(column) or '' for row in rows}
    if not rows or column not in rows[0]:
      raise UserError(
        f'{spec}: the index has no column {column!r}; {nearest(column, rows[0] if rows else ())}'
      )
    rows = [row for row in rows if _same(column, row[column] or '', wanted)]
    if not rows:
      raise UserError(
        f'{spec}: no row of the index is left with {column}={wanted}; {nearest(wanted, known)}'
      )
  adapted = any(column.startswith('adapt_') for column in filters)

  scores = ('final_val', 'adapt_final_val') if adapted else ('final_val',)
  best = max(rows, key=lambda row: [float(row[score] or 0) for score in scores])
  return f'{directory}/{best["adapt_filename" if adapted else "filename"]}.npz'


def _same(column: str, value: str, wanted: str) -> bool:
  """Compares a column of numbers as numbers: 0.1 is 0.10."""
  if column in _NUMBERS:
    try:
      return float(value) == float(wanted)
    except ValueError:
      return False
  return value == wanted
