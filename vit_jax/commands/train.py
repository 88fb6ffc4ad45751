"""`vit_jax train`."""

from vit_jax.commands import flags
from vit_jax.parallel.preemption import Preemption
from vit_jax.paths import local


def main(argv: list[str]) -> int:
  parser = flags.parser('train')
  flags.add_config(parser)
  words = 'the run folder (default: runs/NAME of the recipe)'
  parser.add_argument('--workdir', type=local, help=words)
  flags.add_accept_data(parser)
  flags.add_data_dir(parser)
  args, updates = flags.parse(parser, argv)
  with Preemption() as preemption:  # before the imports, which take seconds
    import jax

    from vit_jax import config
    from vit_jax.parallel.device import keep_cpu_memory
    from vit_jax.report.page import write_page
    from vit_jax.train.loop import train

    x = config.recipe(args.config, updates)
    workdir = args.workdir or local(f'runs/{x.name}')
    keep_cpu_memory()
    code = train(x, workdir, flags.data_dir(args), preemption, accept_data=args.accept_data)
    if code == 0 and jax.process_index() == 0:
      # One process of several cannot read a checkpoint alone.
      print(f'report: {write_page([workdir], weights=jax.process_count() == 1)}')
  return code
