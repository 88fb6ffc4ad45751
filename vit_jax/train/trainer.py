"""Everything that training needs, built once from a recipe."""

import copy
import dataclasses
import functools
import hashlib
from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import optax
from jax.sharding import Mesh as DeviceMesh
from jax.sharding import NamedSharding

from vit_jax import models
from vit_jax.config import Duration, Experiment, ImageData
from vit_jax.data.loader import prefetch
from vit_jax.evaluate.backbone import Pulse
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.paths import default_data_dir
from vit_jax.run import Identity
from vit_jax.train import optim
from vit_jax.train.domain import Domain, Judged, Opened, Sizes
from vit_jax.train.images import Images
from vit_jax.train.schedules import fit_ends, make_schedule
from vit_jax.train.state import TrainState, init_state
from vit_jax.train.step import Batch, Metrics, make_train_step


class Trainer:
  """The pieces of a run: mesh, data, model, task, optimizer, step.

  Building it checks all that can be checked before a step is taken.

      trainer = Trainer(recipe('configs/earth_climate.py'))
      state = trainer.init()
      for batch in trainer.batches():
        state, metrics = trainer.step(state, batch)

  Attributes:
    domain: what is of images, or of sentences, alone.
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
    vocabularies: Any = None,
    shapes: TrainState | None = None,
  ):
    """
    Args:
      data_dir: prepared data sets; None is `default_data_dir()`.
      mesh: by default over all devices.
      opened: data in place of what the recipe names.
      sizes: in place of opening the training data, for a plan or to evaluate.
      steps: the length of a run that has begun; by default as the recipe says.
      vocabularies: of a translation run that has begun.
      shapes: of the state, if another trainer of the same model and optimizer has them.

    Raises:
      UserError: the data is missing, or keys do not fit each other, the data or the devices.
    """
    x = self.experiment = experiment
    self.data_dir = Path(data_dir) if data_dir else default_data_dir()
    self.mesh = meshes.make_mesh(x.mesh) if mesh is None else mesh
    self.domain = _domain(x, self.data_dir, self.mesh, opened, sizes, vocabularies)
    self.sizes, self.model, self.task = self.domain.sizes, self.domain.model, self.domain.task
    self.abstract_frozen = self.domain.abstract_frozen
    self.steps = self.to_steps(x.length) if steps is None else steps
    self.schedule = self.schedule_of(self.steps)
    self.tx = optim.make_optimizer(x.optim, self.schedule)
    self.abstract_state = rules.abstract(shapes or jax.eval_shape(self._init), self.mesh)

  def varied(self, experiment: Experiment) -> Self:
    """A copy for a recipe that differs in what no shape depends on: remat, accumulation."""
    other = copy.copy(self)
    other.experiment = experiment
    model = experiment.model
    other.model = models.build(model.name, self.sizes.num_classes, model.options, self.model.inputs)
    return other

  def schedule_of(self, steps: int) -> optax.Schedule:
    """The learning rate by step of a run of this length."""
    sizes, x = self.sizes, self.experiment
    examples = sizes.examples_per_step(x.batch_size)
    return make_schedule(x.optim, steps, examples, sizes.num_examples)

  @property
  def shortened(self) -> str:
    """A line that says that warm-up or cool-down did not fit into the run; '' if they do."""
    sizes, x = self.sizes, self.experiment
    examples = sizes.examples_per_step(x.batch_size)
    return fit_ends(x.optim, self.steps, examples, sizes.num_examples).line

  def to_steps(self, duration: Duration) -> int:
    """A length or a cadence in optimizer steps."""
    examples = self.sizes.examples_per_step(self.experiment.batch_size)
    return duration.to_steps(examples, self.sizes.num_examples)

  @property
  def shape(self) -> tuple[int, ...]:
    """(H, W, C) of an image, or (S, T) of the longest pairs."""
    return self.domain.shape

  @property
  def parameters(self) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(self.abstract_state.params))

  @property
  def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes with shardings of a global training batch, the largest one."""
    sharding = NamedSharding(self.mesh, meshes.BATCH_SPEC)
    return {
      name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
      for name, (shape, dtype) in self.domain.batch_shapes().items()
    }

  def _init(self) -> TrainState:
    x = self.experiment
    return init_state(self.model, self.tx, self.shape, x.seed, bool(x.optim.ema), x.spikes)

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
    loaded, line, digest = self.domain.load(state.variables)
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
      ema_warmup=x.optim.ema_warmup,
      spikes=x.spikes,
      trained=optim.trained(x.optim, self.abstract_state.params),
      reduce_dtype=x.optim.reduce_dtype,
      gather=x.mesh.gather,
      frozen=self.abstract_frozen,
    )

  @property
  def frozen(self) -> tuple[Any, ...]:
    """What a training step takes after state and batch: a teacher's variables, or nothing."""
    return self.domain.frozen

  def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """One update; the state is donated. Metrics are sums over examples, still on the device."""
    return self.train_step(state, batch, *self.frozen)

  def batches(self, start: int = 0, stop: int | None = None) -> Generator[Batch, None, None]:
    """The global batches of steps `start` to `stop`, by default to the end, on the devices."""
    put = functools.partial(meshes.put_batch, mesh=self.mesh)
    return prefetch(self.domain.loader, start, self.steps if stop is None else stop, put)

  def identity(self, weights: str = '') -> Identity:
    """What this run is beside its recipe; `weights` is the digest of those it begins with."""
    source, vocabularies = self.domain.loader.source, self.domain.vocabularies
    return Identity(
      self.sizes.class_names,
      len(source),
      source.digest(),
      self.steps,
      self.eval_digests(),
      weights,
      vocabularies.digest() if vocabularies else '',
      self.sizes.num_batches,
    )

  def eval_digests(self) -> dict[str, str]:
    """A digest of the data of each eval, by its name and what it names as data."""
    found, kept = {}, {}  # lines share sources, and a digest reads the folder
    for name, parts in self.domain.parts.items():
      line = self.experiment.evals[name]
      for source in parts:
        if id(source) not in kept:
          kept[id(source)] = source.digest()
      digests = ' '.join(kept[id(source)] for source in parts)
      about = f'{name}: {line.data or self.experiment.data.name}, {line.split}'
      found[about] = hashlib.sha256(digests.encode()).hexdigest()
    return found

  def evaluate(
    self, variables: Any, names: Sequence[str] | None = None, pulse: Pulse | None = None
  ) -> Mapping[str, Judged]:
    """Judges lines of the evaluation table, by default all; the same on every process."""
    return self.domain.evaluate(variables, names, pulse or Pulse())


def _domain(
  x: Experiment,
  data_dir: Path,
  mesh: DeviceMesh,
  opened: Opened | None,
  sizes: Sizes | None,
  vocabularies: Any,
) -> Domain:
  if isinstance(x.data, ImageData):
    return Images(x, data_dir, mesh, opened, sizes)
  from vit_jax.train.sentences import Sentences  # here: it needs the extra `text`

  return Sentences(x, data_dir, mesh, opened, sizes, vocabularies)


def _shardings(tree: Any) -> Any:
  return jax.tree.map(lambda leaf: leaf.sharding, tree)
