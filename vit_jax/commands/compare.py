"""`vit_jax compare`."""

from pathlib import Path

from vit_jax.commands import flags
from vit_jax.parallel.device import keep_cpu_memory
from vit_jax.parallel.programs import keep_programs
from vit_jax.paths import local
from vit_jax.report.comparison import write_comparison
from vit_jax.transfer.compare import Interrupted, compare, plain


def main(argv: list[str]) -> int:
  parser = flags.parser('compare')
  add = parser.add_argument
  words = 'such as lecture or ingredients:earth_climate; --config.KEY=VALUE changes all systems'
  add('--config', required=True, metavar='NAME|FILE', help=words)
  add('--workdir', type=local, help='the folder of run folders (default: runs/NAME)')
  words = 'one training each, after the choices are made'
  add('--seeds', type=flags.at_least(0), nargs='+', default=[0], help=words)
  add('--csv', type=flags.output(), help='also write the table here')
  add('--json', type=flags.output(), help='also write the table here')
  words = 'also draw here: accuracy against costs, or translations by length of the source'
  add('--plot', type=flags.output('.png'), help=words)
  flags.add_data_dir(parser)
  args, updates = flags.parse(parser, argv)
  keep_programs()
  keep_cpu_memory()
  file, _, arg = args.config.partition(':')
  root = args.workdir or local('_'.join(filter(None, (f'runs/{Path(file).stem}', plain(arg)))))
  try:
    compare(args.config, updates, args.seeds, root, flags.data_dir(args))
  except Interrupted as stopped:
    return stopped.code
  print(write_comparison(root, args.csv, args.json, args.plot))
  return 0
