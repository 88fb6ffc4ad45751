"""`vit_jax convert`."""

from vit_jax import weights
from vit_jax.commands import flags


def main(argv: list[str]) -> int:
  parser = flags.parser('convert')
  flags.add_weights(parser, flag='--from')
  parser.add_argument('--to', type=flags.output(), required=True, help='.npz or .safetensors')
  parser.add_argument(
    '--layout',
    help='google, big_vision, timm or hf (default: google for .npz, else timm, where that can hold '
    'the model)',
  )
  parser.add_argument('--num_classes', type=int, help='another number, with a fresh head')
  flags.add_data_dir(parser)
  args = parser.parse_args(argv)
  line = weights.convert(
    args.weights,
    args.to,
    model=args.model,
    options=flags.model_options(args),
    layout=args.layout,
    num_classes=args.num_classes,
    checkpoint=args.checkpoint,
    data_dir=flags.data_dir(args),
  )
  print(line)
  return 0
