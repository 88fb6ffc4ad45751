"""Everything a run needs, built once from an Experiment: `train` and `evaluate` start here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh as DeviceMesh
from jax.sharding import NamedSharding

from vit_jax import models
from vit_jax.config import Data, Experiment
from vit_jax.data import loader, sources
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.training import metrics, optim, step, teacher
from vit_jax.training.state import TrainState, init_state
from vit_jax.training.tasks import Classification


@dataclass(frozen=True)
class Setup:
  """The pieces of one run. Building it checks all that can be checked before a step is taken."""

  experiment: Experiment
  data_dir: Path
  mesh: DeviceMesh
  source: sources.Source  # the training split
  model: Any
  task: Classification
  schedule: optax.Schedule
  tx: optax.GradientTransformation
  steps: int
  abstract_state: TrainState  # shapes with shardings
  abstract_frozen: tuple[Any, ...] = ()  # likewise, what the task reads and no step changes

  @property
  def image_shape(self) -> tuple[int, int, int]:
    data = self.experiment.data
    return (*data.image_size, data.channels)

  @property
  def grid(self) -> tuple[int, int]:
    """Patches down and across an image."""
    return self.model.grid(self.experiment.data.image_size)

  @property
  def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes with shardings of a global training batch, as `put` makes it."""
    sharding = NamedSharding(self.mesh, meshes.BATCH_SPEC)
    rows = {
      'image': (self.image_shape, jnp.uint8),
      'label': ((), jnp.int32),
      'mask': ((), jnp.bool_),
      'index': ((), jnp.int32),
    }
    if self.experiment.data.soft_label:
      rows['soft_label'] = (self.task.num_classes,), jnp.float32
    return {
      name: jax.ShapeDtypeStruct((self.experiment.batch_size, *shape), dtype, sharding=sharding)
      for name, (shape, dtype) in rows.items()
    }

  @cached_property
  def parameters(self) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(self.abstract_state.params))

  def write_sharding(self, workdir: Path) -> str:
    """Writes where each leaf lies to sharding.txt; returns one line that sums it up."""
    if jax.process_index() == 0:
      text = rules.table(self.abstract_state, self.mesh)
      (workdir / 'sharding.txt').write_text(text + '\n')
    return f'sharding: {rules.summary(self.abstract_state, self.mesh)}; see sharding.txt'

  def fresh_state(self) -> TrainState:
    """A new state, initialised where it will live."""
    x = self.experiment
    init = jax.jit(
      lambda: init_state(self.model, self.tx, self.image_shape, x.seed, bool(x.optim.ema)),
      out_shardings=jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state),
    )
    return init()

  def train_step(self) -> Callable:
    x = self.experiment
    return step.make_train_step(
      self.model,
      self.task,
      self.tx,
      mesh=self.mesh,
      state=self.abstract_state,
      seed=x.seed,
      accumulate=x.optim.accumulate,
      ema=x.optim.ema,
      frozen=self.abstract_frozen,
    )

  def load_frozen(self) -> tuple[Any, ...]:
    """What a training step takes after state and batch: a teacher's variables, or nothing."""
    return teacher.load_frozen(self.experiment, self.task, self.abstract_frozen, self.data_dir)

  def train_loader(self) -> loader.Loader:
    """This process's rows of each global training batch."""
    x = self.experiment
    return loader.Loader(
      self.source,
      x.data,
      seed=x.seed,
      batch_size=x.batch_size,
      train=True,
      rows=meshes.local_rows(x.batch_size, self.mesh),
    )

  def put(self, batch: Mapping[str, Any], batch_size: int) -> dict[str, jax.Array]:
    return meshes.put_batch(batch, self.mesh, batch_size)

  @cached_property
  def eval_step(self) -> Callable:
    return step.make_eval_step(
      self.model, self.task, mesh=self.mesh, variables=self.abstract_state.eval_variables
    )

  def evaluate(
    self, variables: Any, split: str, before_batch: Callable[[], None] = lambda: None
  ) -> tuple[metrics.Rows, sources.Source]:
    """(one row for each example of `split`, in order, the same on every process; the source).

    Args:
      before_batch: what it raises ends the evaluation.
    """
    batches = self._eval_loader(self.experiment.data, split)
    return self._rows(self.eval_step, variables, batches, before_batch), batches.source

  @cached_property
  def features_step(self) -> Callable:
    return step.make_features_step(
      self.model, self.task, mesh=self.mesh, variables=self.abstract_state.eval_variables
    )

  def features(
    self, variables: Any, name: str, split: str, before_batch: Callable[[], None] = lambda: None
  ) -> tuple[np.ndarray, np.ndarray]:
    """(features_ND, labels_N) of a split of another data set, seen as an evaluation sees one."""
    batches = self._eval_loader(self._other(name), split)
    rows = self._rows(self.features_step, variables, batches, before_batch)
    return rows['features'], rows['label']

  def check_evals(self) -> None:
    """Raises a UserError where what is to be judged or predicted cannot be opened."""
    data = self.experiment.data
    for split in (*data.evals.values(), *data.predict.values()):
      self._eval_loader(data, split)
    for judged in self.experiment.evals.values():
      for split in (judged.train, judged.test):
        self._eval_loader(self._other(judged.data), split)

  def _other(self, name: str) -> Data:
    return dataclasses.replace(
      self.experiment.data, name=name, dir='', num_classes=0, image='', label='', soft_label=''
    )

  def _rows(
    self, judge: Callable, variables: Any, batches: loader.Loader, before_batch: Callable[[], None]
  ) -> dict[str, np.ndarray]:
    size, rows = self.experiment.eval_batch_size, []
    prefetched = loader.prefetch(batches, 0, batches.num_batches, lambda b: self.put(b, size))
    with closing(prefetched):
      for batch in prefetched:
        before_batch()
        rows.append(jax.device_get(judge(variables, batch)))
    return metrics.concatenate(rows)

  def _eval_loader(self, data: Data, split: str) -> loader.Loader:
    """Kept from one evaluation to the next, for decoded images may be cached in it."""
    x, key = self.experiment, (data.name, split)
    if key not in self._eval_loaders:
      self._eval_loaders[key] = loader.Loader(
        sources.open_source(data, split, self.data_dir),
        data,
        seed=x.seed,
        batch_size=x.eval_batch_size,
        train=False,
        rows=meshes.local_rows(x.eval_batch_size, self.mesh),
      )
    return self._eval_loaders[key]

  @cached_property
  def _eval_loaders(self) -> dict[tuple[str, str], loader.Loader]:
    return {}


def set_up(x: Experiment, data_dir: Path) -> Setup:
  """Opens the data and builds mesh, model, task and optimizer.

  Raises:
    UserError: the data is not there, or keys do not fit each other, the data or the devices.
  """
  mesh = meshes.make_mesh(x.mesh)
  meshes.check_batch(x.batch_size, mesh, 'config.batch_size', x.optim.accumulate)
  meshes.check_batch(x.eval_batch_size, mesh, 'config.eval_batch_size')
  source = sources.open_source(x.data, x.data.train, data_dir)
  num_classes = x.data.num_classes or len(source.class_names)
  setup = assemble(x, data_dir, mesh, source, len(source), num_classes)
  setup.check_evals()
  return setup


def assemble(
  x: Experiment, data_dir: Path, mesh: DeviceMesh, source: Any, num_examples: int, num_classes: int
) -> Setup:
  """A Setup from the sizes of the data alone: what plans and abstract checks need."""
  model = models.build(x.model.name, num_classes, **x.model.options)
  meshes.check_tokens(model, x.data.image_size, mesh)
  task = teacher.make_task(x, num_classes)
  steps = x.length.to_steps(x.batch_size, num_examples)
  schedule = optim.make_schedule(x.optim, steps, x.batch_size, num_examples)
  tx = optim.make_optimizer(x.optim, schedule)
  image_shape = *x.data.image_size, x.data.channels
  shapes = jax.eval_shape(lambda: init_state(model, tx, image_shape, x.seed, bool(x.optim.ema)))
  frozen = teacher.abstract_frozen(task, image_shape, mesh)
  return Setup(
    x,
    data_dir,
    mesh,
    source,
    model,
    task,
    schedule,
    tx,
    steps,
    rules.abstract(shapes, mesh),
    frozen,
  )
