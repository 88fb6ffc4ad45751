"""The commands that judge weights, use them or rewrite them."""

from __future__ import annotations

import itertools
from argparse import ArgumentParser
from pathlib import Path

from vit_jax import flags
from vit_jax.errors import UserError, nearest


def evaluate(argv: list[str]) -> int:
  """Judge a run: top-1, top-5, loss, calibration error and confusion matrix."""
  parser = flags.parser('evaluate', evaluate)
  parser.add_argument('--workdir', type=Path, required=True, help='the run folder')
  parser.add_argument(
    '--checkpoint',
    default='last',
    help="'last' (default), 'best' or a step; --config.KEY=VALUE changes a key "
    'that decides no result, such as config.mesh.fsdp',
  )
  flags.add_data_dir(parser)
  args, overrides = parser.parse_known_args(argv)
  from vit_jax.training.evaluate import evaluate_run

  evaluate_run(args.workdir, args.checkpoint, flags.data_dir(args), overrides)
  return 0


def predict(argv: list[str]) -> int:
  """Predict images with any model: classes, logits, features, attention."""
  parser = flags.parser('predict', predict)
  _add_weights(parser)
  parser.add_argument(
    '--input',
    required=True,
    nargs='+',
    metavar='IMAGES',
    help='image files, folders, or a float32 .npy (N, H, W, C) that goes in as it is',
  )
  parser.add_argument(
    '--output',
    type=flags.output('.npz'),
    metavar='OUT.npz',
    help='for logits (N, K), features (N, D) and files (N,)',
  )
  parser.add_argument('--top', type=flags.at_least(1), default=5, help='classes to print an image')
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
  size = args.image_size and tuple(args.image_size * 2)[:2]
  if args.image_size and len(args.image_size) > 2:
    raise UserError('--image_size takes one side, or height and width')
  from vit_jax.transfer import predict as work
  from vit_jax.transfer.images import open_images

  images = open_images(args.input)
  predictor = work.make_predictor(
    args.model,
    args.weights,
    flags.data_dir(args),
    array_shape=images.array_shape,
    image_size=size,
    num_classes=args.num_classes,
  )
  print(predictor.line, flush=True)
  if args.attention:
    from vit_jax.report import attention

    shown, stacks = predictor.attention(images)
    maps, words = attention.attention_maps(
      stacks, predictor.grid, predictor.has_class_token, args.rollout
    )
    attention.draw(shown, maps, [Path(name).name for name in images.names], words, args.attention)
    print(f'{args.attention}: {words}; {len(shown)} of {len(images)} images')
  answers = predictor.predict(images, args.batch)
  if args.output:
    work.write(args.output, images, answers)
  print('\n'.join(work.top_lines(predictor, images, answers, args.top)))
  return 0


def transfer(argv: list[str]) -> int:
  """Judge transfer: few-shot, nearest neighbours, linear probe, fine-tuning, on many data sets."""
  parser = flags.parser('transfer', transfer)
  _add_weights(parser, nargs='+', more='; or several, as in DINOv2-S/14@98=FILE RUN bag_of_words')
  parser.add_argument('--suite', help='offline, paper or vtab (docs/transfer.md)')
  parser.add_argument(
    '--data',
    nargs='+',
    default=(),
    metavar='NAME',
    help='data sets with splits train and test, in place of a suite',
  )
  parser.add_argument(
    '--methods',
    nargs='+',
    default=('few-shot', 'knn', 'linear'),
    help="of few-shot, knn, linear (default: these), head (the model's own, on "
    'ImageNet) and fine-tune',
  )
  parser.add_argument('--image_size', type=flags.at_least(1), help='a side in pixels')
  parser.add_argument(
    '--batch', type=flags.at_least(1), default=64, help='images at a time on a device'
  )
  parser.add_argument('--csv', type=flags.output(), help='also write the table here')
  parser.add_argument(
    '--json', type=flags.output(), help='also write the table here, with what was judged'
  )
  parser.add_argument(
    '--page', type=flags.output('.html'), help='also write a page with plots here (.html)'
  )
  parser.add_argument(
    '--recipe',
    default='configs/finetune.py',
    metavar='FILE',
    help='of fine-tuning (default: %(default)s); --config.KEY=VALUE changes it',
  )
  parser.add_argument(
    '--seeds',
    type=flags.at_least(0),
    nargs='+',
    default=[0],
    help='of fine-tuning, one training each',
  )
  parser.add_argument(
    '--workdir',
    type=Path,
    default=Path('runs/transfer'),
    help='of fine-tuning: the folder of run folders (default: %(default)s)',
  )
  flags.add_data_dir(parser)
  args, overrides = parser.parse_known_args(argv)
  from vit_jax.parallel.device import keep_cpu_memory
  from vit_jax.report import transfer as report
  from vit_jax.report.models import as_text
  from vit_jax.training import finetune
  from vit_jax.transfer import suite
  from vit_jax.transfer.contestants import contestants
  from vit_jax.transfer.tasks import open_task

  tasks = suite.tasks(args.suite, args.data)
  known = (*suite.METHODS, suite.HEAD, finetune.METHOD)
  for method in args.methods:
    if method not in known:
      raise UserError(f'--methods: {method!r} is not one; {nearest(method, known)}')
  tune = finetune.METHOD in args.methods
  if overrides and not tune:
    raise UserError(f'{overrides[0]!r} is not a flag of this command without --methods fine-tune')
  if tune:  # training gains from it; features of many examples would fill the memory twice
    keep_cpu_memory()
  data_dir = flags.data_dir(args)
  judged = contestants(args.weights, args.model, data_dir, args.image_size, args.batch)
  print('\n'.join(contestant.line for contestant in judged), flush=True)
  opened = [open_task(task, data_dir) for task in tasks]  # what is missing is said before an hour
  if tune:
    finetune.check(args.recipe, overrides, judged, tasks)
  rows = []
  for contestant in judged:
    for task, data in zip(tasks, opened, strict=True):
      parts = [suite.judge(contestant, task, data, args.methods, data_dir / 'features', args.batch)]
      if tune:
        parts.append(
          finetune.fine_tune(
            contestant,
            task,
            data,
            args.recipe,
            overrides,
            args.seeds,
            args.workdir,
            data_dir,
            args.batch,
          )
        )
      try:
        for row in itertools.chain(*parts):
          print(
            f'{row.model}, {row.task}: {row.method}, {row.setting}: {row.top1:.2f} % +- '
            f'{row.spread:.2f}',
            flush=True,
          )
          rows.append(row)
      except finetune.Stopped as stopped:
        return stopped.code
      suite.write(rows, args.csv, args.json, {'weights': args.weights})  # so that little is lost
  if not rows:
    raise UserError(
      f'--methods {" ".join(args.methods)}: none of them can be judged on '
      f'{", ".join(task.name for task in tasks)}; try linear'
    )
  print(as_text(suite.Row._fields, rows))
  means = suite.group_means(tasks, rows)
  if means:
    print(as_text(('model', 'group', 'metric', 'tasks', 'mean top1'), means))
  if args.page:
    report.write_page(rows, means, [contestant.line for contestant in judged], args.page)
  return 0


def convert(argv: list[str]) -> int:
  """Write published weights in another layout."""
  parser = flags.parser('convert', convert)
  parser.add_argument('--model', required=True, help='its name, such as DeiT-Ti/16')
  parser.add_argument(
    '--from',
    dest='source',
    required=True,
    metavar='FILE',
    help='.npz or .safetensors, an address, or augreg:B/16',
  )
  parser.add_argument('--to', type=flags.output(), required=True, help='.npz or .safetensors')
  parser.add_argument(
    '--layout',
    help='google, big_vision, timm or hf (default: google for .npz, '
    'else timm, where that can hold the model)',
  )
  parser.add_argument('--num_classes', type=int, help='another number, with a fresh head')
  flags.add_data_dir(parser)
  args = parser.parse_args(argv)
  from vit_jax.weights import load

  print(
    load.convert(
      args.model,
      args.source,
      args.to,
      args.layout,
      args.num_classes,
      flags.data_dir(args) / 'weights',
    )
  )
  return 0


def _add_weights(parser: ArgumentParser, nargs: str | None = None, more: str = '') -> None:
  parser.add_argument('--model', default='', help='its name, such as DeiT-Ti/16; a run knows it')
  parser.add_argument(
    '--weights',
    required=True,
    nargs=nargs,
    metavar='FILE|RUN',
    help=f'.npz or .safetensors, an address, augreg:B/16, or a run folder{more}',
  )
