"""`vit_jax stats`."""

from vit_jax.commands import flags
from vit_jax.config import as_flag
from vit_jax.data import found, sources
from vit_jax.data.pixels import Pixels
from vit_jax.data.statistics import measure


def main(argv: list[str]) -> int:
  parser = flags.parser('stats')
  words = (
    'a data set, or your own images, such as folder:DIR; --config.data.KEY=VALUE as in training'
  )
  parser.add_argument('name', help=words)
  words = 'images to read, drawn at random (default: 10,000)'
  parser.add_argument('--images', type=flags.count, default=10_000, help=words)
  flags.add_data_dir(parser)
  args, updates = flags.parse(parser, argv)
  data = flags.image_data(args.name, updates)
  source = sources.open_source(data, data.train, flags.data_dir(args))
  if listing := sources.listing_of(source):
    print(found.found(listing, Pixels.of(data)).line)
  measured = measure(source, data, args.images)
  (h, mid_h, H), (w, mid_w, W) = measured.heights, measured.widths
  print(
    f'{measured.images:,} of {len(source):,} images of {source.name}, {source.split}: heights {h} '
    f'to {H}, median {mid_h}; widths {w} to {W}, median {mid_w}'
  )
  if measured.unreadable:
    print(f'{measured.unreadable:,} could not be read')
  print('\n'.join(as_flag(key, value) for key, value in measured.keys.items()))
  return 0
