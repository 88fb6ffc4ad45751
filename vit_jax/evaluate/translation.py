"""Translations judged: BLEU and chrF, exact match, by sentence length; alignments against links."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vit_jax.data.pair_files import Links
from vit_jax.errors import UserError

LENGTHS = (1, 7, 13, 21, 31, 51)  # words of the source, where each group begins


class Scores(NamedTuple):
  """Of a corpus: BLEU and chrF in percent, and the share of exact translations.

  `signature` says how BLEU was computed (Post 2018, arXiv:1804.08771).
  """

  count: int
  bleu: float
  chrf: float
  exact: float
  signature: str


def score(translations: Sequence[str], references: Sequence[str]) -> Scores:
  """Scores of translations against one reference each.

  Raises:
    UserError: sacrebleu is not installed.
  """
  try:
    from sacrebleu.metrics.bleu import BLEU  # here: it is in the extra `text`
    from sacrebleu.metrics.chrf import CHRF
  except ImportError as error:
    raise UserError(
      "translations are scored by the package sacrebleu: pip install 'vit-jax[text]'"
    ) from error
  bleu, chrf = BLEU(), CHRF()
  found = bleu.corpus_score(list(translations), [list(references)])
  equal = [hyp == ref for hyp, ref in zip(translations, references, strict=True)]
  return Scores(
    len(equal),
    found.score,
    chrf.corpus_score(list(translations), [list(references)]).score,
    float(np.mean(equal)),
    str(bleu.get_signature()),
  )


class LengthScores(NamedTuple):
  """Scores of the sentences whose source has `first` to `last` words; 0: no upper end."""

  first: int
  last: int
  scores: Scores


def words_of(first: int, last: int) -> str:
  """The lengths of a group as a person reads them."""
  return f'{first}-{last}' if last else f'{first}+'


def score_by_length(
  sources: Sequence[str], translations: Sequence[str], references: Sequence[str]
) -> list[LengthScores]:
  """Scores by the length of the source (arXiv:1409.0473 Figure 2), without empty groups."""
  group_N = np.searchsorted(LENGTHS, [len(source.split()) for source in sources], 'right') - 1
  rows = []
  for i, first in enumerate(LENGTHS):
    chosen = np.flatnonzero(group_N == i).tolist()
    if chosen:
      last = LENGTHS[i + 1] - 1 if i + 1 < len(LENGTHS) else 0
      scores = score([translations[n] for n in chosen], [references[n] for n in chosen])
      rows.append(LengthScores(first, last, scores))
  return rows


@dataclass(frozen=True)
class AlignmentScores:
  """Links that a model predicts against gold ones, over many sentences.

  Attributes:
    predicted, gold, common: numbers of links; each target word predicts one.
    linked: target words that have gold links.
  """

  predicted: int
  gold: int
  common: int
  linked: int

  @property
  def error_rate(self) -> float:
    """1 - 2 |A and G| / (|A| + |G|), where all gold links are sure (Och and Ney 2003)."""
    return 1 - 2 * self.common / max(self.predicted + self.gold, 1)

  @property
  def accuracy(self) -> float:
    """The share of the linked target words whose prediction is one of their links."""
    return self.common / max(self.linked, 1)


def align(weights: Sequence[np.ndarray], gold: Sequence[Links]) -> AlignmentScores:
  """Scores of the links from each target word to the source word of greatest weight.

  Args:
    weights: of each sentence, (target words, source words).
  """
  predicted = common = linked = 0
  for weights_TS, links in zip(weights, gold, strict=True):
    found = {(int(s), t) for t, s in enumerate(weights_TS.argmax(axis=1))}
    predicted, common = predicted + len(found), common + len(found & links)
    linked += len({t for _, t in links})
  return AlignmentScores(predicted, sum(map(len, gold)), common, linked)


def word_weights(
  weights_TS: np.ndarray,
  target_words: Sequence[int],
  source_words: Sequence[int],
  num_targets: int,
  num_sources: int,
) -> np.ndarray:
  """Weights between words from those between their tokens, (target words, source words).

  Weights of a word's tokens are added over the source and averaged over the target.

  Args:
    target_words, source_words: the word of each token.
    num_targets, num_sources: words; those that were cut off have no weight.
  """
  of_source_SW = np.eye(num_sources)[list(source_words)]
  of_target_TW = np.eye(num_targets)[list(target_words)]
  counts_W1 = of_target_TW.sum(axis=0)[:, None].clip(1)
  weights_TS = weights_TS[: len(target_words), : len(source_words)]
  return of_target_TW.T @ weights_TS @ of_source_SW / counts_W1
