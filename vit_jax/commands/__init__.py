"""The command line: one file per command.

Exit codes: 0 done, 75 preempted and saved (run the same command again), 1 a fault in the run,
2 a fault in the user's input, reported in one sentence.
"""

import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence

from vit_jax import __version__
from vit_jax.errors import UserError, nearest, print_error, verdict
from vit_jax.redaction import redacted

COMMANDS = {
  'prepare': 'Prepare a data set: vit_jax prepare earth_climate.',
  'stats': 'Measure a data set: mean and deviation of pixels, sizes, what was found.',
  'train': 'Train, evaluate and leave a run folder; run again to continue after an interruption.',
  'finetune': 'Fine-tune weights on your images: vit_jax finetune --weights=W --data=DIR.',
  'evaluate': 'Judge a run: top-1, top-5, loss, calibration error and confusion matrix.',
  'predict': 'Predict images with any model: classes, logits, features, attention.',
  'convert': 'Write published weights in another layout.',
  'export': 'Write a model for others: transformers, timm, ONNX, StableHLO.',
  'transfer': 'Judge transfer: few-shot, nearest neighbors, linear probe, fine-tuning.',
  'bench': 'Time the train step, alone, against timm, or with the loader of your images.',
  'report': 'Write report.html for a run folder, print a table of models or a paper, or fit a law.',
  'launch': 'Start a run in several processes here, or print what starts it elsewhere.',
  'sweep': 'Train a grid of configs: vit_jax sweep --config=FILE --grid.optim.lr=1e-3,3e-4.',
  'compare': 'Train and judge several systems on the same data and budget; run again to continue.',
  'recipes': 'List the recipes, which --config takes by name.',
  'models': 'List the models, which config.model.name takes.',
  'plan': 'Say what a run would take on chips that are not here: memory, collectives, a bound.',
}


class _Lines(logging.Handler):
  """Prints what the library logs, as a person reads it: to stdout, and progress to stderr."""

  def emit(self, record: logging.LogRecord) -> None:
    stream = sys.stderr if record.levelno < logging.INFO else sys.stdout
    print(redacted(self.format(record)), file=stream, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command and returns its exit code."""
  log = logging.getLogger('vit_jax')
  if argv is None:
    argv = sys.argv[1:]
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be no UTF-8
      sys.stdout.reconfigure(errors='backslashreplace')
    log.propagate = False  # a handler that a library adds at the root would repeat each line
  if not any(isinstance(handler, _Lines) for handler in log.handlers):
    log.addHandler(_Lines())
    log.setLevel(logging.DEBUG)
  try:
    code = _run(list(argv))
    sys.stdout.flush()
    return code
  except BrokenPipeError:  # of `vit_jax models | head`, which has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
  except Exception as error:
    code, sentence = verdict(error)
    if sentence is None:
      raise
    print_error(sentence)
    return code


def _run(argv: list[str]) -> int:
  if not argv or argv[0] in ('-h', '--help'):
    print(_help())
    return 0 if argv else 2
  if argv[0] == '--version':
    print(__version__)
    return 0
  name, *rest = argv
  if name not in COMMANDS:
    raise UserError(f'{name!r} is not a command; {nearest(name, COMMANDS)}')
  return importlib.import_module(f'vit_jax.commands.{name}').main(rest)


def _help() -> str:
  lines = [f'  {name:10}{summary}' for name, summary in COMMANDS.items()]
  return (
    'usage: vit_jax COMMAND [--flag=value ...]\n\n'
    + '\n'.join(lines)
    + '\n\nvit_jax COMMAND --help lists the flags of a command, vit_jax train --help also all keys '
    'of a recipe.'
  )
