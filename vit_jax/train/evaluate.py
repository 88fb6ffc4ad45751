"""Judging a run folder's checkpoint, by the evaluation table of its recipe or another one."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vit_jax import config
from vit_jax.data.view import data_for, inputs_of
from vit_jax.errors import UserError, first_few
from vit_jax.models import inputs as seeing
from vit_jax.run import FREE_TO_CHANGE, Run, differences
from vit_jax.train.domain import Judged, Sizes
from vit_jax.train.trainer import Trainer


class Evaluation(NamedTuple):
  """What was judged, at which step."""

  step: int
  judged: Mapping[str, Judged]


def evaluate_run(
  run: Run,
  checkpoint: str = 'last',
  updates: Mapping[str, Any] | None = None,
  data_dir: Path | None = None,
  *,
  accept_data: bool = False,
  inputs: Mapping[str, Any] = {},
) -> Evaluation:
  """Judges the 'last', the 'best' or a numbered checkpoint on every line of the table.

  Writes evaluation-STEP.json into the run folder. Each example counts once on any number of
  devices.

  Args:
    updates: key of the recipe -> value, of keys that do not decide what was learned: the mesh, or
      other lines of `evals`.
    accept_data: judge data that has changed since the run began.
    inputs: how images are seen, in place of the recipe's: `mean`, `std`, `crop`, `interpolation`.

  Raises:
    UserError: there is no such checkpoint, a key decides more, the mesh does not fit, or the data
      of an eval or its classes have changed.
  """
  x, identity = run.experiment, run.identity
  if identity is None:
    raise UserError(f'{run.place} has no identity.json that can be read; put a copy of it there')
  if updates:
    x = config.update(x, updates)
    if changed := differences(run.experiment, x):
      raise UserError(
        f'{run.place} holds another run: {"; ".join(changed)}; an evaluation may change '
        f'{", ".join(FREE_TO_CHANGE)}'
      )
  if inputs:
    x = dataclasses.replace(x, data=data_for(x.images, seeing.changed(run.inputs, inputs)))
  names = identity.class_names
  vocabularies = run.known_vocabularies if isinstance(x.data, config.PairData) else None
  classes = len(vocabularies.target) if vocabularies else x.images.num_classes or len(names)
  sizes = Sizes(identity.num_examples, classes, names, identity.num_batches)
  trainer = Trainer(x, data_dir, sizes=sizes, steps=identity.steps, vocabularies=vocabularies)
  digests = trainer.eval_digests()
  changed = [name for name, now in digests.items() if identity.evals.get(name, now) != now]
  if changed and not accept_data:
    raise UserError(
      f'{run.place} was judged on other data: that of {first_few(changed)} has changed since it '
      'began; restore the data, or judge it as it is now by --accept_data'
    )
  with run.checkpoints(x.checkpoint) as checkpoints:
    step = checkpoints.pick(checkpoint)
    tree, _ = checkpoints.restore(step, trainer.abstract_state.as_tree())
  state = trainer.abstract_state.replace(**tree)
  judged = trainer.evaluate(state.eval_variables)
  results = {name: found.metrics for name, found in judged.items() if found.metrics}
  sees = {'sees': inputs_of(x.images).words} if inputs else {}
  run.write_evaluation(step, {'step': step, **results, 'data': digests, **sees})
  return Evaluation(step, judged)
