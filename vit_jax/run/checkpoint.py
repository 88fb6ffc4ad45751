"""Checkpoints: Orbax, asynchronous, keep-last and keep-best, verified.

A checkpoint holds a tree of arrays (the train state), and beside it the data position, the metric
sums that are not yet logged, and the metrics of that step: with those a resumed run is the same
run. Only committed checkpoints are seen; a save that was cut short is cleaned away at the next
start. Checksums are stored beside as well, for the format's own cover the index of a checkpoint
and not its arrays: one with a flipped bit would be read in silence.
"""

import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import jax
from orbax.checkpoint import v1 as ocp

from vit_jax import config
from vit_jax.errors import RunFault, UserError, first_few
from vit_jax.parallel.processes import Processes
from vit_jax.run.abstract import check_shapes, parts
from vit_jax.run.checksums import checksums, seal, unseal
from vit_jax.run.orbax_log import orbax_log
from vit_jax.run.retention import Retention
from vit_jax.trees import flatten

READ_BACK = 2**30  # bytes at a time: there may be no room for a second state

Gather = Callable[[Any], list[Any]]


class Damaged(RunFault):
  """A checkpoint that is not what was saved."""


class Checkpoints:
  """The checkpoints of one run folder, from `with` or to `close`.

  A tree has JAX arrays, in dictionaries and tuples. Several processes call all methods together.
  """

  def __init__(self, run: Path, options: config.Checkpoint, here: Processes | None = None):
    """
    Args:
      here: the processes of the run that trains, which holds the lock; a reader has none. Saves
        that were cut short are then removed.

    Raises:
      UserError: a reader finds no checkpoint.
    """
    self.directory = run.absolute() / 'checkpoints'
    self._run, self._options, self._here = run, options, here
    self._retention = Retention(options, lambda step: self._beside(step)[0]['metrics'])
    self._under_way: tuple[int, Any] | None = None  # a save: its step, and a future
    self._restored = -1  # the step that was, which may be saved anew
    self._proved = False  # that what is saved here can be read
    self._closed = False
    if here is None and not self.directory.is_dir():
      raise UserError(_NONE.format(run))
    orbax_log.use()
    self._checkpointer: Any = ocp.training.Checkpointer(
      str(self.directory),
      preservation_policy=self._retention,
      cleanup_tmp_directories=here is not None,
    )
    if here:
      here.share(self._take_back)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: type | None, *error: Any) -> None:
    """After an error a save under way is ended as well, and what goes wrong in it is not raised."""
    with contextlib.suppress(*(() if kind is None else (Exception,))):
      self.close()

  def steps(self) -> list[int]:
    """Committed steps, oldest first, asked of the storage."""
    self._checkpointer.reload()
    return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

  def best_step(self) -> int | None:
    """The committed step with the best metric, the later one of equals; None where no metric is
    named or none was measured."""
    return next(reversed(self._retention.by_worth(self.steps())), None)

  def pick(self, which: str | int) -> int:
    """The step that is meant by 'last', 'best' or a number.

    Raises:
      UserError: there is none.
    """
    steps = self.steps()
    if not steps:
      raise UserError(_NONE.format(self._run))
    known = ', '.join(map(str, steps))
    if which == 'last':
      return steps[-1]
    if which == 'best':
      best = self.best_step()
      if best is not None:
        return best
      name = self._options.best
      raise UserError(
        f'{self._run} has no best checkpoint: '
        + (f'none of them has {name!r}' if name else 'config.checkpoint.best names no metric')
        + f"; take 'last' or one of the steps {known}"
      )
    if str(which).isdigit() and int(which) in steps:
      return int(which)
    raise UserError(
      f"--checkpoint is {str(which)!r}; it must be 'last', 'best' or one of the steps {known}"
    )

  def save(
    self, step: int, tree: Any, beside: Mapping[str, Any], metrics: Mapping[str, float] | None
  ) -> None:
    """Starts a save and returns once the tree is copied; waits first for the save before.

    Until one checkpoint here has been read, it waits for this save too, and reads it back. A
    checkpoint that was restored and is saved anew is there until then.

    Args:
      beside: JSON that `restore` gives back.
      metrics: those measured at this step, if any.

    Raises:
      RunFault: the one before was not committed, this one was refused or cannot be read back.
    """
    assert self._here, 'a reader does not save'
    self._settle()
    if step == self._restored:
      self._here.share(lambda: self._make_way(step))
      self._here.gather(self.steps())  # every process has seen that, before any writes
    sums = checksums(tree)
    beside = {
      **beside,
      'metrics': dict(metrics or {}),
      'leaves': {name: [*leaf.shape, sums[name]] for name, leaf in flatten(tree).items()},
    }
    self._retention.add(step, beside['metrics'])
    orbax_log.failure = None
    started = self._checkpointer.save_async(
      step,
      tree,
      force=True,
      overwrite=True,
      custom_metadata=seal(beside),
    )
    if started is None:
      raise RunFault(f'the checkpoint of step {step} was not saved: the writer passed over it')
    self._under_way = step, started
    if not self._proved:
      self._settle()
      self._read_back(step, tree)

  def check(self) -> None:
    """Raises what went wrong in the save under way, as soon as that is known."""
    if self._under_way is not None and orbax_log.failure is not None:
      raise orbax_log.failure

  def _settle(self) -> None:
    """Waits for the save under way, raises what went wrong in it, and asks the storage for it."""
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
        f'the checkpoint of step {step} is not in {self.directory}, although its '
        'save ended without an error'
      )

  def _read_back(self, step: int, tree: Any) -> None:
    """Raises a RunFault unless what was saved is what is read, a part at a time."""
    abstract = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )
    try:
      for part in parts(abstract, READ_BACK):
        self._checked(step, lambda beside, stored, part=part: self._read(step, part))
    except Damaged as error:
      raise RunFault(
        f'what is saved in {self.directory} cannot be read back: {error}; choose another '
        '--workdir, on another disk'
      ) from error

  def restore_newest(self, abstract: Any) -> tuple[Any, dict[str, Any], str] | None:
    """(tree, what was saved beside it, lines that say so) of the newest good checkpoint; None
    where the run has none yet. Damaged ones are put aside, but only where a good one is left.

    Raises:
      RunFault: none of them is good.
      UserError: they belong to another model.
    """
    assert self._here
    faults: dict[int, str] = {}
    for step in reversed(self._here.share(self.steps)):
      try:
        tree, beside = self.restore(step, abstract)
      except Damaged as error:
        faults[step] = str(error)
        continue
      aside = self._here.share(lambda: [str(self._put_aside(bad)) for bad in faults])
      self.steps()  # on every process, without those
      lines = [
        f'{fault}; moved to {path}' for fault, path in zip(faults.values(), aside, strict=True)
      ]
      self._restored = step
      lines.append(f'start: checkpoint of step {step} in {self.directory}')
      return tree, beside, '\n'.join(lines)
    if faults:
      raise RunFault(
        f'no checkpoint in {self.directory} is good: {"; ".join(faults.values())}; '
        'put a copy of one there, or delete that folder to start again'
      )
    return None

  def restore(
    self, step: int, abstract: Any, gather: Gather | None = None
  ) -> tuple[Any, dict[str, Any]]:
    """(the tree on the shardings of `abstract`, what was saved beside it).

    Args:
      gather: what each process answers, from what this one does; that of `here` by default.

    Raises:
      Damaged: one of the processes cannot read it, or it is not what was saved.
      UserError: it belongs to another model.
    """

    def read(beside: dict[str, Any], stored: Any) -> Any:
      shapes = {name: leaf[:-1] for name, leaf in beside['leaves'].items()}
      check_shapes(shapes, abstract, f'checkpoint {self.directory / str(step)}')
      return self._read(step, abstract)

    return self._checked(step, read, gather)

  def load(self, step: int) -> dict[str, Any]:
    """A stored tree as host arrays, on whatever devices it was saved."""
    return self._load(step, lambda names: names)

  def load_variables(self, step: int) -> dict[str, Any]:
    """The variables to evaluate with: averaged ones where the run has them."""
    stored = self._load(step, lambda names: names & {'ema'} or names & {'params', 'batch_stats'})
    return stored.get('ema', stored)

  def _load(self, step: int, choose: Callable[[set[str]], set[str]]) -> dict[str, Any]:
    """Some entries of a stored tree."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def read(beside: dict[str, Any], stored: Any) -> Any:
      chosen = choose(set(stored))
      abstract = {
        name: jax.tree.map(
          lambda leaf, wanted=name in chosen: (
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding) if wanted else ...
          ),
          entry,
        )
        for name, entry in stored.items()
      }
      tree = self._read(step, abstract)
      return {name: tree[name] for name in chosen}

    return jax.device_get(self._checked(step, read, _alone)[0])

  def close(self) -> None:
    """Waits for the save under way, and raises what went wrong in it."""
    if self._closed:
      return
    self._closed = True
    try:
      self._settle()
      self._checkpointer.close()
    finally:
      orbax_log.leave()
    if self._here and self._here.index == 0:
      self._take_back()

  def _beside(self, step: int) -> tuple[dict[str, Any], Any]:
    """(what was saved beside a tree; names, shapes and dtypes of the tree)."""
    stored = self._checkpointer.metadata(step)
    return unseal(stored.custom_metadata), stored.metadata

  def _checked(
    self, step: int, read: Callable[[dict[str, Any], Any], Any], gather: Gather | None = None
  ) -> tuple[Any, dict[str, Any]]:
    """(what `read` makes of `_beside`, what was saved beside it), if all processes can read it and
    its leaves are what was saved."""
    tree, beside, wrong = None, {}, ''
    try:
      beside, stored = self._beside(step)
      tree = read(beside, stored)
    except UserError:
      raise
    except Exception as error:  # whatever the reader makes of damaged files
      wrong = f'{type(error).__name__}: {error}'.partition('\n')[0][:200]
    gather = gather or (self._here.gather if self._here else _alone)
    wrong = next(filter(None, gather(wrong)), '')
    if not wrong:
      sums = checksums({name: leaf for name, leaf in flatten(tree).items() if leaf is not ...})
      other = [name for name in sums if sums[name] != beside['leaves'][name][-1]]
      wrong = f'another checksum: {first_few(other)}' if other else ''
    if wrong:
      raise Damaged(f'the checkpoint of step {step} is damaged ({wrong})')
    self._proved = True
    return tree, beside

  def _read(self, step: int, abstract: Any) -> Any:
    """Each process reads for itself: one that fails must not leave the others at a barrier."""
    me = jax.process_index()
    with ocp.Context(
      multiprocessing_options=ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f'reader_{me}'
      )
    ):
      return ocp.load(str(self.directory / str(step)), abstract, checkpointable_name='state')

  @property
  def _replaced(self) -> Path:
    return self.directory.with_name('replaced')

  def _make_way(self, step: int) -> None:
    """Moves a checkpoint that is to be saved anew: Orbax would delete it before it writes."""
    self._replaced.mkdir(exist_ok=True)
    (self.directory / str(step)).rename(self._replaced / str(step))

  def _take_back(self) -> None:
    """Puts back what made way and was not saved anew, and deletes what was."""
    for old in self._replaced.glob('*'):
      anew = self.directory / old.name
      if anew.exists():
        shutil.rmtree(old)
      else:
        old.rename(anew)

  def _put_aside(self, step: int) -> Path:
    """Moves a damaged checkpoint out of the way, where it counts as kept no more."""
    aside = self.directory.with_name('damaged') / str(step)
    aside.parent.mkdir(exist_ok=True)
    number = 0
    while aside.exists():
      number += 1
      aside = aside.with_name(f'{step}-{number}')
    return (self.directory / str(step)).rename(aside)


_NONE = '{} has no finished checkpoint; train there first'


def _alone(value: Any) -> list[Any]:
  return [value]
