"""Checkpoints: Orbax, asynchronous, keep-last and keep-best, verified.

A checkpoint holds the train state, and beside it the data position and the metric sums that are
not yet logged: with those a resumed run is the same run. Only committed checkpoints are seen; a
save that was cut short is cleaned away at the next start. Checksums lie beside as well, for the
format's own cover the index of a checkpoint and not its arrays: one with a flipped bit would be
read in silence.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from vit_jax import config, run_folder
from vit_jax.errors import RunFault, UserError, first_few
from vit_jax.training.checksums import checksums
from vit_jax.training.state import TrainState, as_variables
from vit_jax.trees import flatten


class _Failures(logging.Handler):
  """Keeps what Orbax logs of a save that failed, and its narration to itself.

  Its future tells of the failure as well, but where there are several processes only when all of
  them are through with the save: never, as they wait for the one that failed.
  """

  last: BaseException | None = None

  def emit(self, record: logging.LogRecord) -> None:
    if record.exc_info:
      self.last = record.exc_info[1]


_failures = _Failures(logging.ERROR)
_log = logging.getLogger('absl')
_log.setLevel(logging.ERROR)
_log.propagate = False
_log.addHandler(_failures)


Gather = Callable[[Any], list[Any]]


class Damaged(RunFault):
  """A checkpoint that is not what was saved."""


class Checkpoints:
  """The checkpoints of one run folder. Several processes call its methods together."""

  def __init__(self, workdir: Path, options: config.Checkpoint, *, clean: bool = False):
    """
    Args:
      clean: whether saves that were cut short are removed. Only for the run that writes here: who
        looks into it meanwhile would remove the save under way.
    """
    self.directory = workdir.absolute() / 'checkpoints'
    self._replaced = self.directory.with_name('replaced')
    self._best = options.best
    self._under_way: tuple[int, Any] | None = None  # a save: its step, and a future
    policies: Any = ocp.training.preservation_policies  # its types do not name each other
    keep: list[Any] = [policies.LatestN(options.keep_last)]
    if options.keep_best:
      keep.append(
        policies.BestN(
          get_metric_fn=self._worth, n=options.keep_best, keep_checkpoints_without_metrics=False
        )
      )
    self._checkpointer: Any = ocp.training.Checkpointer(
      str(self.directory),
      preservation_policy=policies.AnyPreservationPolicy(keep),
      cleanup_tmp_directories=clean,
    )

  def steps(self) -> list[int]:
    """Committed steps, oldest first, asked of the storage."""
    self._checkpointer.reload()
    return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

  def best_step(self) -> int | None:
    """The committed step with the best metric, or None where none was measured."""
    self._checkpointer.reload()
    measured = [
      (self._worth(checkpoint.metrics), checkpoint.step)
      for checkpoint in self._checkpointer.checkpoints
      if checkpoint.metrics and self._best in checkpoint.metrics
    ]
    return max(measured)[1] if measured else None

  def _worth(self, metrics: dict[str, float]) -> float:
    # One that was saved when another metric was the best one's has not this one.
    return config.worth(self._best, metrics.get(self._best, math.nan))

  def save(
    self, step: int, state: TrainState, beside: dict[str, Any], metrics: dict[str, float] | None
  ) -> None:
    """Starts a save and returns once the state is copied; waits first for the one before.

    Raises:
      RunFault: the one before was not committed, or this one was refused.
    """
    self._settle()
    if metrics is not None and self._best not in metrics:
      metrics = None
    tree = _as_dict(state)
    sums = checksums(tree)
    _failures.last = None
    beside = {
      **beside,
      'leaves': {name: [*leaf.shape, sums[name]] for name, leaf in flatten(tree).items()},
    }
    started = self._checkpointer.save_async(
      step,
      tree,
      force=True,
      overwrite=True,
      metrics=metrics,
      custom_metadata={**beside, 'checksum': _checksum(beside)},
    )
    if started is None:
      raise RunFault(f'the checkpoint of step {step} was not saved: the writer passed over it')
    self._under_way = step, started

  def check(self) -> None:
    """Raises what went wrong in the save under way, as soon as that is known."""
    if self._under_way is not None and _failures.last is not None:
      raise _failures.last

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

  def restore(
    self, step: int, abstract: TrainState, gather: Gather = lambda fault: [fault]
  ) -> tuple[TrainState, dict[str, Any]]:
    """(state on the shardings of `abstract`, what was saved beside it).

    Args:
      gather: what each process answers, from what this one does.

    Raises:
      Damaged: one of the processes cannot read it, or it is not what was saved.
      UserError: it belongs to another model.
    """
    state: Any = None
    beside: dict[str, Any] = {}
    wrong = ''
    try:
      stored = self._checkpointer.metadata(step)
      beside = _unwrap(stored.custom_metadata)
      wanted = _as_dict(abstract)
      check_shapes(
        {name: leaf[:-1] for name, leaf in beside['leaves'].items()},
        wanted,
        f'checkpoint {self.directory / str(step)}',
      )
      state = self._read(step, wanted)
    except UserError:
      raise
    except Exception as error:  # whatever the reader makes of damaged files
      wrong = f'{type(error).__name__}: {error}'.partition('\n')[0][:200]
    wrongs = [told for told in gather(wrong) if told]
    if wrongs:
      raise Damaged(f'the checkpoint of step {step} is damaged ({wrongs[0]})')
    _check_sums(state, beside, step)
    return dataclasses.replace(abstract, **state), beside

  def make_way(self, step: int) -> None:
    """Moves a checkpoint that is to be saved anew: a writer would delete it before it writes."""
    self._replaced.mkdir(exist_ok=True)
    (self.directory / str(step)).rename(self._replaced / str(step))

  def take_back(self) -> None:
    """Puts back what made way and was not saved anew, and deletes what was."""
    for old in self._replaced.glob('*'):
      anew = self.directory / old.name
      if anew.exists():
        shutil.rmtree(old)
      else:
        old.rename(anew)

  def put_aside(self, step: int) -> Path:
    """Moves a damaged checkpoint out of the way, where it counts as kept no more."""
    aside = self.directory.parent / 'damaged' / str(step)
    aside.parent.mkdir(exist_ok=True)
    number = 0
    while aside.exists():
      number += 1
      aside = aside.with_name(f'{step}-{number}')
    return (self.directory / str(step)).rename(aside)

  def load(self, step: int) -> dict[str, Any]:
    """A stored state as a tree of host arrays, on whatever devices it was saved."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    try:
      stored = self._checkpointer.metadata(step)
      beside = _unwrap(stored.custom_metadata)
      state = self._read(
        step,
        jax.tree.map(
          lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), stored.metadata
        ),
      )
    except Exception as error:
      raise Damaged(
        f'{self.directory / str(step)} is damaged ({error})'.partition('\n')[0]
      ) from error
    _check_sums(state, beside, step)
    return jax.device_get(state)

  def load_variables(self, step: int) -> dict[str, Any]:
    """The variables to evaluate with."""
    state = self.load(step)
    return state.get('ema') or as_variables(state['params'], state.get('batch_stats'))

  def close(self) -> None:
    """Waits for the save under way, and raises what went wrong in it."""
    self._settle()
    self._checkpointer.close()

  def _read(self, step: int, abstract: Any) -> dict[str, Any]:
    """Each process reads for itself: one that fails must not leave the others at a barrier."""
    me = jax.process_index()
    with ocp.Context(
      multiprocessing_options=ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f'reader_{me}'
      )
    ):
      return ocp.load(str(self.directory / str(step)), abstract, checkpointable_name='state')


def latest_weights(workdir: Path) -> tuple[Any, tuple[int, int], str]:
  """What `init_from` takes from a run folder: its newest variables, averaged ones if it has them.

  Returns (variables as a tree of arrays, the (H, W) they were trained at, words for the source).
  """
  x = run_folder.from_run(workdir)
  checkpoints = Checkpoints(workdir, x.checkpoint)
  try:
    step = pick_step(checkpoints, workdir, 'last')
    variables = checkpoints.load_variables(step)
  finally:
    checkpoints.close()
  return variables, x.data.image_size, f'{workdir} at step {step}'


def pick_step(checkpoints: Checkpoints, workdir: Path, which: str) -> int:
  """The step of the 'last' or 'best' checkpoint, or of one given by number."""
  steps = checkpoints.steps()
  if not steps:
    raise UserError(f'{workdir} holds no finished checkpoint; train there first')
  if which == 'last':
    return steps[-1]
  if which == 'best':
    best = checkpoints.best_step()
    return steps[-1] if best is None else best
  if which.isdigit() and int(which) in steps:
    return int(which)
  raise UserError(
    f"--checkpoint is {which!r}; it must be 'last', 'best' or one of the steps "
    f'{", ".join(map(str, steps))}'
  )


def check_shapes(has: dict[str, list[int]], wanted: Any, where: str) -> None:
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


def _as_dict(state: TrainState) -> dict[str, Any]:
  return {
    field.name: getattr(state, field.name)
    for field in dataclasses.fields(state)
    if getattr(state, field.name) is not None
  }


def _checksum(beside: dict[str, Any]) -> int:
  return zlib.crc32(json.dumps(beside, sort_keys=True).encode())


def _unwrap(stored: Any) -> dict[str, Any]:
  """What was saved beside a state, checked."""
  beside = dict(stored or {})
  if beside.pop('checksum', None) != _checksum(beside):
    raise Damaged('what was saved beside the state has another checksum')
  return beside


def _check_sums(state: Any, beside: dict[str, Any], step: int) -> None:
  read, written = checksums(state), beside['leaves']
  wrong = [name for name in read if read[name] != written[name][-1]]
  if wrong:
    raise Damaged(
      f'the checkpoint of step {step} is damaged (another checksum: {first_few(wrong)})'
    )
