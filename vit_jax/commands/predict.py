"""`vit_jax predict`."""

from pathlib import Path

from vit_jax import weights
from vit_jax.commands import flags
from vit_jax.errors import UserError
from vit_jax.evaluate.images import open_images
from vit_jax.evaluate.predict import attend, predict, top_lines

DRAWN = 12  # images whose attention is drawn


def main(argv: list[str]) -> int:
  parser = flags.parser('predict')
  flags.add_weights(parser)
  parser.add_argument(
    '--input',
    required=True,
    nargs='+',
    metavar='IMAGES',
    help='image files, folders, or an .npy (N, H, W, C): float32 goes in as it is',
  )
  parser.add_argument(
    '--output',
    type=flags.output('.npz'),
    metavar='OUT.npz',
    help='for logits (N, K), features (N, D) and files (N,)',
  )
  parser.add_argument('--top', type=flags.at_least(1), default=5, help='classes to print per image')
  parser.add_argument(
    '--batch', type=flags.at_least(1), default=32, help='images at a time on a device'
  )
  parser.add_argument(
    '--image_size',
    type=flags.at_least(1),
    nargs='+',
    metavar='PIXELS',
    help='a side, or height and width (default: that of the weights)',
  )
  parser.add_argument('--num_classes', type=flags.at_least(0), help='0: features alone')
  parser.add_argument(
    '--attention',
    type=flags.output('.png'),
    metavar='OUT.png',
    help='picture of where the model looks',
  )
  parser.add_argument('--rollout', action='store_true', help='with --attention: over all layers')
  flags.add_data_dir(parser)
  args = parser.parse_args(argv)
  if args.rollout and not args.attention:
    raise UserError('--rollout is a kind of --attention; add --attention=OUT.png')
  if args.image_size and len(args.image_size) > 2:
    raise UserError('--image_size takes one side, or height and width')
  size = tuple(args.image_size * 2)[:2] if args.image_size else None

  images = open_images(args.input)
  if images.array_NHWC is not None:
    if size:
      raise UserError('--image_size is for image files; the array of --input goes in as it is')
    size = images.array_NHWC.shape[1:3]
  opened = weights.open(
    args.weights,
    model=args.model,
    options=flags.model_options(args),
    num_classes=args.num_classes,
    image_size=size,
    checkpoint=args.checkpoint,
    data_dir=flags.data_dir(args),
  )
  print(opened.line, flush=True)
  if args.attention:
    from vit_jax.report import attention  # here: matplotlib takes a second to import

    found = attend(opened.model, opened.variables, images, DRAWN)
    pooled = getattr(opened.model.options, 'pool', '')
    maps, words = attention.attention_maps(found.stacks, opened.grid, pooled == 'cls', args.rollout)
    names = [Path(name).name for name in found.names]
    attention.draw(found.images_NHWC, maps, names, words, args.attention)
    print(f'{args.attention}: {words}; {len(names)} of {len(images)} images')
  answers = predict(opened.model, opened.variables, images, batch_size=args.batch)
  if args.output:
    answers.save(args.output)
  print('\n'.join([*top_lines(answers, opened.class_names, args.top), *answers.unreadable]))
  return 0
