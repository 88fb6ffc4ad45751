"""What is judged: a model with its variables on a mesh, and how it sees an image."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh as DeviceMesh
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from vit_jax.config import ImageData, Mesh
from vit_jax.data import loader
from vit_jax.data.augment import normalize
from vit_jax.data.sources import Source
from vit_jax.data.view import View
from vit_jax.evaluate import metrics
from vit_jax.evaluate.metrics import Rows
from vit_jax.parallel import mesh as meshes
from vit_jax.parallel import rules
from vit_jax.weights import Opened, digest

Batch = Mapping[str, jax.Array]
T = TypeVar('T')


class Pulse:
  """Told how an evaluation proceeds; shares work among processes. This one does nothing."""

  def begin(self, title: str, total: int) -> None:
    """A pass over `total` examples begins."""

  def beat(self, count: int) -> None:
    """`count` more examples are done. What it raises ends the evaluation."""

  def share(self, make: Callable[[], T]) -> T:
    """What `make` returns on process 0, on every process."""
    return make()


class Featured(Protocol):
  """Anything that gives features of images: a `Backbone`, or a bag of visual words.

  `fingerprint` names all that decides a feature; stored features are found by it.
  """

  @property
  def name(self) -> str: ...

  @property
  def fingerprint(self) -> str: ...

  def features(self, source: Source, pulse: Pulse) -> tuple[np.ndarray, np.ndarray]:
    """(features_ND, labels_N) of every example of a source, in order."""
    ...


class Forward:
  """The jitted programs of an evaluation: (variables, batch) -> arrays over B on every process."""

  def __init__(
    self,
    model: Any,
    variables: Any,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    loss: str,
    mesh: DeviceMesh,
  ):
    """`variables` are arrays or shapes; `mean` and `std` of pixels in [0, 1], per channel."""
    self._model, self._mean, self._std, self._loss, self._mesh = model, mean, std, loss, mesh
    self.shardings = rules.shardings(variables, mesh)  # of the variables

  @cached_property
  def classify(self) -> Callable[[Any, Batch], Batch]:
    """The rows of `metrics.class_rows`."""
    return self._jit(
      lambda output, batch: metrics.class_rows(output.logits_BK, batch['label'], self._loss)
    )

  @property
  def independent(self) -> bool:
    """Whether the model says of each class by itself whether it is right."""
    return self._loss != 'softmax'

  @cached_property
  def probabilities(self) -> Callable[[Any, Batch], Batch]:
    """As `classify`, and the probability of every class."""
    return self._jit(
      lambda output, batch: metrics.class_rows(output.logits_BK, batch['label'], self._loss, True)
    )

  @cached_property
  def features(self) -> Callable[[Any, Batch], Batch]:
    """`features`, what the head sees."""
    return self._jit(lambda output, batch: {'features': output.features_BD.astype(jnp.float32)})

  def _jit(self, rows_of: Callable[[Any, Batch], Batch]) -> Callable[[Any, Batch], Batch]:
    def forward(variables: Any, batch: Batch) -> Batch:
      with jax.sharding.use_abstract_mesh(self._mesh.abstract_mesh):
        images_BHWC = normalize(batch['image'], self._mean, self._std)
        output = self._model.apply(variables, images_BHWC, train=False)
        return {**rows_of(output, batch), **{name: batch[name] for name in KNOWN}}

    return jax.jit(
      forward,
      in_shardings=(self.shardings, NamedSharding(self._mesh, meshes.BATCH_SPEC)),
      out_shardings=NamedSharding(self._mesh, P()),
    )


KNOWN = ('label', 'index', 'mask')


@dataclass(frozen=True)
class Backbone:
  """A model to be judged; `dataclasses.replace` gives it other variables."""

  name: str
  model: Any
  variables: Any  # on `mesh`
  forward: Forward
  view: View
  data: ImageData  # how images are read (threads, cache, bad records); `view` decides their pixels
  mesh: DeviceMesh
  batch_size: int  # of the global batch
  class_names: tuple[str, ...] = ()  # of its head; () where it has none, or they are unknown
  _loaders: dict[int, loader.Loader] = field(default_factory=dict, repr=False)

  @classmethod
  def of(cls, name: str, opened: Opened, *, view: View, batch_size: int) -> Self:
    """Opened weights, whole on every device; their examples are read once, and not cached."""
    mesh = meshes.make_mesh(Mesh())
    forward = Forward(
      opened.model, opened.variables, mean=opened.mean, std=opened.std, loss='softmax', mesh=mesh
    )
    variables = jax.device_put(opened.variables, forward.shardings)
    data = ImageData(image_size=view.image_size, channels=view.channels, cache='never')
    return cls(
      name, opened.model, variables, forward, view, data, mesh, batch_size, opened.class_names
    )

  def classify(self, source: Source, pulse: Pulse, every: bool = False) -> Rows:
    """The rows of every example of a source, in order, the same on every process.

    Args:
      every: with the `probability` of every class.
    """
    program = self.forward.probabilities if every else self.forward.classify
    return self._rows(program, source, pulse)

  def features(self, source: Source, pulse: Pulse) -> tuple[np.ndarray, np.ndarray]:
    """(features_ND, labels_N), likewise."""
    rows = self._rows(self.forward.features, source, pulse)
    return rows['features'], rows['label']

  @property
  def fingerprint(self) -> str:
    said = f'{self.model!r} {self.view!r} {digest(self.variables)}'
    return hashlib.sha256(said.encode()).hexdigest()

  def _rows(self, forward: Callable, source: Source, pulse: Pulse) -> dict[str, np.ndarray]:
    def put(batch: Any) -> Batch:
      return meshes.put_batch(batch, self.mesh)

    batches, rows = self._loader(source), []
    pulse.begin(f'{self.name}: {source.name} {source.split}', len(source))
    with closing(loader.prefetch(batches, 0, batches.num_batches, put)) as prefetched:
      for batch in prefetched:
        rows.append(jax.device_get(forward(self.variables, batch)))
        pulse.beat(self.batch_size)
    return metrics.concatenate(rows)

  def _loader(self, source: Source) -> loader.Loader:
    """Kept from one evaluation to the next: decoded images may be cached in it."""
    if id(source) not in self._loaders:
      self._loaders[id(source)] = loader.Loader(
        source,
        self.data,
        seed=0,
        batch_size=self.batch_size,
        train=False,
        rows=meshes.local_rows(self.batch_size, self.mesh),
        view=self.view,
      )
    return self._loaders[id(source)]
