"""Write checkpoints: asynchronous saves by Orbax, of which the last and the best are kept."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from vit_jax import config
from vit_jax.errors import RunFault
from vit_jax.parallel.processes import Processes
from vit_jax.run.checkpoint import DESCRIPTION, Checkpoints, Damaged
from vit_jax.run.checksums import checksums, seal
from vit_jax.run.files import read_object
from vit_jax.run.orbax_log import orbax_log
from vit_jax.run.uploads import Uploads
from vit_jax.trees import flatten

READ_BACK = 2**30  # bytes at a time: there may be no room for a second state


class CheckpointWriter(Checkpoints):
  """The checkpoints of the run that trains here. All its processes call all methods together.

  With `uploads` each process has a folder of its own, and what is saved there is uploaded.
  """

  def __init__(
    self, run: Path, options: config.Checkpoint, here: Processes, uploads: Uploads | None = None
  ):
    self._here, self._uploads = here, uploads
    self._on_disk(lambda: _empty_damaged_descriptions(run / 'checkpoints'))
    super().__init__(run, options, writes=True)
    self._under_way: tuple[int, Any] | None = None  # a save: its step, and a future
    self._restored = -1  # the step restored at the start, which may be saved again
    self._on_disk(self._take_back)

  def save(
    self,
    step: int,
    tree: Any,
    beside: Mapping[str, Any],
    metrics: Mapping[str, float] | None,
    *,
    good: bool = True,
  ) -> None:
    """Starts a save and returns once the tree is copied; first waits for the previous save, and for
    its upload if this one is to be uploaded too.

    Until a checkpoint of this run has been read, waits for this save too and reads it back. The
    checkpoint that was restored stays until its step is saved again.

    Args:
      beside: JSON that `restore` gives back.
      metrics: those measured at this step, if any.
      good: whether `restore_good` may take it.

    Raises:
      RunFault: the previous save was not committed, or this one was refused or cannot be read back.
      StoreFault: a save was not uploaded.
    """
    self._settle()
    to_store = self._uploads.begin(step) if self._uploads else False
    if step == self._restored:
      self._on_disk(lambda: self._make_way(step))
      self._here.gather(self.steps())  # every process has seen the move before any writes
    sums = checksums(tree)
    beside = {
      **beside,
      'metrics': dict(metrics or {}),
      'good': good,
      'leaves': {name: [*leaf.shape, sums[name]] for name, leaf in flatten(tree).items()},
    }
    self._retention.add(step, beside)
    best = self._retention.best([*self.steps(), step]) if to_store else ()
    if self._uploads:
      self._retention.held = self._uploads.held
    orbax_log.failure = None
    started = self._checkpointer.save_async(
      step, tree, force=True, overwrite=True, custom_metadata=seal(beside)
    )
    if started is None:
      raise RunFault(f'the checkpoint of step {step} was not saved: the writer skipped it')
    self._under_way = step, started
    if self._uploads and to_store:
      self._uploads.save(step, best, started)
    if not self._proved:
      self._settle()
      if self._uploads:
        self._uploads.settle()
      self._read_back(step, tree)

  def check(self) -> None:
    """Raises what went wrong in the save under way, as soon as that is known."""
    if self._under_way is not None and orbax_log.failure is not None:
      raise orbax_log.failure
    if self._uploads:
      self._uploads.check()

  def restore_newest(self, abstract: Any) -> tuple[Any, dict[str, Any], str] | None:
    """(tree, what was saved beside it, lines that say so) of the newest good checkpoint.

    None if the run has no checkpoint yet. Damaged ones are moved away, but only if a good one is
    left.

    Raises:
      RunFault: none of them is good.
      UserError: they belong to another model.
    """
    faults: dict[int, str] = {}
    for step in reversed(self._here.share(self.steps)):
      try:
        tree, beside = self.restore(step, abstract)
      except Damaged as error:
        faults[step] = str(error)
        continue
      aside = self._on_disk(lambda: [str(self._put_aside(bad)) for bad in faults])
      self.steps()  # on every process, without the damaged ones
      lines = [
        f'{fault}; moved to {path}' for fault, path in zip(faults.values(), aside, strict=True)
      ]
      self._restored = step
      lines.append(f'start: checkpoint of step {step} in {self._run}/checkpoints')
      return tree, beside, '\n'.join(lines)
    if faults:
      raise RunFault(
        f'no checkpoint in {self._run}/checkpoints is good: {"; ".join(faults.values())}; '
        'put a copy of one there, or delete that folder to start again'
      )
    return None

  def restore_good(self, before: int, abstract: Any) -> tuple[int, Any] | None:
    """(step, tree) of the last good checkpoint before a step; None if there is none."""
    self._settle()
    for step in reversed(self._here.share(lambda: self._retention.good(self.steps()))):
      if step < before:
        try:
          return step, self.restore(step, abstract)[0]
        except Damaged:  # it stays for the next start, which moves it away
          continue
    return None

  def finish(self) -> None:
    """Waits until all is saved, in the store too, and raises what went wrong in that; closes."""
    self._settle()
    if self._uploads:
      self._uploads.finish()
    self.close()

  def close(self) -> None:
    """Waits for the save under way, and raises what went wrong in it."""
    already = self._closed
    super().close()
    if not already and self._owns_disk:
      self._take_back()

  def _settle(self) -> None:
    """Waits for the save under way, and raises what went wrong in it or if it is not stored."""
    if self._under_way is None:
      return
    step, started = self._under_way
    while True:
      try:
        started.result(timeout=0.1)
        break
      except TimeoutError:
        self.check()
    self._under_way = None
    if step not in self.steps():
      raise RunFault(
        f'the checkpoint of step {step} is not in {self._run}/checkpoints, although its '
        'save ended without an error'
      )
    if self._owns_disk:  # else it would be taken back once retention has removed its successor
      shutil.rmtree(self._replaced / str(step), ignore_errors=True)

  def _gather(self, value: Any) -> list[Any]:
    return self._here.gather(value)

  def _context(self, ocp: Any) -> Any:
    """Of several processes with a disk each, every one writes all that it holds, a file per shard:
    the files of all together are a checkpoint, which those of Orbax's database are not."""
    if not self._uploads or self._here.count == 1:
      return None
    context = ocp.Context(
      multiprocessing_options=ocp.options.MultiprocessingOptions(primary_host=None),
      # Else a process begins to write once another one has made its folders.
      async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
    )
    context.array_options.saving.use_ocdbt = False
    context.array_options.saving.use_replica_parallel = False
    return context

  @property
  def _owns_disk(self) -> bool:
    """Whether this process moves and removes what is on its disk."""
    return self._here.index == 0 or self._uploads is not None

  def _on_disk(self, change: Callable[[], Any]) -> Any:
    """Changes the folder once, or that of each process; returns what that gave for process 0."""
    if not self._uploads:
      return self._here.share(change)
    return self._here.gather(change())[0]

  def _read_back(self, step: int, tree: Any) -> None:
    """Raises a RunFault unless what is read, a part at a time, is what was saved."""
    try:
      for part in _parts(tree, READ_BACK):
        self._checked(step, lambda beside, stored, part=part: self._read(step, part))
    except Damaged as error:
      raise RunFault(
        f'what is saved in {self._run}/checkpoints cannot be read back: {error}; choose another '
        '--workdir, on another disk'
      ) from error

  @property
  def _replaced(self) -> Path:
    return self.directory.with_name('replaced')

  def _make_way(self, step: int) -> None:
    """Moves a checkpoint that is about to be saved again: Orbax would delete it first."""
    self._replaced.mkdir(exist_ok=True)
    (self.directory / str(step)).rename(self._replaced / str(step))

  def _take_back(self) -> None:
    """Deletes what was replaced, and puts back what was moved for a save that did not end."""
    for old in self._replaced.glob('*'):
      fresh = self.directory / old.name
      if fresh.exists():
        shutil.rmtree(old)
      else:
        old.rename(fresh)

  def _put_aside(self, step: int) -> Path:
    """Moves a damaged checkpoint to damaged/, where retention does not count it."""
    aside = self.directory.with_name('damaged') / str(step)
    aside.parent.mkdir(exist_ok=True)
    number = 0
    while aside.exists():
      number += 1
      aside = aside.with_name(f'{step}-{number}')
    return (self.directory / str(step)).rename(aside)


def _empty_damaged_descriptions(directory: Path) -> None:
  """Orbax passes over a checkpoint whose description is empty, but not if it is another JSON."""
  for path in directory.glob(f'*/{DESCRIPTION}'):
    faults = []
    read_object(path, faults)
    if faults and path.is_file():
      path.write_bytes(b'')


def _parts(tree: Any, size: int) -> Iterator[Any]:
  """Shapes of `tree`, `size` bytes of leaves at a time with `...` in place of all others."""
  leaves, structure = jax.tree.flatten(tree)
  part: dict[int, Any] = {}
  for i, leaf in enumerate(leaves):
    part[i] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    if i == len(leaves) - 1 or sum(leaves[j].nbytes for j in part) >= size:
      yield jax.tree.unflatten(structure, [part.get(j, ...) for j in range(len(leaves))])
      part = {}
