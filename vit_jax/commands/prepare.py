"""`vit_jax prepare`."""

from vit_jax.commands import flags
from vit_jax.data import datasets


def main(argv: list[str]) -> int:
  parser = flags.parser('prepare')
  parser.add_argument('name', help='earth_climate, fashion_mnist, or a TFDS name')
  flags.add_data_dir(parser)
  args = parser.parse_args(argv)

  datasets.prepare(args.name, flags.data_dir(args))
  return 0
