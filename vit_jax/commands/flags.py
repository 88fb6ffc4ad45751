"""What the commands' flags have in common."""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vit_jax.commands import COMMANDS
from vit_jax.config import ImageData
from vit_jax.config.recipes import from_flags
from vit_jax.errors import UserError
from vit_jax.fields import MOST, build, whole
from vit_jax.paths import default_data_dir, is_address, local

INPUTS = ('mean', 'std', 'crop', 'interpolation')


class Parser(argparse.ArgumentParser):
  """argparse, but a mistake is one sentence."""

  def error(self, message: str) -> NoReturn:
    raise UserError(f'{self.prog}: {message}')


def at_least(least: int) -> Callable[[str], int]:
  def number(text: str) -> int:
    found = whole(text)
    if found is None or not least <= found <= MOST:
      raise argparse.ArgumentTypeError(f'{text!r} is no whole number from {least} to {MOST}')
    return found

  return number


count = at_least(1)


def positive(text: str) -> float:
  try:
    number = float(text)
  except ValueError:
    number = math.nan
  if not 0 < number < math.inf:
    raise argparse.ArgumentTypeError(f'{text!r} is no finite number above 0')
  return number


def output(suffix: str = '') -> Callable[[str], Path]:
  """An output file. One that cannot be written is refused before the work, not after it."""

  def place(text: str) -> Path:
    path = local(text)
    fits = path.suffix == suffix or not suffix
    if not fits or path.is_dir() or not path.absolute().parent.is_dir():
      kind = f'a {suffix} file' if suffix else 'a file'
      raise argparse.ArgumentTypeError(f'{text!r} must be {kind} in a folder that exists')
    return path

  return place


def parser(name: str) -> argparse.ArgumentParser:
  return Parser(prog=f'vit_jax {name}', description=COMMANDS[name], allow_abbrev=False)


def parse(
  parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, dict[str, Any]]:
  """The flags, and the values by key of those that change the recipe: --config.KEY=VALUE."""
  args, rest = parser.parse_known_args(argv)
  return args, from_flags(rest)


def image_data(name: str, updates: Mapping[str, Any]) -> ImageData:
  """The data `name` with what `parse` found, all of it config.data.KEY."""
  if strange := [key for key in updates if not key.startswith('data.')]:
    raise UserError(f'--config.{strange[0]} is not read here; keys of config.data are')
  keys = {key.removeprefix('data.'): value for key, value in updates.items()}
  return build(ImageData, {'name': name, **keys}, 'config.data')


def pair(text: str) -> tuple[str, str]:
  key, equals, value = text.partition('=')
  if not equals:
    raise argparse.ArgumentTypeError(f'{text!r} should be KEY=VALUE, such as pool=mean')
  return key, value


def add_config(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
  words = 'a recipe (`vit_jax recipes` lists ours); --config.KEY=VALUE changes a key of it'
  parser.add_argument('--config', required=True, nargs=nargs, metavar='NAME|FILE[:ARG]', help=words)


def add_keys(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
  """Ends --help with all keys of a recipe."""
  if '--help' in argv or '-h' in argv:  # reading the schema takes a moment
    from vit_jax.config.keys import describe

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = describe()


def add_accept_data(parser: argparse.ArgumentParser) -> None:
  words = 'continue although the data has changed since the run began'
  parser.add_argument('--accept_data', action='store_true', help=words)


def add_sizes(parser: argparse.ArgumentParser) -> None:
  words = 'of the training split, if not known'
  parser.add_argument('--num_examples', type=at_least(0), default=0, help=words)
  parser.add_argument('--num_classes', type=at_least(0), default=0, help='if not known')


def add_data_dir(parser: argparse.ArgumentParser, *, writes: bool = False) -> None:
  """Adds --data_dir; that of a command that `writes` there is no address."""
  words = (
    'prepared data sets, also at an address such as gs://bucket/data, whose files are copied once '
    '(default: $VIT_JAX_DATA_DIR or ~/.cache/vit_jax)'
  )
  if writes:
    words = 'where data sets are prepared (default: $VIT_JAX_DATA_DIR or ~/.cache/vit_jax)'
  parser.add_argument('--data_dir', type=_prepared_in if writes else _data_folder, help=words)


def _prepared_in(text: str) -> Path:
  if is_address(text):
    raise UserError(
      f'--data_dir: {text} is an address, and data sets are prepared on this machine; name a path, '
      "and copy the data set's folder to that address"
    )
  return local(text)


def _data_folder(text: str) -> Path:
  if not is_address(text):
    return local(text)
  from vit_jax.remote.data import data_folder  # here: the bench runs where its packages are not

  return data_folder(text)


def data_dir(args: argparse.Namespace) -> Path:
  return args.data_dir or default_data_dir()


def numbers(text: str) -> tuple[float, ...]:
  """Of the channels, as in 0.5 or 0.485,0.456,0.406."""
  try:
    return tuple(float(number) for number in text.split(','))
  except ValueError:
    raise argparse.ArgumentTypeError(
      f'{text!r} should be a number, or one per channel such as 0.485,0.456,0.406'
    ) from None


def add_inputs(parser: argparse.ArgumentParser) -> None:
  """Adds how images are seen, which `inputs` reads."""
  add = parser.add_argument
  words = 'of pixels in [0, 1], for all channels or each (default: as the weights say)'
  add('--mean', type=numbers, metavar='X[,X,X]', help=words)
  add('--std', type=numbers, metavar='X[,X,X]', help='likewise')
  words = 'side of the central crop over the shorter side after resizing, such as 0.875'
  add('--crop', type=positive, help=words)
  add('--interpolation', help='of resizing: bicubic or bilinear')


def inputs(args: argparse.Namespace) -> dict[str, Any]:
  """What the flags of `add_inputs` say, as `weights.open` takes it."""
  said = {key: getattr(args, key) for key in INPUTS}
  return {key: value for key, value in said.items() if value is not None}


def add_weights(
  parser: argparse.ArgumentParser, flag: str = '--weights', nargs: str | None = None, more: str = ''
) -> None:
  """Adds `flag`, or an argument without a flag, and what goes with it, which `opening` reads."""
  add, named = parser.add_argument, flag.startswith('-')
  words = (
    'a run folder, also RUN@best or RUN@1200; .npz or .safetensors; a Hugging Face folder or '
    f'hf://org/name; an address; or augreg:B/16{more}'
  )
  place: dict[str, Any] = {'dest': 'weights', 'required': True} if named else {}
  add(flag, nargs=nargs, metavar='RUN|FILE', help=words, **place)
  words = (
    'its name, such as DeiT-Ti/16, or that of a published checkpoint, such as '
    'vit_base_patch16_384, where the weights do not say'
  )
  add('--model', default='', help=words)
  words = 'an option of the model, such as pool=mean; may be given several times'
  add('--option', type=pair, action='append', default=[], metavar='KEY=VALUE', help=words)
  words = "of a run: 'last' (default), 'best' or a step"
  add('--checkpoint', default='last', help=words)
  add_inputs(parser)
  add_data_dir(parser)


def opening(args: argparse.Namespace) -> dict[str, Any]:
  """What the flags of `add_weights` say to `weights.open`, but for the source itself."""
  return {
    'model': args.model,
    'options': dict(args.option),
    'checkpoint': args.checkpoint,
    'data_dir': data_dir(args),
    'inputs': inputs(args),
  }
