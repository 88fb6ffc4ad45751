"""The command line: one command a job.

Exit codes: 0 done, 75 preempted and saved (run the same command again), 1 a fault in the run,
2 a fault in the user's input, told in one sentence.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ml_collections import ConfigDict

from vit_jax import config
from vit_jax.errors import UserError, nearest, storage_sentence


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
  """Write report.html for a run folder."""
  parser = _parser('report', report)
  parser.add_argument('runs', type=Path, nargs='+', help='run folders')
  args = parser.parse_args(argv)
  from vit_jax.report.page import write_page
  print(write_page(args.runs))
  return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    'prepare': prepare, 'train': train, 'evaluate': evaluate, 'bench': bench, 'report': report}


class _Parser(argparse.ArgumentParser):
  """argparse, but a mistake is one sentence."""

  def error(self, message: str) -> NoReturn:
    raise UserError(f'{self.prog}: {message}')


def _parser(name: str, command: Callable) -> argparse.ArgumentParser:
  return _Parser(prog=f'vit_jax {name}', description=command.__doc__, allow_abbrev=False)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--data_dir', type=Path,
                      help='prepared data sets (default: $VIT_JAX_DATA_DIR or ~/.cache/vit_jax)')


def _data_dir(args: argparse.Namespace) -> Path:
  from vit_jax.data.sources import default_data_dir
  return args.data_dir or default_data_dir()


def load_config(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
  """The ConfigDict of 'FILE' or 'FILE:ARG', with '--config.KEY=VALUE' overrides set in it.

  A value is read as a Python literal where it is one, and as text elsewhere. A key that the
  recipe leaves at its default is added; `config.resolve` then refuses keys that do not exist.
  """
  file, _, arg = spec.partition(':')
  path = Path(file)
  if not path.is_file():
    others = sorted(path.parent.glob('*.py')) if path.parent.is_dir() else []
    hint = nearest(path.name, [other.name for other in others]) if others else \
        f'the folder {path.parent} does not exist or holds no recipes'
    raise UserError(f'--config: there is no file {path}; {hint}')
  module_spec = importlib.util.spec_from_file_location(path.stem, path)
  assert module_spec and module_spec.loader
  module = importlib.util.module_from_spec(module_spec)
  module_spec.loader.exec_module(module)
  if not hasattr(module, 'get_config'):
    raise UserError(f'--config: {path} has no function get_config()')
  takes_arg = bool(inspect.signature(module.get_config).parameters)
  if arg and not takes_arg:
    raise UserError(f'--config: {path} takes no argument, but {arg!r} follows the colon')
  try:
    recipe = module.get_config(arg) if arg else module.get_config()
  except ValueError as error:
    raise UserError(f'--config: {path}: {error}') from None
  for override in overrides:
    _override(recipe, override)
  return recipe


def _override(recipe: ConfigDict, text: str) -> None:
  key, equals, value = text.partition('=')
  if not key.startswith('--config.') or not equals:
    raise UserError(f'{text!r} is not a flag of this command; keys of the recipe are changed with '
                    '--config.KEY=VALUE')
  *groups, last = key.removeprefix('--config.').split('.')
  node = recipe
  for group in groups:
    if group not in node:
      with node.unlocked():
        node[group] = ConfigDict()
    node = node[group]
    if not isinstance(node, ConfigDict):
      raise UserError(f'{key} cannot be set: config.{group} is a value, not a group of keys')
  with node.unlocked(), node.ignore_type():
    node[last] = _literal(value)


def _literal(text: str) -> Any:
  if text.lower() in ('true', 'false'):
    return text.lower() == 'true'
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


if __name__ == '__main__':
  sys.exit(main())
