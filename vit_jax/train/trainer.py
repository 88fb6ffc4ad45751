"""Everything that training needs, built once from a recipe."""

import copy
import dataclasses
import hashlib
from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax.sharding import Mesh as DeviceMesh
from jax.sharding import NamedSharding

from vit_jax import models
from vit_jax.config import Experiment
from vit_jax.data import loader, sources
from vit_jax.data.sources import Source
from vit_jax.data.view import View, inputs_of
from vit_jax.errors import UserError
from vit_jax.evaluate import judge
from vit_jax.evaluate.backbone import Backbone, Forward, Pulse
from vit_jax.evaluate.judge import Judged
from vit_jax.evaluate.sets import EvalSet, open_evals
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.run import Identity
from vit_jax.train import optim, teacher
from vit_jax.train.state import TrainState, init_state
from vit_jax.train.step import Batch, Metrics, make_train_step
from vit_jax.weights import start_from


class Sizes(NamedTuple):
  """What a run takes from its training data beside the examples themselves."""

  num_examples: int
  num_classes: int
  class_names: tuple[str, ...] = ()


class Opened(NamedTuple):
  """Data that a caller opened, in place of what the recipe names."""

  source: Source
  evals: dict[str, EvalSet]


class Trainer:
  """The pieces of a run: mesh, data, model, task, optimizer, step.

  Building it checks all that can be checked before a step is taken.

      trainer = Trainer(recipe('configs/earth_climate.py'))
      state = trainer.init()
      for batch in trainer.batches():
        state, metrics = trainer.step(state, batch)

  Attributes:
    source: the training split; None if the sizes were given.
    steps: the length of the run.
    abstract_state: shapes with shardings of the state; `abstract_frozen`: of what the task reads
      but no step changes.
  """

  def __init__(
    self,
    experiment: Experiment,
    data_dir: Path | str | None = None,
    *,
    mesh: DeviceMesh | None = None,
    opened: Opened | None = None,
    sizes: Sizes | None = None,
    steps: int | None = None,
    shapes: TrainState | None = None,
  ):
    """
    Args:
      data_dir: prepared data sets; None is `default_data_dir()`.
      mesh: by default over all devices.
      opened: data in place of what the recipe names.
      sizes: in place of opening the training data, for a plan or to evaluate.
      steps: the length of a run that has begun; by default as the recipe says.
      shapes: of the state, if another trainer of the same model and optimizer has them.

    Raises:
      UserError: the data is missing, or keys do not fit each other, the data or the devices.
    """
    x = self.experiment = experiment
    self.data_dir = Path(data_dir) if data_dir else sources.default_data_dir()
    self.mesh = meshes.make_mesh(x.mesh) if mesh is None else mesh
    meshes.check_batch(x.batch_size, self.mesh, 'config.batch_size', x.optim.accumulate)
    meshes.check_batch(x.eval_batch_size, self.mesh, 'config.eval_batch_size')
    self.source = opened.source if opened else None
    if sizes is None:
      source = self.source = self.source or sources.open_source(x.data, x.data.train, self.data_dir)
      names = source.class_names
      sizes = Sizes(len(source), x.data.num_classes or len(names), names)
    self.sizes, self._opened = sizes, opened
    inputs = inputs_of(x.data, sizes.class_names)
    self.model = models.build(x.model.name, sizes.num_classes, x.model.options, inputs)
    meshes.check_tokens(self.model, x.data.image_size, self.mesh)
    self.task = teacher.make_task(x, sizes.num_classes)
    self.steps = x.length.to_steps(x.batch_size, sizes.num_examples) if steps is None else steps
    self.schedule = optim.make_schedule(x.optim, self.steps, x.batch_size, sizes.num_examples)
    self.tx = optim.make_optimizer(x.optim, self.schedule)
    self.abstract_state = rules.abstract(shapes or jax.eval_shape(self._init), self.mesh)
    self.abstract_frozen = teacher.abstract_frozen(self.task, self.image_shape, self.mesh)

  def varied(self, experiment: Experiment) -> Self:
    """A copy for a recipe that differs in what no shape depends on: remat, accumulation."""
    other = copy.copy(self)
    other.experiment = experiment
    model = experiment.model
    other.model = models.build(model.name, self.sizes.num_classes, model.options, self.model.inputs)
    return other

  @property
  def image_shape(self) -> tuple[int, int, int]:
    data = self.experiment.data
    return (*data.image_size, data.channels)

  @property
  def grid(self) -> tuple[int, int]:
    """Patches down and across an image."""
    return self.model.grid(self.experiment.data.image_size)

  @property
  def parameters(self) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(self.abstract_state.params))

  @property
  def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes with shardings of a global training batch."""
    sharding = NamedSharding(self.mesh, meshes.BATCH_SPEC)
    rows = {
      'image': (self.image_shape, jnp.uint8),
      'label': ((), jnp.int32),
      'mask': ((), jnp.bool_),
      'index': ((), jnp.int32),
    }
    if self.experiment.data.soft_label:
      rows['soft_label'] = (self.sizes.num_classes,), jnp.float32
    return {
      name: jax.ShapeDtypeStruct((self.experiment.batch_size, *shape), dtype, sharding=sharding)
      for name, (shape, dtype) in rows.items()
    }

  def _init(self) -> TrainState:
    x = self.experiment
    return init_state(self.model, self.tx, self.image_shape, x.seed, bool(x.optim.ema))

  def init(self) -> TrainState:
    """A new state, initialized on its shardings."""
    return jax.jit(self._init, out_shardings=_shardings(self.abstract_state))()

  def begin(self) -> tuple[TrainState, str, str]:
    """(first state, what was loaded in one line, digest of those weights or '').

    Raises:
      UserError: config.init_from is missing or does not fit.
    """
    x, state = self.experiment, self.init()
    if not x.init_from:
      return state, f'fresh, seed {x.seed}', ''
    loaded, line, digest = start_from(
      x.init_from,
      self.model,
      state.variables,
      image_size=x.data.image_size,
      class_names=self.sizes.class_names,
      data_dir=self.data_dir,
    )
    variables = jax.device_put(loaded, _shardings(state.variables))
    ema = None if state.ema is None else jax.tree.map(lambda leaf: leaf.copy(), variables)
    return dataclasses.replace(state, ema=ema, **variables), line, digest

  @cached_property
  def train_step(self) -> Any:
    """The jitted (state, batch, *frozen) -> (state, metrics); see `make_train_step`."""
    x = self.experiment
    return make_train_step(
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

  @cached_property
  def frozen(self) -> tuple[Any, ...]:
    """What a training step takes after state and batch: a teacher's variables, or nothing."""
    names = self.sizes.class_names
    return teacher.load_frozen(
      self.experiment, self.task, self.abstract_frozen, names, self.data_dir
    )

  def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One update; the state is donated. Metrics are sums over examples, still on the device."""
    return self.train_step(state, batch, *self.frozen)

  @cached_property
  def loader(self) -> loader.Loader:
    """This process's rows of each global training batch."""
    if self.source is None:
      raise UserError('a trainer that was given the sizes of its data has no batches')
    x = self.experiment
    return loader.Loader(
      self.source,
      x.data,
      seed=x.seed,
      batch_size=x.batch_size,
      train=True,
      rows=meshes.local_rows(x.batch_size, self.mesh),
    )

  def batches(self, start: int = 0, stop: int | None = None) -> Generator[Batch, None, None]:
    """The global batches of steps `start` to `stop`, by default to the end, on the devices."""

    def put(batch: Mapping[str, Any]) -> Batch:
      return meshes.put_batch(batch, self.mesh, self.experiment.batch_size)

    return loader.prefetch(self.loader, start, self.steps if stop is None else stop, put)

  @cached_property
  def evals(self) -> dict[str, EvalSet]:
    """The evaluation table, opened; raises a UserError for missing data or unknown classes."""
    x = self.experiment
    if self._opened:
      return {name: self._opened.evals[name] for name in x.evals}
    return open_evals(x.evals, x.data, self.sizes.class_names, self.data_dir)

  def identity(self, weights: str = '') -> Identity:
    """What this run is beside its recipe; `weights` is the digest of those it begins with."""
    source = self.loader.source
    return Identity(
      source.class_names, len(source), source.digest(), self.steps, self.eval_digests(), weights
    )

  def eval_digests(self) -> dict[str, str]:
    """A digest of the data of each eval, by its name and what it names as data."""
    found, kept = {}, {}  # lines share sources, and a digest reads the folder
    for name, evals in self.evals.items():
      line = self.experiment.evals[name]
      parts = [*evals.tests, *([evals.train] if evals.train else [])]
      for part in parts:
        if id(part.source) not in kept:
          kept[id(part.source)] = part.source.digest()
      digests = ' '.join(kept[id(part.source)] for part in parts)
      about = f'{name}: {line.data or self.experiment.data.name}, {line.split}'
      found[about] = hashlib.sha256(digests.encode()).hexdigest()
    return found

  @property
  def view(self) -> View:
    """How an evaluation sees an image."""
    return View.of(self.experiment.data)

  @cached_property
  def _backbone(self) -> Backbone:
    x, variables = self.experiment, self.abstract_state.eval_variables
    mean, std, names = x.data.mean, x.data.std, self.sizes.class_names
    forward = Forward(self.model, variables, mean=mean, std=std, loss=x.loss.name, mesh=self.mesh)
    return Backbone(
      x.name, self.model, variables, forward, self.view, x.data, self.mesh, x.eval_batch_size, names
    )

  def evaluate(
    self, variables: Any, names: Sequence[str] | None = None, pulse: Pulse | None = None
  ) -> dict[str, Judged]:
    """Judges lines of the evaluation table, by default all; the same on every process."""
    backbone = dataclasses.replace(self._backbone, variables=variables)
    return judge.judge(self.evals, backbone, pulse or Pulse(), names)


def _shardings(tree: Any) -> Any:
  return jax.tree.map(lambda leaf: leaf.sharding, tree)
