"""The command line: one command a job.

Exit codes: 0 done, 75 preempted and saved (run the same command again), 1 a fault in the run,
2 a fault in the user's input, told in one sentence.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from vit_jax import config
from vit_jax.errors import UserError, nearest, storage_sentence
from vit_jax.recipes import load_config


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command and returns its exit code."""
  argv = list(sys.argv[1:] if argv is None else argv)
  try:
    return _run(argv)
  except UserError as error:
    print(f'vit_jax: {error}', file=sys.stderr)
    return 2
  except Exception as error:
    sentence = storage_sentence(error, 'the run folder or the data folder')
    if sentence is None:
      raise
    print(f'vit_jax: {sentence}', file=sys.stderr)
    return 2


def _run(argv: list[str]) -> int:
  if not argv or argv[0] in ('-h', '--help'):
    print(_help())
    return 0 if argv else 2
  if argv[0] == '--version':
    from vit_jax import __version__
    print(__version__)
    return 0
  name, *rest = argv
  if name not in COMMANDS:
    raise UserError(f'{name!r} is not a command; {nearest(name, COMMANDS)}')
  return COMMANDS[name](rest)


def _help() -> str:
  lines = [f'  {name:10}{(command.__doc__ or "").splitlines()[0]}'
           for name, command in COMMANDS.items()]
  return 'usage: vit_jax COMMAND [--flag=value ...]\n\n' + '\n'.join(lines) + \
      '\n\nvit_jax COMMAND --help lists the flags of a command.'


def prepare(argv: list[str]) -> int:
  """Prepare a data set: vit_jax prepare earth_climate."""
  parser = _parser('prepare', prepare)
  parser.add_argument('name', help='earth_climate, fashion_mnist, or a TFDS name')
  _add_data_dir(parser)
  args = parser.parse_args(argv)
  from vit_jax.data import datasets
  datasets.prepare(args.name, _data_dir(args))
  return 0


def train(argv: list[str]) -> int:
  """Train, evaluate and leave a run folder; run it again to go on after an interruption."""
  parser = _parser('train', train)
  parser.add_argument('--config', required=True, metavar='FILE[:ARG]',
                      help='a recipe; --config.KEY=VALUE changes a key of it')
  parser.add_argument('--workdir', type=Path, help='the run folder (default: runs/NAME)')
  _add_data_dir(parser)
  args, overrides = parser.parse_known_args(argv)
  x = config.resolve(load_config(args.config, overrides))
  workdir = args.workdir or Path('runs') / x.name
  from vit_jax.parallel.device import keep_cpu_memory
  from vit_jax.report.page import write_page
  from vit_jax.training import loop
  keep_cpu_memory()
  code = loop.train(x, workdir, _data_dir(args))
  if code == 0:
    print(f'report: {write_page([workdir])}')
  return code


def evaluate(argv: list[str]) -> int:
  """Judge a run: top-1, top-5, loss, calibration error and confusion matrix."""
  parser = _parser('evaluate', evaluate)
  parser.add_argument('--workdir', type=Path, required=True, help='the run folder')
  parser.add_argument('--checkpoint', default='last', help="'last' (default), 'best' or a step")
  _add_data_dir(parser)
  args = parser.parse_args(argv)
  from vit_jax.training.evaluate import evaluate_run
  evaluate_run(args.workdir, args.checkpoint, _data_dir(args))
  return 0


def bench(argv: list[str]) -> int:
  """Time the train step on synthetic data, alone or against timm."""
  parser = _parser('bench', bench)
  parser.add_argument('--model', default='B/16')
  parser.add_argument('--batch', type=int, default=128, help='images a step, over all devices')
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--dtype', default='float32', choices=('float32', 'bfloat16', 'both'))
  parser.add_argument('--against', choices=('timm',), help='also time the PyTorch rival')
  parser.add_argument('--seconds', type=float, default=20.0, help='of timing, for each contender')
  parser.add_argument('--json', type=Path, help='also write the figures here')
  args = parser.parse_args(argv)
  from vit_jax.bench.run import run
  from vit_jax.parallel.device import keep_cpu_memory
  keep_cpu_memory()
  dtypes = ('float32', 'bfloat16') if args.dtype == 'both' else (args.dtype,)
  run(args.model, args.batch, image_size=args.image_size, dtypes=dtypes,
      against=args.against, seconds=args.seconds, json_path=args.json)
  return 0


def report(argv: list[str]) -> int:
  """Write report.html for a run folder, or print a table of the models."""
  parser = _parser('report', report)
  parser.add_argument('runs', type=Path, nargs='*', help='run folders')
  parser.add_argument('--table', choices=('models', 'timm'),
                      help='models: parameters and GMACs of every model; timm: beside its table')
  parser.add_argument('--csv', type=Path, help='also write the table here')
  args = parser.parse_args(argv)
  if args.table and args.runs:
    raise UserError(f'--table: a table is of models, not of run folders; leave {args.runs[0]} out')
  if args.table:
    from vit_jax.report.models import write_table
    print(write_table(args.table, args.csv))
    return 0
  if not args.runs:
    raise UserError('report: name at least one run folder, or a table as in --table=models')
  if args.csv:
    raise UserError('--csv writes a table, but none is asked for; add --table=models')
  from vit_jax.report.page import write_page
  print(write_page(args.runs))
  return 0


def predict(argv: list[str]) -> int:
  """Predict images with any model: classes, logits, features, attention."""
  parser = _parser('predict', predict)
  parser.add_argument('--model', default='', help='its name, such as DeiT-Ti/16; a run knows it')
  parser.add_argument('--weights', required=True, metavar='FILE|RUN',
                      help='.npz or .safetensors, an address, augreg:B/16, or a run folder')
  parser.add_argument('--input', required=True, nargs='+', metavar='IMAGES',
                      help='image files, folders, or a float32 .npy (N, H, W, C) that goes in as '
                           'it is')
  parser.add_argument('--output', type=Path, metavar='OUT.npz',
                      help='for logits (N, K), features (N, D) and files (N,)')
  parser.add_argument('--top', type=_at_least(1), default=5, help='classes to print an image')
  parser.add_argument('--batch', type=_at_least(1), default=32, help='images at a time')
  parser.add_argument('--image_size', type=_at_least(1), nargs='+', metavar='PIXELS',
                      help='a side, or height and width (default: that of the weights)')
  parser.add_argument('--num_classes', type=_at_least(0), help='0: features alone')
  parser.add_argument('--attention', type=Path, metavar='OUT.png',
                      help='picture of where the model looks')
  parser.add_argument('--rollout', action='store_true', help='with --attention: over all layers')
  _add_data_dir(parser)
  args = parser.parse_args(argv)
  if args.rollout and not args.attention:
    raise UserError('--rollout is a kind of --attention; add --attention=OUT.png')
  size = args.image_size and tuple(args.image_size * 2)[:2]
  if args.image_size and len(args.image_size) > 2:
    raise UserError('--image_size takes one side, or height and width')
  for flag, suffix in (('output', '.npz'), ('attention', '.png')):
    path = getattr(args, flag)
    if path is not None and (path.suffix != suffix or not path.absolute().parent.is_dir()):
      raise UserError(f'--{flag} is {path}; it must be a {suffix} file in a folder that exists')
  from vit_jax.transfer import predict as work
  from vit_jax.transfer.images import open_images
  images = open_images(args.input)
  predictor = work.make_predictor(args.model, args.weights, images, _data_dir(args),
                                  image_size=size, num_classes=args.num_classes)
  print(predictor.line, flush=True)
  if args.attention:
    from vit_jax.report import attention
    shown, stacks = predictor.attention(images)
    maps, words = attention.attention_maps(stacks, predictor.grid, predictor.has_class_token,
                                           args.rollout)
    attention.draw(shown, maps, [Path(name).name for name in images.names], words, args.attention)
    print(f'{args.attention}: {words}; {len(shown)} of {len(images)} images')
  answers = predictor.predict(images, args.batch)
  if args.output:
    work.write(args.output, images, answers)
  print('\n'.join(work.top_lines(predictor, images, answers, args.top)))
  return 0


def convert(argv: list[str]) -> int:
  """Write published weights in another layout."""
  parser = _parser('convert', convert)
  parser.add_argument('--model', required=True, help='its name, such as DeiT-Ti/16')
  parser.add_argument('--from', dest='source', required=True, metavar='FILE',
                      help='.npz or .safetensors, an address, or augreg:B/16')
  parser.add_argument('--to', type=Path, required=True, help='.npz or .safetensors')
  parser.add_argument('--layout', help='google, timm or hf (default: google for .npz, else timm)')
  parser.add_argument('--num_classes', type=int, help='another number, with a fresh head')
  _add_data_dir(parser)
  args = parser.parse_args(argv)
  from vit_jax.weights import load
  print(load.convert(args.model, args.source, args.to, args.layout, args.num_classes,
                     _data_dir(args) / 'weights'))
  return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    'prepare': prepare, 'train': train, 'evaluate': evaluate, 'predict': predict,
    'convert': convert, 'bench': bench, 'report': report}


class _Parser(argparse.ArgumentParser):
  """argparse, but a mistake is one sentence."""

  def error(self, message: str) -> NoReturn:
    raise UserError(f'{self.prog}: {message}')


def _at_least(least: int) -> Callable[[str], int]:
  def number(text: str) -> int:
    if not text.isdecimal() or int(text) < least:
      raise argparse.ArgumentTypeError(f'{text!r} is no whole number of at least {least}')
    return int(text)
  return number


def _parser(name: str, command: Callable) -> argparse.ArgumentParser:
  return _Parser(prog=f'vit_jax {name}', description=command.__doc__, allow_abbrev=False)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--data_dir', type=Path,
                      help='prepared data sets (default: $VIT_JAX_DATA_DIR or ~/.cache/vit_jax)')


def _data_dir(args: argparse.Namespace) -> Path:
  from vit_jax.data.sources import default_data_dir
  return args.data_dir or default_data_dir()


if __name__ == '__main__':
  sys.exit(main())
