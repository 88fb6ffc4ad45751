"""What the commands' flags have in common."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from vit_jax.errors import UserError


class Parser(argparse.ArgumentParser):
  """argparse, but a mistake is one sentence."""

  def error(self, message: str) -> NoReturn:
    raise UserError(f'{self.prog}: {message}')


def at_least(least: int) -> Callable[[str], int]:
  def number(text: str) -> int:
    if not text.isdecimal() or int(text) < least:
      raise argparse.ArgumentTypeError(f'{text!r} is no whole number of at least {least}')
    return int(text)

  return number


def positive(text: str) -> float:
  try:
    number = float(text)
  except ValueError:
    number = math.nan
  if not 0 < number < math.inf:
    raise argparse.ArgumentTypeError(f'{text!r} is no finite number above 0')
  return number


def output(suffix: str = '') -> Callable[[str], Path]:
  """A file that is to be written: where it cannot be is told before the work, not after it."""

  def place(text: str) -> Path:
    path = Path(text)
    fits = path.suffix == suffix or not suffix
    if not fits or path.is_dir() or not path.absolute().parent.is_dir():
      kind = f'a {suffix} file' if suffix else 'a file'
      raise argparse.ArgumentTypeError(f'{text!r} must be {kind} in a folder that exists')
    return path

  return place


def parser(name: str, command: Callable) -> argparse.ArgumentParser:
  return Parser(prog=f'vit_jax {name}', description=command.__doc__, allow_abbrev=False)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--data_dir',
    type=Path,
    help='prepared data sets (default: $VIT_JAX_DATA_DIR or ~/.cache/vit_jax)',
  )


def data_dir(args: argparse.Namespace) -> Path:
  from vit_jax.data.sources import default_data_dir

  return args.data_dir or default_data_dir()
