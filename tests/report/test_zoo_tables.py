"""The tables of all models: every comparable row of timm's is met, and what is printed."""

import csv
import importlib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vit_jax import commands, models
from vit_jax.report import costs, zoo
from vit_jax.tables import as_text

DOCS = Path(__file__).parents[2] / 'docs'
ROWS = zoo.read_paper('timm')
COMPARABLE = [row for row in ROWS if row['ours']]


def stem(row) -> str:
  """The architecture: a table row without its image size and training data."""
  return row['model'].removesuffix('_in21ft1k').removesuffix('_' + row['image_size'])


FIRST = {stem(row): row for row in reversed(COMPARABLE)}.values()  # one per architecture
REST = [row for row in COMPARABLE if row not in FIRST]


def params():
  """Deep ResNets and hybrids take seconds each to trace: left to the slow round."""
  for row in COMPARABLE:
    deep = 'resnet' in row['model'] and 'resnet18' not in row['model'] or '_r50_' in row['model']
    marks = [pytest.mark.slow] if deep or row in REST else []
    yield pytest.param(row, marks=marks, id=f'{row["model"]}-{row["image_size"]}')


@pytest.mark.parametrize('row', params())
def test_timms_row(row):
  """Parameters within 0.1 %, and the very digits of timm's multiply-accumulates.

  Products alone are within 0.7 % of those, but where the printed digits are too few and in
  hybrids, whose standardized weights timm's counter counts.
  """
  compared = zoo.compare(row)
  assert compared.parameters_M and compared.gmacs and compared.gmacs_timms_way
  assert compared.parameters_M == pytest.approx(float(row['parameters_M']), rel=1e-3)
  assert round(compared.gmacs_timms_way, 2) == float(row['gmacs'])
  beside = 0.03 if '+' in compared.model else 0.007
  assert abs(compared.gmacs / float(row['gmacs']) - 1) <= beside + 0.005 / float(row['gmacs'])


def test_every_row_is_compared_or_has_a_reason():
  assert len(ROWS) == 85
  assert len(COMPARABLE) == 81
  assert all(bool(row['ours']) == bool(row['classes']) for row in ROWS)
  assert all(row['ours'] or row['remark'] for row in ROWS)
  assert all('pytorch-image-models@' in row['source'] for row in ROWS)


def test_a_table_is_printed_and_written(monkeypatch, tmp_path, capsys):
  few = [row for row in ROWS if row['model'] in ('vit_tiny_patch16_224', 'vit_small_resnet26d_224')]
  monkeypatch.setattr(zoo, 'read_paper', lambda name: few)
  path = tmp_path / 'timm.csv'
  assert commands.main(['report', '--table=timm', f'--csv={path}']) == 0
  head, *lines, empty, note = capsys.readouterr().out.splitlines()
  assert head.split()[:3] == ['timm', 'image', 'size']
  written = list(csv.DictReader(path.open()))
  assert not empty and note
  assert [row['timm'] for row in written] == [row['model'] for row in few]
  assert [line.split()[0] for line in lines] == [row['model'] for row in few]
  not_ours, ours = sorted(written, key=lambda row: row['model'])
  assert not_ours['remark'] and not not_ours['gmacs'] and not_ours['remark'] in '\n'.join(lines)
  assert ours['model'] == 'Ti/16' and float(ours['gmacs']) == 1.2536832
  assert float(ours['gmacs_off_percent']) == pytest.approx(
    100 * (float(ours['gmacs_timms_way']) / 1.26 - 1)
  )


def test_the_table_of_all_models(monkeypatch):
  few = {'Ti': models.MODELS['Ti']._replace(patches=(16, 32))}
  monkeypatch.setattr(models, 'MODELS', few)
  ti_16, ti_32 = costs.costs()
  assert ti_16 == ('Ti/16', 224, 5_717_416, 1.2536832)
  assert ti_32.model == 'Ti/32' and ti_32.gmacs < ti_16.gmacs
  text = as_text(costs.Cost._fields, [ti_16, ti_32])
  assert '5,717,416   1.25' in text and text.count('\n') == 2


ALL = [name for base, entry in models.MODELS.items() for name in entry.names(base)]
QUICK = {'Ti/16', 'DeiT-Ti/16-distilled', 'DINOv2-S/14-reg4', 'CaiT-XXS24', 'AlexNet', 'RNN-GRU'}


@pytest.mark.parametrize(
  'name', [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in ALL]
)
def test_what_was_counted_is_still_so(name):
  """If this fails: python -m tests.report.test_zoo_tables, and look at what changed."""
  (known,) = costs.costs([name])
  assert costs.count(costs.case_of(name)) == known


def test_all_models_are_counted(monkeypatch):
  """If this fails: python -m tests.report.test_zoo_tables."""
  monkeypatch.setattr(costs, 'count', lambda case: pytest.fail(f'{case} is not in costs.csv'))
  assert [cost.model for cost in costs.costs()] == ALL


def test_a_model_with_other_options_is_counted_anew(monkeypatch):
  (known,) = costs.costs(['Ti/16'])
  monkeypatch.setitem(costs.OTHER_CLASSES, 'Ti/16', 0)
  (other,) = costs.costs(['Ti/16'])
  assert other.parameters == known.parameters - 1000 * 193


def documented() -> dict[str, list[str]]:
  """Name -> pixels, parameters, GMACs as docs/models.md has them."""
  rows = [
    line.strip('| ').split(' | ')
    for line in (DOCS / 'models.md').read_text().splitlines()
    if line.startswith('| `')
  ]
  return {row[0].strip('`'): row[1:] for row in rows}


def test_every_model_is_documented():
  bases = {name.partition('/')[0] for name in documented()}
  assert bases == set(models.MODELS)


@pytest.mark.slow
def test_documented_figures():
  rows = documented()
  for cost in costs.costs(rows):
    pixels, parameters, gmacs = rows[cost.model]
    assert (pixels, parameters) == (str(cost.size), f'{cost.parameters:,}'), cost.model
    digits = len(gmacs.partition('.')[2])
    assert digits >= 2 and float(gmacs) == round(cost.gmacs, digits), cost.model


def test_pictures_are_those_of_the_script(monkeypatch):
  """If this fails: python docs/blocks/draw.py."""
  monkeypatch.syspath_prepend(DOCS / 'blocks')
  draw = importlib.import_module('draw')
  text = (DOCS / 'models.md').read_text()
  for name, columns in draw.FIGURES.items():
    assert (DOCS / 'blocks' / f'{name}.svg').read_text() == draw.svg(columns)
    assert f'(blocks/{name}.svg)' in text
    ElementTree.fromstring(draw.svg(columns))
  assert len(list((DOCS / 'blocks').glob('*.svg'))) == len(draw.FIGURES)


@pytest.mark.parametrize(
  'argv, expected',
  [
    (['--table=tim'], "did you mean 'timm'?"),
    (['--table=timm', 'runs/a'], 'leave runs/a out'),
    ([], '--table=models'),
    (['--csv=a.csv', 'runs/a'], '--csv'),
    (['--table=timm', '--goodput'], '--goodput'),
  ],
)
def test_mistakes(argv, expected, capsys):
  assert commands.main(['report', *argv]) == 2
  error = capsys.readouterr().err
  assert expected in error and error.count('\n') == 1


def test_a_csv_that_cannot_be_written(monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(zoo, 'read_paper', lambda name: [])
  path = tmp_path / 'none' / 'timm.csv'
  assert commands.main(['report', '--table=timm', f'--csv={path}']) == 2
  error = capsys.readouterr().err
  assert '--csv' in error and repr(str(path)) in error


if __name__ == '__main__':
  costs.write(costs.count(costs.case_of(name)) for name in ALL)
