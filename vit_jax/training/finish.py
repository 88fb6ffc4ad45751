"""The run folder's first and last words: config.json, predictions, summary.json."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax
import jax
import jaxlib.version
import numpy as np
import optax

import vit_jax
from vit_jax import config, run_folder
from vit_jax.config import Experiment
from vit_jax.data import loader, sources
from vit_jax.training import metrics
from vit_jax.training.features import Judged
from vit_jax.training.setup import Setup
from vit_jax.training.writers import write_atomically
from vit_jax.transfer import histogram

SHOWN_IMAGES = 48


@dataclass(frozen=True)
class Evaluation:
  """One row an example, and where the examples came from."""

  rows: metrics.Rows
  source: sources.Source


def claim(workdir: Path, x: Experiment) -> None:
  """Makes the run folder, or checks that the run in it is this one.

  Raises:
    UserError: the folder's checkpoints belong to an experiment that differs in what it computes.
  """
  checkpoints = workdir / 'checkpoints'
  if checkpoints.is_dir() and any(path.name.isdigit() for path in checkpoints.iterdir()):
    run_folder.check_same(workdir, x)
  workdir.mkdir(parents=True, exist_ok=True)


def write_config(workdir: Path, x: Experiment) -> None:
  write_atomically(workdir / 'config.json', x.to_json())


def finish(
  setup: Setup,
  workdir: Path,
  variables: Any,
  evaluations: Mapping[str, Evaluation],
  judged: Judged,
  *,
  train_seconds: float,
  total_seconds: float,
  before_batch: Callable[[], None],
) -> None:
  """Writes predictions/*.npz and summary.json, and prints the result beside the baselines.

  Every process calls it, for they predict together; process 0 writes and prints.
  """
  x = setup.experiment
  results = {name: metrics.summarise(evaluation.rows) for name, evaluation in evaluations.items()}
  summary: dict[str, Any] = {
    **results,
    **judged,
    'seconds': {'train': round(train_seconds, 2), 'total': round(total_seconds, 2)},
    'seed': x.seed,
    'steps': setup.steps,
    'examples': len(setup.source),
    'parameters': setup.parameters,
    'device': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'versions': {
      'vit_jax': vit_jax.__version__,
      'jax': jax.__version__,
      'jaxlib': jaxlib.version.__version__,
      'flax': flax.__version__,
      'optax': optax.__version__,
      'python': platform.python_version(),
    },
  }
  first = next(iter(evaluations))
  predictions = {
    **evaluations,
    **{
      name: Evaluation(*setup.evaluate(variables, split, before_batch))
      for name, split in x.data.predict.items()
    },
  }
  if jax.process_index():
    return
  for name, evaluation in predictions.items():
    write_predictions(setup, workdir / 'predictions' / f'{name}.npz', evaluation)
  if x.baseline == 'colour_histogram':
    summary['baselines'] = _baselines(setup, first)
  write_atomically(workdir / 'summary.json', json.dumps(summary, indent=2) + '\n')
  line = f'{first}: top-1 {results[first]["top1"]:.2%}, top-5 {results[first]["top5"]:.2%}'
  for name, baseline in summary.get('baselines', {}).items():
    line += f'; {name.replace("_", " ")} {baseline["top1"]:.2%}'
  print(f'{line}; trained in {train_seconds:.0f} s', flush=True)


def write_predictions(setup: Setup, path: Path, evaluation: Evaluation) -> None:
  """What the report draws: a row an example, counts by class, a sample of images."""
  rows, source = evaluation.rows, evaluation.source
  count = len(rows['index'])
  sample_S = np.sort(np.random.default_rng(0).permutation(count)[:SHOWN_IMAGES])
  shown = loader.Loader(source, setup.experiment.data, seed=0, batch_size=1, train=False)
  images_SHWC = np.stack([shown.batch(int(i))['image'][0] for i in rows['index'][sample_S]])
  arrays = {
    'label_N': rows['label'],
    'prediction_N': rows['prediction'],
    'confidence_N': rows['confidence'],
    'index_N': rows['index'],
    'confusion_KK': metrics.confusion(rows, len(source.class_names)),
    'class_names': np.array(source.class_names),
    'images_SHWC': images_SHWC,
    'sample_S': sample_S,
  }
  for name in ('row', 'col', 'held_out'):  # where the example lies on a map
    column_N = source.column(name)
    if column_N is not None:
      arrays[f'{name}_N'] = column_N[rows['index']]
  for name in ('raster_size', 'patch_size'):
    if name in source.metadata:
      arrays[name] = np.array(source.metadata[name])
  path.parent.mkdir(exist_ok=True)
  np.savez_compressed(path, **arrays)


def _baselines(setup: Setup, eval_name: str) -> dict[str, Any]:
  """A colour histogram with a linear classifier, and the majority class, on the same split."""
  data = setup.experiment.data
  splits = [
    sources.open_source(data, split, setup.data_dir)
    for split in (data.train, data.evals[eval_name])
  ]
  arrays = [array for source in splits for array in read_all(source, data)]
  return histogram.judge_colour_histogram(*arrays)


def read_all(source: sources.Source, data: config.Data) -> tuple[np.ndarray, np.ndarray]:
  """Every example in order, as an evaluation sees it: images_NHWC in uint8, and labels_N."""
  batches = loader.Loader(source, data, seed=0, batch_size=256, train=False)
  rows = [batches.batch(i) for i in range(batches.num_batches)]
  keep_N = np.concatenate([row['mask'] for row in rows])
  images_NHWC, labels_N = (
    np.concatenate([row[name] for row in rows])[keep_N] for name in ('image', 'label')
  )
  return images_NHWC, labels_N
