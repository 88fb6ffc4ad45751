"""The end of a run: remaining evaluations, predictions, summary.json."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from vit_jax.evaluate.backbone import Pulse
from vit_jax.evaluate.judge import Judged
from vit_jax.evaluate.predictions import predictions_of
from vit_jax.run import Run, versions
from vit_jax.train.recorder import Recorder
from vit_jax.train.state import TrainState
from vit_jax.train.trainer import Trainer


class End(NamedTuple):
  """Where the loop ended: at the last step, or stopped before it; `judged` at that very step."""

  step: int
  state: TrainState
  stopped: bool
  judged: Mapping[str, Judged]


def finish(trainer: Trainer, run: Run, end: End, recorder: Recorder, pulse: Pulse) -> None:
  """Writes predictions/*.npz and summary.json, and reports the result.

  Every process calls it, because they predict together; process 0 writes.
  """
  x = trainer.experiment
  missing = [name for name in trainer.evals if name not in end.judged]
  judged = {**end.judged, **trainer.evaluate(end.state.eval_variables, missing, pulse)}
  if not recorder.lead:
    return
  for name, found in judged.items():
    if found.rows is not None:
      pulse.begin(name, len(found.rows['index']))
      run.write_predictions(name, predictions_of(found, trainer.view))
  results: dict[str, Any] = {name: found.metrics for name, found in judged.items() if found.metrics}
  train_seconds = recorder.train_seconds
  run.write_summary(
    {
      **results,
      'seconds': {'train': round(train_seconds, 2), 'total': round(recorder.total_seconds, 2)},
      'seed': x.seed,
      'steps': trainer.steps,
      'examples': trainer.sizes.num_examples,
      'parameters': trainer.parameters,
      'device': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
      'versions': versions(),
    }
  )
  words = [
    f'{name}: top-1 {metrics["top1"]:.2%}' for name, metrics in results.items() if 'top1' in metrics
  ]
  recorder.say('; '.join([*words, f'trained in {train_seconds:.0f} s']))
