"""`vit_jax plan`: one plan told in full, a table of several, or a search for one that fits."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from vit_jax import config, flags
from vit_jax.config import Experiment
from vit_jax.errors import UserError
from vit_jax.plan import answer, search, table, topology
from vit_jax.plan.answer import Plan
from vit_jax.plan.sizes import data_size
from vit_jax.plan.topology import Topology
from vit_jax.recipes import load_config


def add_flags(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument
  add(
    '--config',
    required=True,
    nargs='+',
    metavar='FILE[:ARG]',
    help='recipes; --config.KEY=VALUE changes a key of them all',
  )
  add(
    '--topology',
    required=True,
    nargs='+',
    metavar='CHIP:SHAPE',
    help=f'chips: {topology.EXAMPLES}; several recipes or topologies make a table',
  )
  add(
    '--search', action='store_true', help='find mesh, remat and accumulation that fit and are fast'
  )
  add('--csv', type=flags.output(), help='also write the table here')
  add(
    '--num_examples', type=flags.at_least(0), default=0, help='of the training split, if not known'
  )
  add('--num_classes', type=flags.at_least(0), default=0, help='likewise')


def run(args: argparse.Namespace, overrides: Sequence[str], cache: Path) -> int:
  """Answers on stdout, progress on stderr; exit code 0 also where nothing fits.

  Args:
    cache: folder where compiled programs are kept.
  """
  # Nothing runs here: no accelerator is started, and it may belong to somebody else's run.
  jax.config.update('jax_platforms', 'cpu')
  places = [topology.parse(text) for text in args.topology]
  recipes = [config.resolve(load_config(spec, overrides)) for spec in args.config]
  cases = [
    Case(x, place, *data_size(x.data, args.num_examples, args.num_classes))
    for x in recipes
    for place in places
  ]
  for place in places:
    topology.require(place.chip.platform)
  if args.search:
    if len(cases) > 1:
      raise UserError('--search takes one recipe and one topology')
    found = search.search(*cases[0], cache)
    print(search.tell(found, recipes[0]))
    _write(args.csv, [table.row(plan.setup.experiment, plan.topology, plan) for plan in found])
    return 0
  if len(cases) == 1:
    plan = _plan(cases[0], cache)
    print(answer.tell(plan))
    _write(args.csv, [table.row(plan.setup.experiment, plan.topology, plan)])
    return 0
  rows = []
  for number, case in enumerate(cases, 1):
    print(
      f'{number} of {len(cases)}: {case.experiment.model.name} on {case.place.name} ...',
      file=sys.stderr,
      flush=True,
    )
    try:
      result: Plan | UserError = _plan(case, cache)
    except UserError as error:  # it is told in its row
      result = error
    rows.append(table.row(case.experiment, case.place, result))
    _write(args.csv, rows)  # a long table is worth having half
  print(table.markdown(rows))
  return 0


class Case(NamedTuple):
  experiment: Experiment
  place: Topology
  num_examples: int
  num_classes: int


def _plan(case: Case, cache: Path) -> Plan:
  return answer.make_plan(
    case.experiment,
    case.place,
    topology.devices(case.place),
    case.num_examples,
    case.num_classes,
    cache,
  )


def _write(path: Path | None, rows: Sequence[dict[str, Any]]) -> None:
  if path is None:
    return
  with path.open('w', newline='') as file:
    writer = csv.DictWriter(file, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
