"""`vit_jax sweep`."""

from vit_jax.commands import flags
from vit_jax.commands.launch import add_flags, make_job, parse
from vit_jax.errors import PREEMPTED, USERS_FAULT
from vit_jax.launch import sweep, targets


def main(argv: list[str]) -> int:
  """0: all finished (or handed over), 75: interrupted, 1 or 2: a run failed so."""
  parser = flags.parser('sweep')
  add_flags(parser, 'the folder of run folders (default: runs/NAME_sweep)')
  parser.add_argument('--jobs', type=flags.at_least(1), default=1, help='at a time, on this host')
  args, rest = parse(parser, argv)

  trials = sweep.trials(args.config, rest, args.workdir, args.name)
  root = trials[0].workdir.parent
  jobs = sweep.with_labels(
    [
      make_job(
        args, f'{args.name or run.experiment.name}-{run.name}', str(run.workdir), run.overrides
      )
      for run in trials
    ]
  )
  todo = {run.name: job for run, job in zip(trials, jobs, strict=True) if run.status != 'finished'}
  if args.print:
    texts = [f'# {name}\n{targets.render(job, args.target)}' for name, job in todo.items()]
    print('\n---\n'.join(texts))
    return 0
  if args.target != 'local':
    return sweep.hand_over(todo, args.target, root, args.submit)
  print(f'{len(trials)} runs in {root}, {len(trials) - len(todo)} of them finished', flush=True)
  codes = sweep.train(todo, trials, args.jobs)
  print(sweep.write_table(trials))
  failed = {name: code for name, code in codes.items() if code not in (0, PREEMPTED)}
  for name, code in failed.items():
    print(f'{name} failed with exit code {code}')
  if failed:
    return USERS_FAULT if USERS_FAULT in failed.values() else 1
  return PREEMPTED if len(codes) < len(todo) or PREEMPTED in codes.values() else 0
