"""The tables of the papers: for each a CSV file here, with a source in every row, and a section of
tables.toml."""

import csv
import tomllib
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent


class Result(NamedTuple):
  """Which runs have the accuracy of a column."""

  data: str  # their data set
  split: str = ''  # the eval; if empty the one named test, else the first
  metric: str = 'top1'
  pretrained: str = ''  # what they were pretrained on, where the column decides, not the row


# Columns that runs can fill; they do not measure the others.
RESULTS = {
  'imagenet': Result('imagenet2012'),
  'top5': Result('imagenet2012', metric='top5'),
  'real': Result('imagenet2012', 'real'),
  'v2': Result('imagenet2012', 'v2'),
  'cifar10': Result('cifar10'),
  'cifar100': Result('cifar100'),
  'pets': Result('oxford_iiit_pet'),
  'flowers': Result('oxford_flowers102'),
  'i1k_no_adaptation': Result('imagenet2012', pretrained='ImageNet'),
  'i1k_300': Result('imagenet2012', pretrained='ImageNet'),
  'i21k_30': Result('imagenet2012', pretrained='ImageNet-21k'),
  'i21k_300': Result('imagenet2012', pretrained='ImageNet-21k'),
  'i21k_selected': Result('imagenet2012', pretrained='ImageNet-21k'),
  'jft300m_vit_paper': Result('imagenet2012', pretrained='JFT-300M'),
}


class Table(NamedTuple):
  """A section of tables.toml, which explains its keys."""

  title: str
  words: list[str]
  results: list[str]
  note: str
  flop_per_mac: int = 2
  passes: int = 3
  padding: bool = True


TABLES = {
  name: Table(**section)
  for name, section in tomllib.loads((FOLDER / 'tables.toml').read_text()).items()
}


def read_paper(name: str) -> list[dict[str, str]]:
  """The rows of a table as published."""
  with (FOLDER / f'{name}.csv').open(newline='') as file:
    return list(csv.DictReader(file))
