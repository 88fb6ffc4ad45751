"""Runs on images: classification, alone or beside a teacher."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh as DeviceMesh

from vit_jax import models
from vit_jax.config import Eval, Experiment
from vit_jax.data import found, loader, sources
from vit_jax.data.pixels import Pixels
from vit_jax.data.view import View, inputs_of
from vit_jax.errors import UserError
from vit_jax.evaluate import judge
from vit_jax.evaluate.backbone import Backbone, Forward, Pulse
from vit_jax.evaluate.judge import Judged
from vit_jax.evaluate.predictions import class_rows_of, mistake_rows_of, predictions_of
from vit_jax.evaluate.sets import EvalSet, Part, open_evals
from vit_jax.models import flops
from vit_jax.parallel import mesh as meshes
from vit_jax.run import Run
from vit_jax.train import teacher
from vit_jax.train.domain import Domain, Opened, Sizes
from vit_jax.weights import start_from


class Images(Domain):
  """Runs on images."""

  unit, examples, counted, vocabularies = 'images', 'images', 'examples', None
  _backbone: Backbone | None = None  # holds the programs, and images that are cached

  def __init__(
    self,
    x: Experiment,
    data_dir: Path,
    mesh: DeviceMesh,
    opened: Opened | None,
    sizes: Sizes | None,
  ):
    super().__init__(x, data_dir, mesh, opened)
    self.data = x.images
    meshes.check_batch(x.batch_size, mesh, 'config.batch_size', x.optim.accumulate)
    meshes.check_batch(x.eval_batch_size, mesh, 'config.eval_batch_size')
    if sizes is None:
      self.source = self.source or sources.open_source(self.data, self.data.train, data_dir)
      names = self.source.class_names
      sizes = Sizes(len(self.source), self.data.num_classes or len(names), names)
    self.sizes = sizes
    self._check_labels()
    self.shape, self.rows = (*self.data.image_size, self.data.channels), (x.batch_size,)
    inputs = inputs_of(self.data, sizes.class_names)
    self.model = models.build(x.model.name, sizes.num_classes, x.model.options, inputs)
    meshes.check_tokens(self.model, self.data.image_size, mesh)
    self.task = teacher.make_task(x, sizes.num_classes)
    self.abstract_frozen = teacher.abstract_frozen(self.task, self.shape, mesh)

  @cached_property
  def _sets(self) -> bool:
    """Whether the label to train on is a set of classes."""
    return self.source is not None and self.source.label_sets() is not None

  def _check_labels(self) -> None:
    data, loss = self.data, self.experiment.loss.name
    if loss == 'softmax' and not data.soft_label and self._sets:
      raise UserError(
        f'config.data.label is {data.label!r}, which gives data set {data.name!r} a set of classes '
        "per example, but config.loss.name is 'softmax', which is for one class; set it to "
        "'sigmoid', or name a feature with one class"
      )

  @property
  def tokens(self) -> int:
    rows, columns = self.model.grid(self.data.image_size)
    return rows * columns if hasattr(self.model.options, 'width') else 0

  @cached_property
  def frozen(self) -> tuple[Any, ...]:
    names = self.sizes.class_names
    return teacher.load_frozen(
      self.experiment, self.task, self.abstract_frozen, names, self.data_dir
    )

  def flop_per_step(self) -> float:
    return 6 * flops.forward_macs(self.model, self.shape, train=True) * self.experiment.batch_size

  def batch_shapes(self) -> dict[str, tuple[tuple[int, ...], Any]]:
    rows = (self.experiment.batch_size,)
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
      'image': ((*rows, *self.shape), jnp.uint8),
      'label': (rows, jnp.int32),
      'mask': (rows, jnp.bool_),
      'index': (rows, jnp.int32),
    }
    if self.data.soft_label or self._sets:
      shapes['soft_label'] = (*rows, self.sizes.num_classes), jnp.float32
    return shapes

  @cached_property
  def loader(self) -> loader.Loader:
    x, source = self.experiment, self.need_source()
    rows = meshes.local_rows(x.batch_size, self.mesh)
    return loader.Loader(
      source,
      self.data,
      seed=x.seed,
      batch_size=x.batch_size,
      train=True,
      rows=rows,
      augment=x.augment,
    )

  def load(self, variables: Any) -> tuple[Any, str, str]:
    return start_from(
      self.experiment.init_from,
      self.model,
      variables,
      image_size=self.data.image_size,
      class_names=self.sizes.class_names,
      data_dir=self.data_dir,
    )

  @cached_property
  def evals(self) -> dict[str, EvalSet]:
    """Raises a UserError for missing data or unknown classes."""
    lines = {name: line for name, line in self.experiment.evals.items() if isinstance(line, Eval)}
    if self._opened:
      return {name: self._opened.evals[name] for name in lines}
    return open_evals(lines, self.data, self.sizes.class_names, self.data_dir)

  def found(self) -> list[tuple[str, dict[str, Any]]]:
    """Reads the first bytes of many files, so that one process does it for all."""
    how = Pixels.of(self.data)
    evals = (source for part in self.parts.values() for source in part)
    return [(each.line, each.details()) for each in found.found_in([self.source, *evals], how)]

  @property
  def parts(self) -> dict[str, list[Any]]:
    def sources_of(parts: Sequence[Part | None]) -> list[Any]:
      return [part.source for part in parts if part]

    return {name: sources_of([*line.tests, line.train]) for name, line in self.evals.items()}

  def evaluate(
    self, variables: Any, names: Sequence[str] | None, pulse: Pulse
  ) -> dict[str, Judged]:
    self._backbone = self._backbone or self._make_backbone(variables)
    backbone = dataclasses.replace(self._backbone, variables=variables)
    return judge.judge(self.evals, backbone, pulse, names)

  def _make_backbone(self, variables: Any) -> Backbone:
    x, data, view = self.experiment, self.data, View.of(self.model.inputs)
    forward = Forward(
      self.model, variables, mean=data.mean, std=data.std, loss=x.loss.name, mesh=self.mesh
    )
    names, size = self.sizes.class_names, x.eval_batch_size
    return Backbone(x.name, self.model, variables, forward, view, data, self.mesh, size, names)

  def keep(self, run: Run, judged: Mapping[str, Judged], pulse: Pulse) -> None:
    for name, each in judged.items():
      if each.rows is not None:
        pulse.begin(name, len(each.rows['index']))
        kept = predictions_of(each, View.of(self.model.inputs))
        run.write_predictions(name, kept)
        run.write_table(f'{name}.classes', class_rows_of(each))
        run.write_table(f'{name}.mistakes', mistake_rows_of(kept))

  def headline(self, metrics: Mapping[str, float]) -> str:
    if 'map' in metrics:
      return f'mean average precision {metrics["map"]:.2%}'
    return f'top-1 {metrics["top1"]:.2%}' if 'top1' in metrics else ''
