"""`vit_jax prepare`."""

from vit_jax.commands import flags
from vit_jax.data import datasets, pairs
from vit_jax.errors import UserError


def main(argv: list[str]) -> int:
  parser = flags.parser('prepare')
  words = (
    'earth_climate, number_words, libreoffice_help:de ... (docs/datasets.md), a TFDS name, or with '
    '--to your own images: folder:DIR, table:FILE, huggingface:DIR, webdataset:DIR or ilsvrc:DIR; '
    '--config.data.KEY=VALUE says how they are read'
  )
  parser.add_argument('name', help=words)
  words = 'the name under which your own images are prepared, for --config.data.name'
  parser.add_argument('--to', metavar='NAME', default='', help=words)
  words = 'with --to: make larger images smaller, so that their shorter side is this'
  parser.add_argument('--shorter_side', type=flags.count, metavar='PIXELS', default=0, help=words)
  flags.add_data_dir(parser, writes=True)
  args, updates = flags.parse(parser, argv)
  if args.to:
    from vit_jax.data.datasets.listed import prepare_listed  # here: it opens all kinds of data

    data, data_dir = flags.image_data(args.name, updates), flags.data_dir(args)
    print('\n'.join(prepare_listed(data, args.to, data_dir, args.shorter_side)))
    return 0
  if args.shorter_side or updates:
    given = '--shorter_side' if args.shorter_side else f'--config.{next(iter(updates))}'
    raise UserError(f'{given} is for your own images; name what they become by --to=NAME')
  prepare = pairs.prepare_pairs if pairs.is_ours(args.name) else datasets.prepare
  prepare(args.name, flags.data_dir(args))
  return 0
