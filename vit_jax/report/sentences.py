"""The parts of a page that only translation runs have."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from vit_jax.errors import UserError
from vit_jax.report import lengths
from vit_jax.report.alignment import alignment_figure
from vit_jax.report.kinds import KINDS
from vit_jax.report.render import Picture, Table, picture
from vit_jax.run import Run
from vit_jax.run.translations import Aligned, Translations

TEMPLATE = 'sentences.html'
SHOWN = 6  # translations, and as many of those that differ from the reference
PICTURES = 6  # alignments, of all runs together
WIDE = 30  # words; sentences with more are shown only if there are no others


def figures(run: Run) -> dict[str, Figure]:
  """None is stored beside the page."""
  return {}


def levels(runs: Sequence[Run]) -> dict[str, float]:
  """Nothing is known of what is reached without a model."""
  return {}


def trained(run: Run) -> str:
  """The label of a metric of training that an evaluation has too."""
  smoothed = run.config.get('loss', {}).get('label_smoothing')
  return 'train, labels smoothed' if smoothed else 'train'


class ByLength(NamedTuple):
  """Scores by length on one eval; only a `fault` if they could not be had."""

  name: str
  pictures: Sequence[Picture] = ()
  table: Table | None = None
  signature: str = ''
  fault: str = ''


def shared(runs: Sequence[Run], labels: Sequence[str]) -> dict[str, Any]:
  """What all runs have together."""
  return {
    'lengths': [found for name in runs[0].evals if (found := _by_length(name, runs, labels))],
    'alignments': _alignments(runs, labels),
  }


def parts(run: Run, of: str, drawn: Mapping[str, Figure], weights: bool) -> dict[str, Any]:
  """What one run has; `of` follows the names of its parts."""
  evals = [name for name in run.evals if name in run.translations]
  return {'samples': [(name + of, _samples(run.translations[name])) for name in evals]}


def _by_length(name: str, runs: Sequence[Run], labels: Sequence[str]) -> ByLength | None:
  """None if no run has translated that eval."""
  try:
    found = {label: lengths.scores(run, name) for run, label in zip(runs, labels, strict=True)}
  except UserError as error:
    return ByLength(name, fault=str(error))
  found = {label: rows for label, rows in found.items() if rows}
  if not found:
    return None
  pictures = []
  for metric in lengths.METRICS:
    title = KINDS['pairs'].metrics[metric].label
    figure = lengths.length_figure({label: [rows] for label, rows in found.items()}, [metric])
    words = f'{title} on {name} by length of the source; the table below has the figures'
    pictures.append(picture(figure, words, title[0].upper() + title[1:]))
  signature = next(run.translations[name].signature for run in runs if name in run.translations)
  return ByLength(name, pictures, lengths.table(found), signature)


def _alignments(runs: Sequence[Run], labels: Sequence[str]) -> list[Picture]:
  """Sentence by sentence, of each run that has attention, on the eval of the headline."""
  name, found = runs[0].headline, []
  for run, label in zip(runs, labels, strict=True):
    aligned = run.translations[name].aligned if name in run.translations else ()
    if aligned:
      widths = [max(len(each.source), len(each.target)) for each in aligned]
      order = sorted(range(len(aligned)), key=lambda n: widths[n] > WIDE)
      found.append((label if len(runs) > 1 else '', [aligned[n] for n in order]))
  pictures = [
    _alignment(label, aligned[n])
    for n in range(PICTURES)
    for label, aligned in found
    if n < len(aligned)
  ]
  return pictures[:PICTURES]


def _alignment(label: str, aligned: Aligned) -> Picture:
  weights_TS, links = np.array(aligned.weights), aligned.links or []
  best_T = weights_TS.argmax(axis=1)
  pairs = '; '.join(
    f'{word}: {aligned.source[s]}' for word, s in zip(aligned.target, best_T, strict=True)
  )
  words = f'Where {label or "the model"} looks most for each word of the translation. {pairs}'
  hits = sum(best_T[t] == s for s, t in links)
  note = f'{hits} of {len(links)} gold links found' if links else ''
  figure = alignment_figure(weights_TS, aligned.source, aligned.target, links)
  return picture(figure, words, label or 'Attention', note)


class Sample(NamedTuple):
  """A translation; of its words and those of the reference, (words, whether they differ)."""

  source: str
  right: bool
  reference: list[tuple[str, bool]]
  translation: list[tuple[str, bool]]


def _samples(found: Translations) -> list[tuple[str, list[Sample]]]:
  """(how they were drawn, samples): some of all, and of others that are wrong."""
  order = np.random.default_rng(0).permutation(len(found.sources)).tolist()
  drawn, others = order[:SHOWN], order[SHOWN:]
  wrong = [n for n in others if found.references[n] != found.translations[n]][:SHOWN]
  groups = {'Drawn at random': drawn, 'Of those that differ from the reference': wrong}
  return [
    (words, [_sample(found.sources[n], found.references[n], found.translations[n]) for n in chosen])
    for words, chosen in groups.items()
    if chosen
  ]


def _sample(source: str, reference: str, translation: str) -> Sample:
  sides = reference.split(), translation.split()
  match = difflib.SequenceMatcher(None, *sides, autojunk=False)
  spans = [list(_spans(side, match, place)) for place, side in enumerate(sides)]
  return Sample(source, reference == translation, *spans)


def _spans(
  words: Sequence[str], match: difflib.SequenceMatcher, place: int
) -> Iterator[tuple[str, bool]]:
  """The words of a side, cut where they begin or end to differ from the other one."""
  for tag, *ends in match.get_opcodes():
    start, end = ends[2 * place], ends[2 * place + 1]
    if end > start:
      yield ' '.join(words[start:end]), tag != 'equal'
