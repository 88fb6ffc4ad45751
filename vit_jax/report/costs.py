"""The table of all models and what they cost.

Tracing all of them takes half a minute, so what was counted once ships in costs.csv, beside a
fingerprint of the options it was counted for. What has changed since is counted anew, which needs
JAX; reading the file does not.
"""

import csv
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from vit_jax import models
from vit_jax.tables import as_text

NAME = 'models'
COUNTED = Path(__file__).with_name('costs.csv')
CLASSES = 1000
TOKENS, VOCABULARY = 32, 37_000  # of the Transformer's paper, arXiv:1706.03762 section 5.1
OTHER_CLASSES = {'DINOv2': 0, 'LeNet': 10}  # as published; by the part before the '-'


class Cost(NamedTuple):
  """A row of the table; `size` is pixels of an image's side, or tokens of one."""

  model: str
  size: int
  parameters: int
  gmacs: float


class Case(NamedTuple):
  """A model as the table has it."""

  name: str
  classes: int
  shape: tuple[int, ...]  # of an example, as `models.example` takes it

  @property
  def fingerprint(self) -> str:
    """Of all that the recipe of a model says; the code of its modules is for the tests to hold."""
    said = repr((self, models.options_of(self.name)))
    return hashlib.sha256(said.encode()).hexdigest()[:12]


def costs(names: Iterable[str] | None = None) -> list[Cost]:
  """Parameters and GMACs of the named models, by default of every usual name in `MODELS`.

  Images are of the size of the published weights, with a head of 1000 classes (LeNet-5: 10;
  DINOv2: none). Sentences have 32 tokens, and both vocabularies 37,000.
  """
  if names is None:
    names = [name for base, entry in models.MODELS.items() for name in entry.names(base)]
  known = dict(_read())
  cases = [case_of(name) for name in names]
  return [known.get((case.name, case.fingerprint)) or count(case) for case in cases]


def case_of(name: str) -> Case:
  if models.reads_text(name):
    return Case(name, VOCABULARY, (TOKENS, TOKENS))
  inputs = models.inputs_of(name)
  classes = OTHER_CLASSES.get(name.partition('-')[0], CLASSES)
  return Case(name, classes, (*inputs.size, len(inputs.mean)))


def count(case: Case) -> Cost:
  """Counted from a trace of the model, which takes up to some seconds."""
  from vit_jax.models import flops  # here: jax and flax take a second to import

  inputs = models.Texts(VOCABULARY) if models.reads_text(case.name) else None
  model = models.build(case.name, case.classes, inputs=inputs)
  macs = flops.forward_macs(model, case.shape)
  return Cost(case.name, case.shape[0], flops.count_parameters(model, case.shape), macs / 1e9)


def write(rows: Iterable[Cost]) -> None:
  """Makes costs.csv anew, from what `count` gave."""
  with COUNTED.open('w', newline='') as file:
    table = csv.writer(file, lineterminator='\n')
    table.writerow([*Cost._fields, 'fingerprint'])
    for row in rows:
      table.writerow([*row[:3], row.gmacs, case_of(row.model).fingerprint])


def _read() -> Iterator[tuple[tuple[str, str], Cost]]:
  """((name, fingerprint), cost) of what was counted."""
  with COUNTED.open(newline='') as file:
    for row in csv.DictReader(file):
      cost = Cost(row['model'], int(row['size']), int(row['parameters']), float(row['gmacs']))
      yield (cost.model, row['fingerprint']), cost


def table() -> tuple[str, list[dict[str, Any]]]:
  """(the table as text, its rows for a CSV file)."""
  rows = costs()
  return as_text(Cost._fields, rows), [row._asdict() for row in rows]
