"""Judging a run folder's checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from vit_jax import config, run_folder
from vit_jax.errors import UserError
from vit_jax.recipes import override
from vit_jax.training import features, finish, metrics
from vit_jax.training.checkpoint import Checkpoints, pick_step
from vit_jax.training.setup import set_up
from vit_jax.training.writers import write_atomically


def evaluate_run(
  workdir: Path, which: str, data_dir: Path, overrides: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
  """Evaluates the 'last', the 'best' or a numbered checkpoint on every eval split of its recipe.

  Also judges the features on the data sets of config.evals. Prints a table and the confusion
  matrix, writes evaluation-STEP.json into the run folder, and
  returns {eval: {metric: value}}. Each example counts once on any number of devices.

  Args:
    overrides: '--config.KEY=VALUE' of keys that do not decide what was learnt, such as the mesh.

  Raises:
    UserError: there is no such checkpoint, a key decides more, or the mesh does not fit.
  """
  x = config.resolve(override(ConfigDict(run_folder.recipe_of(workdir)), overrides))
  if changed := run_folder.differences(run_folder.from_run(workdir), x):
    raise UserError(
      f'{workdir} holds another run: {"; ".join(changed)}; an evaluation may change '
      f'{", ".join(run_folder.FREE_TO_CHANGE)}'
    )
  setup = set_up(x, data_dir)
  checkpoints = Checkpoints(workdir, x.checkpoint)
  try:
    step = pick_step(checkpoints, workdir, which)
    state, _ = checkpoints.restore(step, setup.abstract_state)
  finally:
    checkpoints.close()
  results = {}
  for name, split in x.data.evals.items():
    evaluation = finish.Evaluation(*setup.evaluate(state.eval_variables, split))
    results[name] = metrics.summarise(evaluation.rows)
    if jax.process_index() == 0:
      print(f'{workdir} at step {step}, {name}: {len(evaluation.rows["index"])} examples')
      print('  '.join(f'{metric} {value:.4f}' for metric, value in results[name].items()))
      print(confusion_table(evaluation))
  for name, judged in features.judge(setup, state.eval_variables).items():
    results[name] = judged
    print(f'{name}: ' + '  '.join(f'{metric} {value:.4f}' for metric, value in judged.items()))
  if jax.process_index() == 0:
    text = json.dumps({'step': step, **results}, indent=2) + '\n'
    write_atomically(workdir / f'evaluation-{step}.json', text)
  return results


def confusion_table(evaluation: finish.Evaluation, widest: int = 24) -> str:
  """The confusion matrix as text (rows true, columns predicted); of many classes the worst."""
  names = evaluation.source.class_names
  confusion_KK = metrics.confusion(evaluation.rows, len(names))
  if len(names) <= widest:
    short = [name[:6] for name in names]
    lines = [' ' * 7 + ''.join(f'{name:>7}' for name in short)]
    lines += [
      f'{name:>6} ' + ''.join(f'{count:7d}' for count in row)
      for name, row in zip(short, confusion_KK, strict=True)
    ]
    return '\n'.join(lines)
  np.fill_diagonal(confusion_KK, 0)
  worst = np.argsort(confusion_KK, axis=None)[::-1][:20]
  return 'most confused (true -> predicted: count)\n' + '\n'.join(
    f'{names[true]} -> {names[predicted]}: {confusion_KK[true, predicted]}'
    for true, predicted in zip(*np.unravel_index(worst, confusion_KK.shape), strict=True)
  )
