"""`vit_jax bench`."""

import argparse
import json
from typing import Any

from vit_jax import models
from vit_jax.bench import feeding, timing
from vit_jax.commands import flags
from vit_jax.errors import UserError
from vit_jax.parallel.device import keep_cpu_memory
from vit_jax.paths import is_address, local
from vit_jax.writes import write


def main(argv: list[str]) -> int:
  parser = flags.parser('bench')
  add = parser.add_argument
  add('--model', default='B/16')
  add('--batch', type=flags.count, default=128, help='examples per step, over all devices')
  add('--image_size', type=flags.count, default=224)
  add('--length', type=flags.count, default=64, help='tokens of each side, of a translation model')
  add('--dtype', default='float32', choices=('float32', 'bfloat16', 'both'))
  add('--against', choices=('timm',), help='also time the PyTorch rival')
  words = 'a data set, or a folder of images: times its loader, the step, and both; who waits?'
  add('--data', metavar='NAME|DIR', help=words)
  flags.add_data_dir(parser)
  add('--seconds', type=flags.positive, default=20.0, help='of timing, for each contender')
  add('--json', type=flags.output(), help='also write the figures here')
  args = parser.parse_args(argv)

  if args.data:
    figures = _with_data(args)
  else:
    figures = _of_steps(args)
  if args.json is not None:
    write(args.json, json.dumps(figures, indent=2) + '\n')
  return 0


def _of_steps(args: argparse.Namespace) -> dict[str, Any]:
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
  return figures


def _with_data(args: argparse.Namespace) -> dict[str, Any]:
  if args.against or args.dtype == 'both' or models.reads_text(args.model):
    raise UserError(
      '--data times one model of images; leave out --against and --dtype=both, or leave out --data'
    )
  keep_cpu_memory()
  data = {'name': args.data}
  if not is_address(args.data) and (folder := local(args.data)).is_dir():
    data = {'name': 'folder', 'dir': str(folder)}
  figures = feeding.measure(
    {**data, 'image_size': (args.image_size,) * 2},
    {'name': args.model, 'dtype': args.dtype},
    args.batch,
    data_dir=flags.data_dir(args),
    seconds=args.seconds,
  )
  print(feeding.table(figures))
  return figures
