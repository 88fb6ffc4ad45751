"""`vit_jax bench`."""

import json

from vit_jax.bench import timing
from vit_jax.commands import flags
from vit_jax.errors import writing
from vit_jax.parallel.device import keep_cpu_memory


def main(argv: list[str]) -> int:
  parser = flags.parser('bench')
  parser.add_argument('--model', default='B/16')
  parser.add_argument(
    '--batch', type=flags.at_least(1), default=128, help='images per step, over all devices'
  )
  parser.add_argument('--image_size', type=flags.at_least(1), default=224)
  parser.add_argument('--dtype', default='float32', choices=('float32', 'bfloat16', 'both'))
  parser.add_argument('--against', choices=('timm',), help='also time the PyTorch rival')
  parser.add_argument(
    '--seconds', type=flags.positive, default=20.0, help='of timing, for each contender'
  )
  parser.add_argument('--json', type=flags.output(), help='also write the figures here')
  args = parser.parse_args(argv)

  keep_cpu_memory()
  dtypes = ('float32', 'bfloat16') if args.dtype == 'both' else (args.dtype,)
  figures = timing.measure(
    args.model,
    args.batch,
    image_size=args.image_size,
    dtypes=dtypes,
    against=args.against,
    seconds=args.seconds,
  )
  print(timing.table(figures))
  if args.json is not None:
    with writing(args.json):
      args.json.write_text(json.dumps(figures, indent=2) + '\n')
  return 0
