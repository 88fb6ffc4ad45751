"""What a run on one kind of data has of its own; there are two, `Images` and `Sentences`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from jax.sharding import Mesh as DeviceMesh

from vit_jax.config import Experiment
from vit_jax.errors import UserError
from vit_jax.evaluate.backbone import Pulse
from vit_jax.run import Run


class Sizes(NamedTuple):
  """What a run takes from its training data beside the examples themselves.

  Attributes:
    num_classes: of sentences, the size of the target's vocabulary.
    num_batches: of an epoch, if batches differ in their number of examples; else 0.
  """

  num_examples: int
  num_classes: int
  class_names: tuple[str, ...] = ()
  num_batches: int = 0

  def examples_per_step(self, batch_size: int) -> float:
    """On average over an epoch; config.batch_size of images."""
    return self.num_examples / self.num_batches if self.num_batches else batch_size


class Opened(NamedTuple):
  """Data that a caller opened, in place of what the recipe names."""

  source: Any
  evals: dict[str, Any]


class Judged(Protocol):
  """What an evaluation found."""

  @property
  def metrics(self) -> Mapping[str, float]: ...

  @property
  def source(self) -> Any:
    """What was judged."""
    ...

  def details(self) -> str:
    """A table for a person, or ''."""
    ...


class Domain:
  """Model, task, batches and evaluations of a run.

  Attributes:
    unit: what throughput counts, 'images' or 'tokens'.
    counted: the sum of a task's metrics that the others are divided by.
    examples: what the data has, 'images' or 'pairs'.
    rows: of each global training batch that there is, the largest examples last.
    source: the training split; None if the sizes were given.
    shape: (H, W, C) of an image, or (S, T) of the longest pairs.
    vocabularies: of sentences.
    tokens: of an example; 0 if the model has none.
    abstract_frozen, frozen: what the task reads but no step changes, as shapes and as arrays.
    loader: this process's rows of each global training batch.
    evals: the evaluation table, opened.
    parts: by eval, the sources that it reads.
  """

  unit: ClassVar[str]
  counted: ClassVar[str]
  examples: ClassVar[str]
  source: Any
  sizes: Sizes
  model: Any
  task: Any
  shape: tuple[int, ...]
  rows: Sequence[int]
  vocabularies: Any
  tokens: int
  abstract_frozen: tuple[Any, ...]
  frozen: tuple[Any, ...]
  loader: Any
  evals: Mapping[str, Any]
  parts: Mapping[str, Sequence[Any]]

  def __init__(self, x: Experiment, data_dir: Path, mesh: DeviceMesh, opened: Opened | None):
    self.experiment, self.data_dir, self.mesh = x, data_dir, mesh
    self.source, self._opened = opened.source if opened else None, opened

  def need_source(self) -> Any:
    """The training split; raises a UserError if the sizes were given in its place."""
    if self.source is None:
      raise UserError('a trainer that was given the sizes of its data has no batches')
    return self.source

  def found(self) -> list[tuple[str, dict[str, Any]]]:
    """(one line, details) about each data set as people have it."""
    return []

  def flop_per_step(self) -> float:
    """Floating-point operations of a training step, on average."""
    raise NotImplementedError

  def batch_shapes(self) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of each array of the largest global training batch."""
    raise NotImplementedError

  def load(self, variables: Any) -> tuple[Any, str, str]:
    """(variables from config.init_from, what was loaded in one line, their digest)."""
    raise NotImplementedError

  def evaluate(
    self, variables: Any, names: Sequence[str] | None, pulse: Pulse
  ) -> Mapping[str, Judged]:
    """Judges lines of the evaluation table, by default all; the same on every process."""
    raise NotImplementedError

  def keep(self, run: Run, judged: Mapping[str, Any], pulse: Pulse) -> None:
    """Writes what was predicted of each example to the run folder."""
    raise NotImplementedError

  def headline(self, metrics: Mapping[str, float]) -> str:
    """The result of an evaluation in words."""
    raise NotImplementedError
