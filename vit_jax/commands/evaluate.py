"""`vit_jax evaluate`."""

import numpy as np

from vit_jax.commands import flags
from vit_jax.evaluate import metrics
from vit_jax.evaluate.judge import Judged
from vit_jax.run import Run
from vit_jax.tables import as_text
from vit_jax.train.evaluate import evaluate_run

MATRIX_CLASSES, WORST_PAIRS = 24, 20


def main(argv: list[str]) -> int:
  parser = flags.parser('evaluate')
  parser.add_argument('--workdir', required=True, help='the run folder')
  parser.add_argument(
    '--checkpoint',
    default='last',
    help="'last' (default), 'best' or a step; --config.KEY=VALUE changes a key that decides no "
    'result, such as config.mesh.fsdp, or adds a line to config.evals',
  )
  flags.add_accept_data(parser)
  flags.add_data_dir(parser)
  args, updates = flags.parse(parser, argv)
  run = Run(args.workdir)
  step, judged = evaluate_run(
    run, args.checkpoint, updates, flags.data_dir(args), accept_data=args.accept_data
  )
  for name, found in judged.items():
    source = found.test.source
    print(f'{run.path} at step {step}, {name}: {len(source)} examples of {source.name}')
    print('  '.join(f'{metric} {value:.4f}' for metric, value in found.metrics.items()))
    if found.rows is not None and found.test.right_NK is None:
      print(confusion_text(found))
  return 0


def confusion_text(found: Judged) -> str:
  """The confusion matrix (rows true, columns predicted); of many classes the worst pairs."""
  assert found.rows is not None
  names, label_N = found.test.source.class_names, found.rows['label']
  prediction_N = found.rows['prediction']
  if len(names) > MATRIX_CLASSES:
    pairs = metrics.confused(label_N, prediction_N)[:WORST_PAIRS]
    return as_text(
      ('true', 'predicted', 'count'), [(names[k], names[j], count) for k, j, count in pairs]
    )
  counts_KK = np.zeros((len(names), len(names)), int)
  np.add.at(counts_KK, (label_N[label_N >= 0], prediction_N[label_N >= 0]), 1)
  return as_text(
    ('true', *names), [(name, *map(int, row)) for name, row in zip(names, counts_KK, strict=True)]
  )
