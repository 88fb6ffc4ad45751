"""`vit_jax plan`."""

import jax

from vit_jax import config
from vit_jax.commands import flags
from vit_jax.errors import UserError
from vit_jax.parallel import topology
from vit_jax.plan import compilers, describe, planner, search
from vit_jax.plan.program import Case
from vit_jax.plan.sizes import data_size
from vit_jax.tables import write_csv


def main(argv: list[str]) -> int:
  parser = flags.parser('plan')
  add = parser.add_argument
  flags.add_config(parser, nargs='+')
  words = f'chips: {topology.EXAMPLES}; several recipes or topologies make a table'
  add('--topology', required=True, nargs='+', metavar='CHIP:SHAPE', help=words)
  words = 'find mesh, remat and accumulation that fit and are fast'
  add('--search', action='store_true', help=words)
  words = 'MB/s of a host to the bucket of the run folder: says what a save costs'
  add('--bandwidth', type=flags.positive, default=0.0, metavar='MB/s', help=words)
  add('--csv', type=flags.output(), help='also write the table here')
  flags.add_sizes(parser)
  flags.add_data_dir(parser)
  args, updates = flags.parse(parser, argv)
  cache = flags.data_dir(args) / 'plans'

  # Nothing runs here: no accelerator is started, which may be in use by another run.
  jax.config.update('jax_platforms', 'cpu')
  places = [topology.parse(text) for text in args.topology]
  recipes = [config.recipe(spec, updates) for spec in args.config]
  cases = [
    Case(x, place, *data_size(x.data, args.num_examples, args.num_classes))
    for x in recipes
    for place in places
  ]
  for place in places:
    compilers.require(place.chip)
  case, rows = cases[0], []
  if args.bandwidth and len(cases) > 1:
    raise UserError('--bandwidth takes one recipe and one topology')
  if args.search:
    if len(cases) > 1:
      raise UserError('--search takes one recipe and one topology')
    plans = search.search(case, cache)
    text = describe.search_text(plans, case.experiment, args.bandwidth)
    rows = [describe.row(case._replace(experiment=p.trainer.experiment), p) for p in plans]
  elif len(cases) == 1:
    plan = planner.make_plan(case, cache)
    text, rows = describe.plan_text(plan, args.bandwidth), [describe.row(case, plan)]
  else:
    for row in describe.plan_rows(cases, cache):
      rows.append(row)
      if args.csv:
        write_csv(args.csv, rows)  # half of a long table is worth having
    text = describe.markdown(rows)
  if args.csv:
    write_csv(args.csv, rows)
  print(text)
  return 0
