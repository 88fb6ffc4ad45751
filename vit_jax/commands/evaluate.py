"""`vit_jax evaluate`."""

from vit_jax.commands import flags
from vit_jax.config import ImageData
from vit_jax.data.found import found_in
from vit_jax.data.pixels import Pixels
from vit_jax.models.inputs import changed
from vit_jax.parallel.programs import keep_programs
from vit_jax.run import Run
from vit_jax.train.evaluate import evaluate_run


def main(argv: list[str]) -> int:
  parser = flags.parser('evaluate')
  parser.add_argument('--workdir', required=True, help='the run folder, also an address')
  parser.add_argument(
    '--checkpoint',
    default='last',
    help="'last' (default), 'best' or a step; --config.KEY=VALUE changes a key that decides no "
    'result, such as config.mesh.fsdp, or adds a line to config.evals',
  )
  flags.add_inputs(parser)
  flags.add_accept_data(parser)
  flags.add_data_dir(parser)
  args, updates = flags.parse(parser, argv)
  keep_programs()
  run, inputs = Run(args.workdir), flags.inputs(args)
  how = {'accept_data': args.accept_data, 'inputs': inputs}
  step, judged = evaluate_run(run, args.checkpoint, updates, flags.data_dir(args), **how)
  if isinstance(run.experiment.data, ImageData):
    seen = changed(run.inputs, inputs)
    print(f'sees images as {seen.source}: {seen.words}')
    for data in found_in((each.source for each in judged.values()), Pixels.of(seen)):
      print(data.line)
  for name, found in judged.items():
    source = found.source
    print(f'{run.place} at step {step}, {name}: {len(source)} examples of {source.name}')
    print('  '.join(f'{metric} {value:.4f}' for metric, value in found.metrics.items()))
    if details := found.details():
      print(details)
  return 0
