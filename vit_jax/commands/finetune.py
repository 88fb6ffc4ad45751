"""`vit_jax finetune`."""

from pathlib import Path

from vit_jax.commands import flags
from vit_jax.commands.train import run
from vit_jax.errors import UserError
from vit_jax.parallel.preemption import Preemption
from vit_jax.paths import is_address, local, place


def main(argv: list[str]) -> int:
  parser = flags.parser('finetune')
  flags.add_weights(parser)
  add = parser.add_argument
  words = 'a folder of images, one sub-folder per class, or the name of a data set'
  add('--data', required=True, metavar='DIR|NAME', help=words)
  words = "'backbone': train the head alone"
  add('--freeze', choices=('nothing', 'backbone'), default='nothing', help=words)
  words = 'the run folder (default: runs/MODEL_on_DATA)'
  add('--workdir', type=place, help=words)
  words = 'say what would be done, print the recipe as JSON, and start nothing'
  add('--dry_run', action='store_true', help=words)
  flags.add_accept_data(parser)
  args, updates = flags.parse(parser, argv)
  with Preemption() as preemption:  # before the imports, which take seconds
    from jax import process_index

    from vit_jax.transfer import defaults
    from vit_jax.transfer.compare import plain

    found = defaults.look(args.data, flags.data_dir(args))
    frozen = args.freeze == 'backbone'
    opening = flags.opening(args)
    x, line = defaults.recipe(args.weights, found, frozen=frozen, updates=updates, **opening)
    print(line, flush=True)
    if args.dry_run:
      print(x.to_json(), end='')
      return 0
    name = plain(f'{x.model.name}_on_{Path(args.data).name}')
    workdir = args.workdir or local(f'runs/{name}')
    begins = args.weights.partition('@')[0]
    if workdir == (begins if is_address(begins) else local(begins)):
      raise UserError(f'--workdir is {workdir}, the run to begin with; choose another')
    code = run(x, workdir, args, preemption)
    if code == 0 and process_index() == 0:
      to = workdir / 'export' if isinstance(workdir, Path) else Path('export')
      print(f'to use it elsewhere: vit_jax export {workdir} --to={to}')
  return code
