"""Read checkpoints: each is verified against the checksums that were saved with it.

A checkpoint holds a tree of arrays (the train state), and beside it JSON: the data position, the
metric sums that are not yet logged, the metrics of that step, and whether a run may roll back to it
(`good`). The checksums are ours, because
Orbax's own cover the index of a checkpoint and not its arrays: a flipped bit would go unnoticed.
"""

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import jax

from vit_jax import config
from vit_jax.errors import RunFault, UserError, first_few, first_line
from vit_jax.fields import whole
from vit_jax.paths import Place
from vit_jax.reads import SPECIAL, first_special
from vit_jax.remote.faults import StoreFault
from vit_jax.remote.mirror import Mirror
from vit_jax.run.checksums import checksums, unseal
from vit_jax.run.orbax_log import orbax_log
from vit_jax.trees import flatten

# Orbax takes these for patterns, a separator and an address.
MEANINGFUL = ('[', ']', '*', '?', '\\', 'gs:/')
DESCRIPTION = '_CHECKPOINT_METADATA'  # Orbax's file in each checkpoint


class Damaged(RunFault):
  """A checkpoint that is not what was saved."""


class Checkpoints:
  """The committed checkpoints of one run folder, from `with` or to `close`.

  A tree has JAX arrays, in dictionaries and tuples.
  """

  def __init__(self, run: Path, options: config.Checkpoint, *, writes: bool = False):
    """A writer removes interrupted saves.

    Raises:
      UserError: a reader finds no checkpoint, or there is something that is no file.
      Damaged: Orbax cannot list the checkpoints.
    """
    self.directory = run.absolute() / 'checkpoints'
    self._mirror = Mirror.of(run)
    self._run: Place = self._mirror.address if self._mirror else run  # for sentences
    self._options = options
    self._retention = Retention(options, self._beside)
    self._proved = False  # whether a checkpoint of this run has been read
    self._closed = False
    if not writes and not self.directory.is_dir():
      raise UserError(_NONE.format(self._run))
    if special := first_special(self.directory):  # Orbax would wait for it
      raise UserError(f'{special} is {SPECIAL}, which no checkpoint has; remove it')
    from orbax.checkpoint import v1 as ocp  # here: it takes a while to import, and files need none

    orbax_log.use()
    try:
      self._checkpointer: Any = ocp.training.Checkpointer(
        str(self.directory),
        context=self._context(ocp),
        preservation_policy=self._retention,
        cleanup_tmp_directories=writes,
      )
    except ValueError as error:  # of one that is JSON, but not Orbax's
      orbax_log.leave()
      raise Damaged(
        f'{self.directory}: the {DESCRIPTION} of a checkpoint is damaged ({first_line(error)}); '
        'the command that trained the run puts it right'
      ) from None

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: type | None, *error: Any) -> None:
    """After an error, what goes wrong in closing is not raised."""
    with contextlib.suppress(*(() if kind is None else (Exception,))):
      self.close()

  def close(self) -> None:
    if self._closed:
      return
    self._closed = True
    try:
      self._settle()
      self._checkpointer.close()
    finally:
      orbax_log.leave()

  def steps(self) -> list[int]:
    """Committed steps, oldest first, asked of the storage."""
    try:
      self._checkpointer.reload()
      found = [checkpoint.step for checkpoint in self._checkpointer.checkpoints]
    except Exception:  # Orbax lists none if the description of one is damaged, and raises anything
      names = [whole(path.name) for path in self.directory.iterdir() if path.is_dir()]
      found = [step for step in names if step is not None]
    return sorted(found)

  def best_step(self) -> int | None:
    """The committed step with the best metric (the latest of equals), if one was measured."""
    return next(reversed(self._retention.by_worth(self.steps())), None)

  def pick(self, which: str | int) -> int:
    """The step that 'last', 'best' or a number means; raises a UserError if there is none."""
    steps = self.steps()
    if not steps:
      raise UserError(_NONE.format(self._run))
    if which == 'last':
      return steps[-1]
    if which == 'best' and (best := self.best_step()) is not None:
      return best
    if (step := whole(str(which))) in steps:
      return step
    known, name = ', '.join(map(str, steps)), self._options.best
    if which == 'best':
      raise UserError(
        f'{self._run} has no best checkpoint: '
        + (f'none of them has {name!r}' if name else 'config.checkpoint.best names no metric')
        + f"; take 'last' or one of the steps {known}"
      )
    raise UserError(
      f"--checkpoint is {str(which)!r}; it must be 'last', 'best' or one of the steps {known}"
    )

  def restore(self, step: int, abstract: Any) -> tuple[Any, dict[str, Any]]:
    """(the tree on the shardings of `abstract`, what was saved beside it).

    Raises:
      Damaged: one of the processes cannot read it, or it is not what was saved.
      UserError: it belongs to another model.
    """

    def read(beside: dict[str, Any], stored: Any) -> Any:
      shapes = {name: leaf[:-1] for name, leaf in beside['leaves'].items()}
      _check_shapes(shapes, abstract, f'checkpoint {self._run}/checkpoints/{step}')
      return self._read(step, abstract)

    return self._checked(step, read)

  def load(self, step: int, *, variables: bool = False) -> dict[str, Any]:
    """A stored tree as host arrays, whatever devices it was saved on.

    Args:
      variables: read only those to evaluate with: the averaged ones if the run has them.
    """
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def read(beside: dict[str, Any], stored: Any) -> Any:
      chosen = {*stored}
      if variables:
        chosen = {*stored} & {'ema'} or {*stored} & {'params', 'batch_stats'}

      def abstract(path: Any, leaf: Any) -> Any:
        if path[0].key not in chosen:
          return ...
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

      tree = self._read(step, jax.tree_util.tree_map_with_path(abstract, stored))
      return {name: tree[name] for name in chosen}

    tree = jax.device_get(self._checked(step, read)[0])
    return tree.get('ema', tree) if variables else tree

  def _context(self, ocp: Any) -> Any:
    """How Orbax writes; a reader does not."""
    return None

  def _settle(self) -> None:
    """Waits for a save under way; a reader has none."""

  def _gather(self, value: Any) -> list[Any]:
    """The value of each process that reads."""
    return [value]

  def _beside(self, step: int) -> dict[str, Any]:
    """What was saved beside a tree, without looking at the tree, which may still be elsewhere."""
    path = self.directory / str(step) / DESCRIPTION
    return unseal(json.loads(path.read_bytes())['custom_metadata'])

  def _stored(self, step: int) -> tuple[dict[str, Any], Any]:
    """(what was saved beside a tree; names, shapes and dtypes of the tree)."""
    stored = self._checkpointer.metadata(step)
    return unseal(stored.custom_metadata), stored.metadata

  def _checked(
    self, step: int, read: Callable[[dict[str, Any], Any], Any]
  ) -> tuple[Any, dict[str, Any]]:
    """(what `read` makes of `_stored`, what was saved beside it), verified."""
    tree, beside, wrong = None, {}, ''
    try:
      if self._mirror:
        self._mirror.complete(step)
      beside, stored = self._stored(step)
      tree = read(beside, stored)
    except (UserError, StoreFault):
      raise
    except Exception as error:  # damaged files raise anything
      why = first_line(error).partition(' [')[0].partition('. See ')[0]
      wrong = f'{type(error).__name__}: {why}'[:200]
    wrong = next(filter(None, self._gather(wrong)), '')
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
    from orbax.checkpoint import v1 as ocp

    me = jax.process_index()
    with ocp.Context(
      multiprocessing_options=ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f'reader_{me}'
      )
    ):
      return ocp.load(str(self.directory / str(step)), abstract, checkpointable_name='state')


class Retention:
  """Keeps the last checkpoints, the last good ones, the best and those `held`: an Orbax
  preservation policy.

  What it goes by is stored beside the state, not in Orbax's own file: if that is damaged, Orbax
  does not even list the steps.
  """

  def __init__(self, options: config.Checkpoint, read: Callable[[int], Mapping[str, Any]]):
    self._options, self._read = options, read
    self._known: dict[int, tuple[float | None, bool]] = {}  # by step; None: not measured
    self.held: frozenset[int] = frozenset()

  def add(self, step: int, beside: Mapping[str, Any]) -> None:
    best, metrics = self._options.best, beside['metrics']
    worth = config.worth(best, metrics[best]) if best and best in metrics else None
    self._known[step] = worth, beside['good']

  def by_worth(self, steps: list[int]) -> list[int]:
    """The steps that were measured, the best one last; of equals the later one."""
    measured = [(worth, step) for step in steps if (worth := self._about(step)[0]) is not None]
    return [step for _, step in sorted(measured)]

  def best(self, steps: list[int]) -> list[int]:
    """Those that are kept because they are the best."""
    keep = self._options.keep_best
    return self.by_worth(steps)[-keep:] if keep else []

  def good(self, steps: list[int]) -> list[int]:
    """The last steps that a run may roll back to, oldest first; as many as are kept at least."""
    return [step for step in steps if self._about(step)[1]][-self._options.keep_last :]

  def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
    steps = sorted(checkpoint.step for checkpoint in checkpoints)
    kept = {*steps[-self._options.keep_last :], *self.good(steps), *self.best(steps), *self.held}
    return [checkpoint.step in kept for checkpoint in checkpoints]

  def _about(self, step: int) -> tuple[float | None, bool]:
    if step not in self._known:
      try:
        self.add(step, self._read(step))
      except Exception:  # damaged files raise anything
        self._known[step] = None, False
    return self._known[step]


def check_path(run: Path) -> None:
  """Raises a UserError if checkpoints could not be read back from this run folder."""
  whole = str(run.absolute())
  for text in MEANINGFUL:
    if text in whole:
      raise UserError(
        f'{run} cannot be a run folder: checkpoints in a path with {text!r} cannot be read back; '
        f'choose one without {" ".join(MEANINGFUL[:-1])}'
      )
  try:
    whole.encode()
  except UnicodeEncodeError:
    raise UserError(f'{whole!r} cannot be a run folder: its name is not UTF-8') from None


_NONE = '{} has no finished checkpoint; train there first'


def _check_shapes(has: Mapping[str, list[int]], wanted: Any, where: str) -> None:
  """Raises a UserError that lists the leaves whose names or shapes differ."""
  wants = {name: list(leaf.shape) for name, leaf in flatten(wanted).items()}
  wrong = [
    f'{name} is {tuple(has[name])}, not {tuple(wants[name])}'
    for name in wants
    if name in has and has[name] != wants[name]
  ]
  wrong += [f'{name} is missing' for name in wants if name not in has]
  wrong += [f'{name} is not of this model' for name in has if name not in wants]
  if wrong:
    raise UserError(f'{where} belongs to another model: {first_few(wrong)}')
