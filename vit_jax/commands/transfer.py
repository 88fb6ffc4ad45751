"""`vit_jax transfer`."""

import json

from vit_jax.commands import flags
from vit_jax.errors import UserError
from vit_jax.parallel.device import keep_cpu_memory
from vit_jax.parallel.programs import keep_programs
from vit_jax.paths import local
from vit_jax.redaction import redacted
from vit_jax.report.transfer import write_page
from vit_jax.tables import as_text, write_csv
from vit_jax.transfer import finetune, suite
from vit_jax.transfer.candidates import candidates
from vit_jax.transfer.compare import Interrupted
from vit_jax.transfer.transfer import transfer
from vit_jax.writes import write


def main(argv: list[str]) -> int:
  parser = flags.parser('transfer')
  more = '; or several, as in DINOv2-S/14@98=FILE RUN bag_of_words'
  flags.add_weights(parser, nargs='+', more=more)
  add = parser.add_argument
  add('--suite', help='offline, paper or vtab (docs/transfer.md)')
  words = 'data sets with splits train and test, in place of a suite'
  add('--data', nargs='+', default=(), metavar='NAME', help=words)
  methods = suite.METHODS
  words = (
    f"of {', '.join(methods)} (default: the first three); classify judges the model's own head, "
    'on ImageNet'
  )
  add('--methods', nargs='+', choices=methods, default=methods[:3], metavar='METHOD', help=words)
  add('--image_size', type=flags.count, help='a side in pixels')
  add('--batch', type=flags.count, default=64, help='images at a time on a device')
  add('--csv', type=flags.output(), help='also write the table here')
  add('--json', type=flags.output(), help='also write the table here, with what was judged')
  add('--page', type=flags.output('.html'), help='also write a page with plots here (.html)')
  words = 'of fine-tuning (default: %(default)s); --config.KEY=VALUE changes it'
  add('--recipe', default='finetune', metavar='NAME|FILE', help=words)
  words = 'of fine-tuning, one training each'
  add('--seeds', type=flags.at_least(0), nargs='+', default=[0], help=words)
  words = 'of fine-tuning: the folder of run folders (default: %(default)s)'
  add('--workdir', type=local, default=local('runs/transfer'), help=words)
  args, updates = flags.parse(parser, argv)
  tasks, data_dir = suite.tasks(args.suite, args.data), flags.data_dir(args)
  keep_programs()
  if finetune.METHOD in args.methods:
    keep_cpu_memory()  # training gains; features of many examples would fill the memory twice
  elif updates:
    raise UserError(f'--config.{next(iter(updates))} is for --methods {finetune.METHOD}; add it')
  judged = candidates(
    args.weights, batch=args.batch, image_size=args.image_size, **flags.opening(args)
  )
  print('\n'.join(candidate.line for candidate in judged), flush=True)
  tuning = finetune.FineTuning(args.recipe, updates, args.seeds, args.workdir, data_dir, args.batch)
  rows = []
  try:
    for rows in transfer(judged, tasks, args.methods, tuning):
      values = [row._asdict() for row in rows]
      if args.csv:
        write_csv(args.csv, values)
      if args.json:
        found = {'weights': redacted(args.weights), 'rows': values}
        write(args.json, json.dumps(found, indent=2) + '\n')
  except Interrupted as stopped:
    return stopped.code
  means = suite.group_means(tasks, rows)
  print(as_text(suite.TransferRow._fields, rows))
  if means:
    print(as_text(suite.GroupMean._fields, means))
  if args.page:
    write_page(rows, means, [candidate.line for candidate in judged], args.page)
  return 0
