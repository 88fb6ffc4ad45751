"""Checkpoints: Orbax, asynchronous, keep-last and keep-best.

A checkpoint holds the train state, and beside it the data position and the metric sums that are
not yet logged: with those a resumed run is the same run. Only committed checkpoints are seen; a
save that was cut short is cleaned away at the next start.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from vit_jax import config
from vit_jax.errors import UserError, first_few
from vit_jax.training.state import TrainState, as_variables
from vit_jax.trees import flatten

# Orbax narrates every save, and logs with a traceback what it raises as well.
logging.getLogger('absl').setLevel(logging.CRITICAL)


class Checkpoints:
  """The checkpoints of one run folder."""

  def __init__(self, workdir: Path, options: config.Checkpoint):
    self.directory = workdir.absolute() / 'checkpoints'
    self._best = options.best
    policies: Any = ocp.training.preservation_policies  # its types do not name each other
    keep: list[Any] = [policies.LatestN(options.keep_last)]
    if options.keep_best:
      keep.append(policies.BestN(get_metric_fn=lambda metrics: metrics[self._best],
                                 reverse=config.lower_is_better(self._best), n=options.keep_best,
                                 keep_checkpoints_without_metrics=False))
    self._checkpointer: Any = ocp.training.Checkpointer(
        str(self.directory), preservation_policy=policies.AnyPreservationPolicy(keep),
        cleanup_tmp_directories=True)

  def steps(self) -> list[int]:
    """Committed steps, oldest first, asked of the storage."""
    self._checkpointer.reload()
    return sorted(checkpoint.step for checkpoint in self._checkpointer.checkpoints)

  def best_step(self) -> int | None:
    """The committed step with the best metric, or None where none was measured."""
    self._checkpointer.reload()
    measured = [(checkpoint.metrics[self._best], checkpoint.step)
                for checkpoint in self._checkpointer.checkpoints
                if checkpoint.metrics and self._best in checkpoint.metrics]
    if not measured:
      return None
    return (min if config.lower_is_better(self._best) else max)(measured)[1]

  def save(self, step: int, state: TrainState, beside: dict[str, Any],
           metrics: dict[str, float] | None) -> None:
    """Starts a save and returns once the state is copied; waits first for the one before."""
    if metrics is not None and self._best not in metrics:
      metrics = None
    self._checkpointer.save_async(step, _as_dict(state), force=True, overwrite=True,
                                  metrics=metrics, custom_metadata=beside)

  def restore(self, step: int, abstract: TrainState) -> tuple[TrainState, dict[str, Any]]:
    """(state on the shardings of `abstract`, what was saved beside it)."""
    check_tree(self._checkpointer.metadata(step).metadata, _as_dict(abstract),
               f'checkpoint {self.directory / str(step)}')
    state = self._checkpointer.load(step, _as_dict(abstract))
    beside = self._checkpointer.metadata(step).custom_metadata
    return dataclasses.replace(abstract, **state), dict(beside or {})

  def load(self, step: int) -> dict[str, Any]:
    """A stored state as a tree of host arrays, on whatever devices it was saved."""
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
        self._checkpointer.metadata(step).metadata)
    return jax.device_get(self._checkpointer.load(step, abstract))

  def load_variables(self, step: int) -> dict[str, Any]:
    """The variables to evaluate with."""
    state = self.load(step)
    return state.get('ema') or as_variables(state['params'], state.get('batch_stats'))

  def close(self) -> None:
    """Waits for the save under way, and raises what went wrong in it."""
    self._checkpointer.close()


def latest_weights(workdir: Path) -> tuple[Any, tuple[int, int], str]:
  """What `init_from` takes from a run folder: its newest variables, averaged ones if it has them.

  Returns (variables as a tree of arrays, the (H, W) they were trained at, words for the source).
  """
  x = config.from_run(workdir)
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
  raise UserError(f"--checkpoint is {which!r}; it must be 'last', 'best' or one of the steps "
                  f'{", ".join(map(str, steps))}')


def check_tree(stored: Any, wanted: Any, where: str) -> None:
  """Raises a UserError that lists the leaves whose names or shapes differ."""
  has, wants = ({name: tuple(leaf.shape) for name, leaf in flatten(tree).items()}
                for tree in (stored, wanted))
  wrong = [f'{name} is {has[name]}, not {wants[name]}'
           for name in wants if name in has and has[name] != wants[name]]
  wrong += [f'{name} is missing' for name in wants if name not in has]
  wrong += [f'{name} is not of this model' for name in has if name not in wants]
  if wrong:
    raise UserError(f'{where} belongs to another model: {first_few(wrong)}')


def _as_dict(state: TrainState) -> dict[str, Any]:
  return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)
          if getattr(state, field.name) is not None}
