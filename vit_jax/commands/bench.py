"""`vit_jax bench`."""

import json

from vit_jax import models
from vit_jax.bench import timing
from vit_jax.commands import flags
from vit_jax.errors import writing
from vit_jax.parallel.device import keep_cpu_memory


def main(argv: list[str]) -> int:
  parser = flags.parser('bench')
  add = parser.add_argument
  add('--model', default='B/16')
  add('--batch', type=flags.count, default=128, help='examples per step, over all devices')
  add('--image_size', type=flags.count, default=224)
  add('--length', type=flags.count, default=64, help='tokens of each side, of a translation model')
  add('--dtype', default='float32', choices=('float32', 'bfloat16', 'both'))
  add('--against', choices=('timm',), help='also time the PyTorch rival')
  add('--seconds', type=flags.positive, default=20.0, help='of timing, for each contender')
  add('--json', type=flags.output(), help='also write the figures here')
  args = parser.parse_args(argv)

  keep_cpu_memory()
  figures = timing.measure(
    args.model,
    args.batch,
    shape=(args.length,) * 2 if models.reads_text(args.model) else (args.image_size,) * 2 + (3,),
    dtypes=('float32', 'bfloat16') if args.dtype == 'both' else (args.dtype,),
    against=args.against,
    seconds=args.seconds,
  )
  print(timing.table(figures))
  if args.json is not None:
    with writing(args.json):
      args.json.write_text(json.dumps(figures, indent=2) + '\n')
  return 0
