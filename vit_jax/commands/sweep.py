"""`vit_jax sweep`."""

from vit_jax.commands import flags
from vit_jax.commands.launch import parse
from vit_jax.errors import UserError
from vit_jax.launch import sweep, targets
from vit_jax.paths import is_address


def main(argv: list[str]) -> int:
  """0: all finished (or handed over), 75: interrupted, 1 or 2: a run failed so."""
  parser = flags.parser('sweep')
  parser.add_argument('--jobs', type=flags.count, default=1, help='at a time, on this host')
  args, rest = parse(parser, argv, 'the folder of run folders (default: runs/NAME_sweep)')
  if args.target == 'local' and is_address(args.workdir):
    raise UserError(
      f'--workdir: {args.workdir} is an address, and a sweep on this host keeps its runs and table '
      'here; name a path, or another --target, whose jobs train at addresses'
    )
  trials = sweep.trials(args.config, rest, args.workdir, args.name)
  jobs = sweep.jobs(trials, args)
  if args.print:
    texts = [f'# {name}\n{targets.render(job, args.target)}' for name, job in jobs.items()]
    print('\n---\n'.join(texts))
    return 0
  if args.target != 'local':
    return sweep.hand_over(jobs, args.target, trials[0].workdir.parent, args.submit)
  return sweep.train(trials, jobs, args.jobs)
