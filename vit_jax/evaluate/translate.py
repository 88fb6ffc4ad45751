"""Sentences through a translation run: `vit_jax predict --input=FILE.txt`."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import jax

from vit_jax import models
from vit_jax.config import Mesh
from vit_jax.data.vocabulary import padded
from vit_jax.errors import UserError
from vit_jax.evaluate.translator import Translator
from vit_jax.models.texts import UNKNOWN, Texts
from vit_jax.parallel import mesh as meshes
from vit_jax.paths import local
from vit_jax.run import Run
from vit_jax.weights.sources import locate

log = logging.getLogger(__name__)


class OpenedRun(NamedTuple):
  """A translation run, ready to translate; `line` says what was loaded."""

  translator: Translator
  line: str


def open_run(source: str, checkpoint: str = 'last') -> OpenedRun:
  """
  Args:
    source: a run folder, also RUN@best or RUN@1200.
    checkpoint: 'last', 'best' or a step.

  Raises:
    UserError: it holds no checkpoint, or no vocabularies.
  """
  place, checkpoint = locate(source, checkpoint)
  run = Run(place)
  x, vocabularies = run.experiment, run.known_vocabularies
  texts, targets = Texts(len(vocabularies.source)), len(vocabularies.target)
  model = models.build(x.model.name, targets, x.model.options, texts)
  variables, step = run.variables(checkpoint)
  mesh = meshes.make_mesh(Mesh())
  translator = Translator(x.name, model, variables, vocabularies, x.pairs, mesh, x.eval_batch_size)
  return OpenedRun(translator, f'weights: {x.model.name} of {run.place} at step {step}')


def read_sentences(path: str) -> list[str]:
  """The lines of a text file.

  Raises:
    UserError: it cannot be read as UTF-8 text, or a line is empty.
  """
  file = local(path)
  try:
    lines = file.read_text('utf-8').splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(
      f'--input={path} cannot be read as UTF-8 text ({error}); a translation run takes one '
      'sentence per line'
    ) from None
  empty = [number for number, line in enumerate(lines, 1) if not line.strip()]
  if empty or not lines:
    where = f'line {empty[0]} of {path}' if lines else path
    raise UserError(f'{where} is empty; give one sentence per line')
  return lines


def translate(
  translator: Translator,
  texts: Sequence[str],
  *,
  beam: int = 1,
  alpha: float = 0.6,
  batch: int = 32,
) -> list[str]:
  """Translations of sentences.

  Args:
    beam: hypotheses of the search; 1 is greedy.
    alpha: of the length penalty.
    batch: sentences at a time on each device.

  Raises:
    UserError: a sentence is longer than the model was trained for.
  """
  data, vocabularies = translator.data, translator.vocabularies
  ids, limit = vocabularies.source.encode(list(texts)), data.max_length - 1
  for number, tokens in enumerate(ids, 1):
    if len(tokens) > limit:
      raise UserError(
        f'sentence {number} has {len(tokens)} tokens, and the model reads at most {limit}; '
        'divide it'
      )
  if unknown := sum(token == UNKNOWN for tokens in ids for token in tokens):
    log.warning('%s tokens are not in the vocabulary and are read as unknown', unknown)
  rows = batch * jax.local_device_count()
  order = sorted(range(len(ids)), key=lambda n: len(ids[n]))  # few shapes, little padding
  found = [''] * len(ids)
  for start in range(0, len(order), rows):
    chosen = order[start : start + rows]
    length = next(L for L in data.buckets if L > len(ids[chosen[-1]]))
    tokens_BT = translator.tokens(padded([ids[n] for n in chosen], rows, length), beam, alpha)
    for n, tokens in zip(chosen, tokens_BT.tolist(), strict=False):
      found[n] = vocabularies.target.decode(tokens)
  return found
