"""The end of a run: remaining evaluations, predictions, summary.json."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from vit_jax.evaluate.backbone import Pulse
from vit_jax.run import Run, versions
from vit_jax.train.domain import Judged
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
  missing = [name for name in x.evals if name not in end.judged]
  judged = {**end.judged, **trainer.evaluate(end.state.eval_variables, missing, pulse)}
  if not recorder.lead:
    return
  trainer.domain.keep(run, judged, pulse)
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
  heads = {name: trainer.domain.headline(metrics) for name, metrics in results.items()}
  words = [f'{name}: {head}' for name, head in heads.items() if head]
  recorder.say('; '.join([*words, f'trained in {train_seconds:.0f} s']))
