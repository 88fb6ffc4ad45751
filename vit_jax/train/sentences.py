"""Runs on pairs of sentences: translation."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh as DeviceMesh

from vit_jax import models
from vit_jax.config import Experiment, TranslationEval
from vit_jax.data.pair_loader import PairLoader
from vit_jax.data.pairs import PairSource, open_pairs
from vit_jax.data.vocabulary import Vocabularies, stored_vocabularies
from vit_jax.errors import UserError
from vit_jax.evaluate.backbone import Pulse
from vit_jax.evaluate.translator import Translated, Translator
from vit_jax.models import flops
from vit_jax.models.texts import Texts
from vit_jax.parallel import mesh as meshes
from vit_jax.run import Run
from vit_jax.train.domain import Domain, Opened, Sizes
from vit_jax.train.task import Translation
from vit_jax.weights import digest
from vit_jax.weights.sources import locate


class EvalPairs(NamedTuple):
  """A line of the evaluation table, opened."""

  line: TranslationEval
  source: PairSource


class Sentences(Domain):
  """Runs on pairs of sentences."""

  unit, examples, counted = 'tokens', 'pairs', 'tokens'
  abstract_frozen = frozen = ()
  _translator: Translator | None = None  # holds the programs, and sentences as token ids

  def __init__(
    self,
    x: Experiment,
    data_dir: Path,
    mesh: DeviceMesh,
    opened: Opened | None,
    sizes: Sizes | None,
    vocabularies: Vocabularies | None,
  ):
    """
    Args:
      vocabularies: those of a run that has begun; by default trained on the training split.
    """
    super().__init__(x, data_dir, mesh, opened)
    self.data, self.vocabularies = x.pairs, vocabularies
    self.shape = (self.data.max_length,) * 2
    self.rows = [self.data.rows(length, x.batch_size) for length in self.data.buckets]
    if sizes is None or vocabularies is None:  # an evaluation rounds its rows up
      self._check_rows()
    if sizes is None:
      self.source = self.source or open_pairs(self.data, self.data.train, data_dir)
      self.vocabularies = vocabularies or stored_vocabularies(self.data, self.source, data_dir)
      loader, targets = self.loader, len(self.vocabularies.target)
      sizes = Sizes(loader.num_examples, targets, num_batches=loader.num_batches)
    self.sizes = sizes
    texts = Texts(len(self.vocabularies.source) if self.vocabularies else sizes.num_classes)
    if mesh.shape['sequence'] != 1:
      raise UserError(
        f'config.mesh.sequence is {mesh.shape["sequence"]}, but sentences are too short to split; '
        'set it to 1 and give the devices to config.mesh.fsdp'
      )
    self.model = models.build(x.model.name, sizes.num_classes, x.model.options, texts)
    self.task = Translation(x.loss.label_smoothing)

  def _check_rows(self) -> None:
    """Raises a UserError unless the rows of every batch divide over devices and micro-batches."""
    shape, accumulate = self.mesh.shape, self.experiment.optim.accumulate
    ways = shape['replica'] * shape['fsdp'] * accumulate
    if any(rows % ways for rows in self.rows):
      raise UserError(
        f'config.data.row_multiple is {self.data.row_multiple}, but the rows of every batch must '
        f'be divisible by {ways} (replica {shape["replica"]} x fsdp {shape["fsdp"]} x accumulate '
        f'{accumulate}); set it to a multiple of {ways}'
      )

  @property
  def tokens(self) -> int:
    return sum(self.shape)

  def flop_per_step(self) -> float:
    total = 0.0
    for (rows, *shape), batches in zip(self.loader.shapes, self.loader.counts, strict=True):
      total += batches * rows * 6 * flops.forward_macs(self.model, tuple(shape), train=True)
    return total / self.sizes.num_batches

  def batch_shapes(self) -> dict[str, tuple[tuple[int, ...], Any]]:
    rows = self.rows[-1]
    return {
      'source': ((rows, self.shape[0]), jnp.int32),
      'target': ((rows, self.shape[1]), jnp.int32),
      'mask': ((rows,), jnp.bool_),
      'index': ((rows,), jnp.int32),
    }

  @cached_property
  def loader(self) -> PairLoader:
    x, source = self.experiment, self.need_source()
    assert self.vocabularies is not None  # they come with the source
    return PairLoader(
      source,
      self.vocabularies,
      self.data,
      seed=x.seed,
      batch_size=x.batch_size,
      train=True,
      rows=lambda rows: meshes.local_rows(rows, self.mesh),
    )

  def load(self, variables: Any) -> tuple[Any, str, str]:
    """Those of a run folder with the same vocabularies and model."""
    name = self.experiment.init_from
    place, which = locate(name)
    run = Run(place)
    assert self.vocabularies is not None
    _ = run.experiment.pairs  # refuses what is no run, or one on images
    theirs = run.vocabularies
    if theirs is None or theirs.digest() != self.vocabularies.digest():
      raise UserError(
        f'config.init_from is {name}, whose vocabularies are not those of this run; translate '
        'from a run on the same training data'
      )
    loaded, step = run.variables(which)
    shapes = [jax.tree.map(lambda leaf: leaf.shape, tree) for tree in (loaded, variables)]
    if shapes[0] != shapes[1]:
      raise UserError(f'config.init_from is {name}, which holds another model: {run.name}')
    return loaded, f'{run.place} at step {step}', digest(loaded)

  @cached_property
  def evals(self) -> dict[str, EvalPairs]:
    """Raises a UserError for missing data."""
    if self._opened:
      return {name: self._opened.evals[name] for name in self.experiment.evals}
    opened = {}
    for name, line in self.experiment.evals.items():
      assert isinstance(line, TranslationEval)
      data = dataclasses.replace(self.data, name=line.data) if line.data else self.data
      opened[name] = EvalPairs(line, open_pairs(data, line.split, self.data_dir))
    return opened

  @property
  def parts(self) -> dict[str, list[PairSource]]:
    return {name: [line.source] for name, line in self.evals.items()}

  def evaluate(
    self, variables: Any, names: Sequence[str] | None, pulse: Pulse
  ) -> dict[str, Translated]:
    x, found = self.experiment, {}
    if self._translator is None:
      assert self.vocabularies is not None
      self._translator = Translator(
        x.name, self.model, variables, self.vocabularies, self.data, self.mesh, x.eval_batch_size
      )
    translator = dataclasses.replace(self._translator, variables=variables)
    for name in sorted(self.evals if names is None else names):
      line, source = self.evals[name]
      found[name] = translator.translate(source, line.beam, line.length_penalty, pulse)
    return found

  def keep(self, run: Run, judged: Mapping[str, Translated], pulse: Pulse) -> None:
    for name, found in judged.items():
      run.write_translations(name, found.kept)

  def headline(self, metrics: Mapping[str, float]) -> str:
    return f'BLEU {metrics["bleu"]:.1f}, exact {metrics["exact"]:.1%}'
