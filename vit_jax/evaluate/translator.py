"""A translation model that is judged: its translations of a split, its losses, its alignments."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh as DeviceMesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vit_jax.config.pairs import PairData
from vit_jax.data import loader
from vit_jax.data.pair_loader import PairLoader
from vit_jax.data.pairs import PairSource
from vit_jax.data.vocabulary import Vocabularies, padded
from vit_jax.errors import UserError
from vit_jax.evaluate import metrics
from vit_jax.evaluate.backbone import Pulse
from vit_jax.evaluate.decoding import translate_fn
from vit_jax.evaluate.translation import (
  AlignmentScores,
  Scores,
  align,
  score,
  score_by_length,
  word_weights,
  words_of,
)
from vit_jax.losses import token_cross_entropy
from vit_jax.models.output import Pair, shifted
from vit_jax.models.texts import PAD
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.run.translations import Aligned, Translations
from vit_jax.tables import as_text

Array = jax.Array
SHOWN = 8  # sentences whose alignment is kept
CHUNK = 64  # sentences aligned at a time


@dataclass(frozen=True)
class Translated:
  """The sentences of a split and their translations, in order; `loss` is per token, in nats."""

  source: PairSource
  sources: list[str]
  references: list[str]
  translations: list[str]
  loss: float
  aligned: list[Aligned]
  alignment: AlignmentScores | None

  @cached_property
  def scores(self) -> Scores:
    return score(self.translations, self.references)

  @property
  def metrics(self) -> dict[str, float]:
    """BLEU and chrF in percent, exact match as a fraction, loss in nats per token.

    If there are gold links, also the alignment error rate and the share of words aligned right.
    """
    found = self.scores
    metrics = {'bleu': found.bleu, 'chrf': found.chrf, 'exact': found.exact, 'loss': self.loss}
    if self.alignment:
      metrics |= {'aer': self.alignment.error_rate, 'aligned': self.alignment.accuracy}
    return metrics

  def details(self) -> str:
    """The scores by length of the source, as text."""
    groups = score_by_length(self.sources, self.translations, self.references)
    rows = [
      (words_of(first, last), found.count, found.bleu, 100 * found.exact)
      for first, last, found in groups
    ]
    return f'{self.scores.signature}\n' + as_text(
      ('source words', 'sentences', 'BLEU', 'exact, %'), rows
    )

  @property
  def kept(self) -> Translations:
    """What a run folder keeps of them."""
    signature = self.scores.signature
    return Translations(self.sources, self.references, self.translations, signature, self.aligned)


@dataclass(frozen=True)
class Translator:
  """A model with its variables on a mesh; `dataclasses.replace` gives it other variables.

  Attributes:
    batch_size: of the global batch, in tokens of a side.
  """

  name: str
  model: Any
  variables: Any
  vocabularies: Vocabularies
  data: PairData
  mesh: DeviceMesh
  batch_size: int
  # Shared by those that `replace` makes: compiled once.
  _programs: dict[tuple, Callable | None] = field(default_factory=dict, repr=False)
  _loaders: dict[int, PairLoader] = field(default_factory=dict, repr=False)

  def translate(self, source: PairSource, beam: int, alpha: float, pulse: Pulse) -> Translated:
    """Translations of every sentence of a source, the same on every process.

    Args:
      beam: hypotheses of the search; 1 is greedy.
      alpha: of the length penalty.
    """
    program = self._kept(self._judging, beam, alpha)
    batches, rows = self._loader(source), []
    pulse.begin(f'{self.name}: {source.name} {source.split}', len(source))
    prefetched = loader.prefetch(
      batches, 0, batches.num_batches, lambda batch: meshes.put_batch(batch, self.mesh)
    )
    with closing(prefetched):
      for batch in prefetched:
        rows.append(jax.device_get(program(self.variables, batch)))
        pulse.beat(int(rows[-1]['mask'].sum()))
    found = metrics.concatenate(rows)
    pairs = source.read(range(len(source)))
    translations = [self.vocabularies.target.decode(ids) for ids in found['translation'].tolist()]
    loss = found['loss'].astype(np.float64).sum() / found['tokens'].sum()
    sources, references = ([pair[side] for pair in pairs] for side in (0, 1))
    aligned, alignment = self._aligned(source, pairs)
    return Translated(source, sources, references, translations, float(loss), aligned, alignment)

  def tokens(self, source_BS: np.ndarray, beam: int, alpha: float) -> np.ndarray:
    """(B, T): the tokens of the translations of sources that end with END."""
    tokens_BT, _ = self._kept(self._searching, beam, alpha)(self.variables, source_BS)
    return np.asarray(tokens_BT)

  def _kept(self, make: Callable, *options: Any) -> Any:
    """The program that `make` gives for these options, made once."""
    key = make.__name__, *options
    if key not in self._programs:
      self._programs[key] = make(*options)
    return self._programs[key]

  def _searching(self, beam: int, alpha: float) -> Callable[[Any, Any], tuple[Array, Array]]:
    length = self.data.max_length
    return jax.jit(translate_fn(self.model, length=length, beam=beam, alpha=alpha))

  def _aligned(
    self, source: PairSource, pairs: Sequence[tuple[str, str]]
  ) -> tuple[list[Aligned], AlignmentScores | None]:
    """(alignments of the first sentences, scores of all that have gold links)."""
    if self._kept(self._aligning, True) is None:
      return [], None
    links = [source.links(n) for n in range(len(pairs))]
    scored = [n for n, gold in enumerate(links) if gold]
    shown = range(min(SHOWN, len(pairs)))
    wanted = sorted({*shown, *scored})
    weights = self.alignments([pairs[n] for n in wanted], known=True)
    found = dict(zip(wanted, weights, strict=True))
    aligned = [
      Aligned(
        pairs[n][0].split(),
        pairs[n][1].split(),
        found[n].round(4).tolist(),
        sorted(links[n] or ()) if scored else None,
      )
      for n in shown
    ]
    gold = [links[n] or frozenset() for n in scored]
    return aligned, align([found[n] for n in scored], gold) if scored else None

  def alignments(self, pairs: Sequence[tuple[str, str]], known: bool = False) -> list[np.ndarray]:
    """Attention weights of the words of each target over the words of its source.

    The right target is given to the model. Of a Transformer they are the mean over heads of the
    last layer but one (of one layer, that one); of a recurrent model alpha.

    Args:
      known: of a recurrent model, whose alpha is chosen before the word, weights that know it:
        `Recurrent.posterior`.
    """
    weights = self._kept(self._aligning, known)
    if weights is None:
      raise UserError(f'run {self.name!r} has no attention to show; train one with attention')
    found, length = [], self.data.max_length
    for start in range(0, len(pairs), CHUNK):
      chunk = pairs[start : start + CHUNK]
      sides = (
        vocabulary.encode([pair[side] for pair in chunk])
        for side, vocabulary in enumerate(self.vocabularies)
      )
      sides = (padded(ids, CHUNK, length) for ids in sides)
      weights_BTS = jax.device_get(weights(self.variables, *sides))
      for pair, weights_TS in zip(chunk, weights_BTS, strict=False):
        source, target = (self.vocabularies[side].word_of(pair[side]) for side in (0, 1))
        counts = [len(text.split()) for text in pair]
        source, target = source[: length - 1], target[: length - 1]
        found.append(word_weights(weights_TS, target, source, counts[1], counts[0]))
    return found

  def _aligning(self, known: bool) -> Callable[[Any, Any, Any], Array] | None:
    """(variables, source_BS, target_BT) -> weights_BTS; None for a model without attention."""
    recurrent = hasattr(self.model.options, 'alignment')
    if recurrent and self.model.options.alignment == 'none':
      return None

    def weights(variables: Any, source_BS: Array, target_BT: Array) -> Array:
      pair = Pair(source_BS, shifted(target_BT))
      if recurrent and known:
        return self.model.apply(variables, pair, target_BT, method='posterior')
      if recurrent:
        return self.model.apply(variables, pair, train=False).attention_BTS
      _, sown = self.model.apply(variables, pair, train=False, mutable=['intermediates'])
      (weights_LBATS,) = sown['intermediates']['decoder']['blocks']['cross']['weights_BANT']
      return jnp.mean(weights_LBATS[max(0, len(weights_LBATS) - 2)], axis=1)

    return jax.jit(weights, out_shardings=NamedSharding(self.mesh, P()))

  def _judging(self, beam: int, alpha: float) -> Callable[[Any, Mapping], dict[str, Array]]:
    translate = self._searching(beam, alpha)

    def forward(variables: Any, batch: Mapping[str, Array]) -> dict[str, Array]:
      with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh):
        pair = Pair(batch['source'], shifted(batch['target']))
        logits_BTV = self.model.apply(variables, pair, train=False).logits_BTV
        loss_BT = token_cross_entropy(logits_BTV, batch['target'])
        tokens_BT, _ = translate(variables, batch['source'])
        return {
          'translation': tokens_BT,
          'loss': jnp.sum(loss_BT, axis=1),
          'tokens': jnp.sum(batch['target'] != PAD, axis=1),
          'index': batch['index'],
          'mask': batch['mask'],
        }

    return jax.jit(
      forward,
      in_shardings=(
        rules.shardings(self.variables, self.mesh),
        NamedSharding(self.mesh, meshes.BATCH_SPEC),
      ),
      out_shardings=NamedSharding(self.mesh, P()),
    )

  def _loader(self, source: PairSource) -> PairLoader:
    """Kept from one evaluation to the next."""
    if id(source) not in self._loaders:
      shape = self.mesh.shape
      multiple = math.lcm(self.data.row_multiple, shape['replica'] * shape['fsdp'])
      self._loaders[id(source)] = PairLoader(
        source,
        self.vocabularies,
        replace(self.data, row_multiple=multiple),
        seed=0,
        batch_size=self.batch_size,
        train=False,
        rows=lambda rows: meshes.local_rows(rows, self.mesh),
      )
    return self._loaders[id(source)]
