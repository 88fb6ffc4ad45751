"""`vit_jax export`."""

from vit_jax.commands import flags
from vit_jax.export.export import FORMATS, export
from vit_jax.paths import local


def main(argv: list[str]) -> int:
  parser = flags.parser('export')
  flags.add_weights(parser, 'weights')
  add = parser.add_argument
  words = 'a folder, in which each format has one of its own'
  add('--to', type=local, required=True, metavar='DIR', help=words)
  kinds = ', '.join(f'{name} ({words})' for name, words in FORMATS.items())
  words = f'some of {kinds}; by default all that have such a model'
  add('--formats', nargs='+', default=(), metavar='FORMAT', help=words)
  args = parser.parse_args(argv)
  for line in export(args.weights, args.to, args.formats, **flags.opening(args)):
    print(line, flush=True)
  return 0
