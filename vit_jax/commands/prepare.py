"""`vit_jax prepare`."""

from vit_jax.commands import flags
from vit_jax.data import datasets, pairs


def main(argv: list[str]) -> int:
  parser = flags.parser('prepare')
  words = 'earth_climate, number_words, libreoffice_help:de ... (docs/datasets.md), or a TFDS name'
  parser.add_argument('name', help=words)
  flags.add_data_dir(parser)
  args = parser.parse_args(argv)

  prepare = pairs.prepare_pairs if pairs.is_ours(args.name) else datasets.prepare
  prepare(args.name, flags.data_dir(args))
  return 0
