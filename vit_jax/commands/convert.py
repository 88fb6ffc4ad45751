"""`vit_jax convert`."""

from vit_jax import weights
from vit_jax.commands import flags


def main(argv: list[str]) -> int:
  parser = flags.parser('convert')
  flags.add_weights(parser, '--from')
  add = parser.add_argument
  add('--to', type=flags.output(), required=True, help='.npz or .safetensors')
  words = 'google, big_vision, timm or hf (default: google for .npz, else timm, if it can hold it)'
  add('--layout', help=words)
  add('--num_classes', type=flags.at_least(0), help='another number, with a fresh head')
  args = parser.parse_args(argv)
  how = {'layout': args.layout, 'num_classes': args.num_classes, **flags.opening(args)}
  print(weights.convert(args.weights, args.to, **how))
  return 0
