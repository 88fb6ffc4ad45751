"""`vit_jax predict`: images through any model, sentences through a translation run."""

import argparse

from vit_jax import weights
from vit_jax.commands import flags
from vit_jax.errors import UserError
from vit_jax.evaluate.images import open_images
from vit_jax.evaluate.predict import predict, top_lines, write_rows
from vit_jax.parallel.device import keep_cpu_memory
from vit_jax.parallel.programs import keep_programs
from vit_jax.writes import write

OUTPUTS = ('.npz', '.csv', '.jsonl')


def main(argv: list[str]) -> int:
  parser = flags.parser('predict')
  flags.add_weights(parser)
  add = parser.add_argument
  words = (
    'image files, folders, or an .npy (N, H, W, C), where float32 goes in as it is; of a '
    'translation run a text file, one sentence per line'
  )
  add('--input', required=True, nargs='+', metavar='INPUT', help=words)
  words = (
    'OUT.npz for logits (N, K), features (N, D) and files (N,); OUT.csv or OUT.jsonl for file, '
    'class and the probability of every class; OUT.txt for translations'
  )
  add('--output', type=flags.output(), metavar='OUT', help=words)
  add('--beam', type=flags.count, help='hypotheses of a translation (default: 1, greedy)')
  add('--length_penalty', type=flags.positive, help='with --beam (default: 0.6)')
  add('--top', type=flags.count, default=5, help='classes to print per image')
  add('--batch', type=flags.count, default=32, help='images at a time on a device')
  words = 'a side, or height and width (default: that of the weights)'
  add('--image_size', type=flags.count, nargs='+', metavar='PIXELS', help=words)
  add('--num_classes', type=flags.at_least(0), help='0: features alone')
  words = 'picture of where the model looks'
  add('--attention', type=flags.output('.png'), metavar='OUT.png', help=words)
  add('--rollout', action='store_true', help='with --attention: over all layers')
  args = parser.parse_args(argv)
  keep_programs()
  keep_cpu_memory(huge_pages=False)
  if weights.is_translation(args.weights):
    return _translate(args)
  if args.output and args.output.suffix not in OUTPUTS:
    raise UserError(f'--output: {str(args.output)!r} must be a {" or ".join(OUTPUTS)} file')
  if args.beam or args.length_penalty:
    raise UserError('--beam and --length_penalty are for translation runs; leave them out')
  if args.rollout and not args.attention:
    raise UserError('--rollout is a kind of --attention; add --attention=OUT.png')
  if args.image_size and len(args.image_size) > 2:
    raise UserError('--image_size takes one side, or height and width')

  images = open_images(args.input)
  if args.image_size and images.size:
    raise UserError('--image_size is for image files; the array of --input goes in as it is')
  size = (args.image_size[0], args.image_size[-1]) if args.image_size else images.size
  how = {'num_classes': args.num_classes, 'image_size': size, **flags.opening(args)}
  opened = weights.open(args.weights, **how)
  if args.output and args.output.suffix != '.npz' and not opened.model.num_classes:
    raise UserError(f'{args.output}: the model has no head, so no class to write; name an .npz')
  print('\n'.join([opened.line, *images.left_out]), flush=True)
  if args.attention:
    from vit_jax.report import attention  # here: matplotlib takes a second to import

    print(attention.write(opened, images, args.rollout, args.attention))
  answers = predict(opened.model, opened.variables, images, batch_size=args.batch)
  if args.output and args.output.suffix == '.npz':
    answers.save(args.output)
  elif args.output:
    write_rows(args.output, answers, opened.class_names, opened.loss)
  lines = top_lines(answers, opened.class_names, args.top, opened.loss)
  print('\n'.join([*lines, *answers.unreadable]))
  return 0


def _translate(args: argparse.Namespace) -> int:
  from vit_jax.evaluate import translate  # here: images need no vocabularies

  for name in ('image_size', 'num_classes', 'rollout', 'model', 'option', *flags.INPUTS):
    if getattr(args, name):
      raise UserError(f'--{name} is for images; leave it out with a translation run')
  if args.output and args.output.suffix != '.txt':
    raise UserError(f'--output: {str(args.output)!r} must be a .txt file, for translations')
  opened = translate.open_run(args.weights, args.checkpoint)
  texts = [text for path in args.input for text in translate.read_sentences(path)]
  print(opened.line, flush=True)
  found = translate.translate(
    opened.translator,
    texts,
    beam=args.beam or 1,
    alpha=args.length_penalty or 0.6,
    batch=args.batch,
  )
  if args.attention:
    from vit_jax.report.alignment import draw  # here: matplotlib takes a second to import

    draw(opened.translator.alignments([(texts[0], found[0])]), texts[0], found[0], args.attention)
    print(f'{args.attention}: attention of the first sentence')
  if args.output:
    write(args.output, '\n'.join([*found, '']))
  print('\n'.join(found))
  return 0
