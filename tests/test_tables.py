"""Tables as text, as Markdown and as CSV."""

import csv

import pytest

from vit_jax.errors import UserError
from vit_jax.tables import as_csv, as_markdown, as_text, write_csv


def test_text_is_left_and_numbers_are_right():
  text = as_text(('name', 'so_many', 'share'), [('a', 1200, None), ('bcd', 3, -0.001)])
  assert text.splitlines() == [
    'name  so many  share',
    'a       1,200      -',
    'bcd         3   0.00',
  ]
  assert as_text((), [('a', 'b'), ('cc', 'dd')], '><') == ' a  b\ncc  dd'


def test_markdown():
  assert as_markdown(['a', 'b'], [('x', 1)]) == '| a | b |\n| --- | --- |\n| x | 1 |'


def test_csv_has_the_columns_of_all_rows(tmp_path):
  rows = [{'a': 'x, y', 'b': None}, {'a': 1.5, 'c': 2}]
  assert as_csv(rows) == 'a,b,c\n"x, y",,\n1.5,,2\n'
  write_csv(tmp_path / 'table.csv', rows)
  assert list(csv.DictReader((tmp_path / 'table.csv').open()))[1]['c'] == '2'
  with pytest.raises(UserError, match='cannot be written'):
    write_csv(tmp_path, rows)
