"""What training leaves in a run folder, made up."""

import json
from typing import Any

import numpy as np

NAMES = ('Af', 'BWh', 'EF')
RASTER = (360, 720)  # half a degree a pixel
PATCH = 20
PALETTE = {
  'Af': ('#0000ff', 'tropical rainforest'),
  'BWh': ('#ff0000', 'hot desert'),
  'EF': ('#666666', 'ice cap'),
}


def predictions(count: int, *, seed: int = 0, names=NAMES, positions=None) -> dict[str, Any]:
  """The arrays of predictions/NAME.npz: about one in four is wrong, the last has no label."""
  rng = np.random.default_rng(seed)
  K = len(names)
  label_N = rng.integers(0, K, count).astype(np.int32)
  prediction_N = np.where(rng.random(count) < 0.25, (label_N + 1) % K, label_N).astype(np.int32)
  label_N[-1] = -1
  known_N = label_N >= 0
  confusion_KK = np.zeros((K, K), np.int64)
  np.add.at(confusion_KK, (label_N[known_N], prediction_N[known_N]), 1)
  sample_S = np.sort(rng.permutation(count)[:6])
  arrays = {
    'label_N': label_N,
    'prediction_N': prediction_N,
    'confidence_N': rng.uniform(0.3, 1, count).astype(np.float32),
    'index_N': np.arange(count, dtype=np.int32),
    'confusion_KK': confusion_KK,
    'class_names': np.array(names),
    'sample_S': sample_S,
    'images_SHWC': rng.integers(0, 256, (len(sample_S), 8, 8, 3), dtype=np.uint8),
  }
  if positions is not None:
    row_N, col_N = np.array(positions).T
    arrays |= {
      'row_N': row_N,
      'col_N': col_N,
      'raster_size': np.array(RASTER),
      'patch_size': np.array(PATCH),
      'extent': np.array([-180.0, 180.0, -90.0, 90.0]),
      'palette': np.array(json.dumps(PALETTE)),
    }
  return arrays


def rows(steps: int = 10) -> list[dict[str, float]]:
  """Rows of metrics.jsonl: training every step, two evals at steps 5 and 10."""
  out: list[dict[str, float]] = []
  for s in range(1, steps + 1):
    out.append(
      {
        'step': s,
        'train/loss': 3 / s,
        'train/top1': s / 20,
        'train/lr': 1e-3 / s,
        'train/grad_norm': 1.0,
        'train/images_per_second': 900 + s,
        'train/fraction_of_peak': 0.4,
        'train/seconds': 2.0 * s,
      }
    )
    if s % 5 == 0:
      out.append(
        {
          'step': s,
          **{
            f'{split}/{key}': value / s
            for split, value in (('val', 1.0), ('test', 2.0))
            for key in ('loss', 'top1', 'top5', 'ece')
          },
        }
      )
  return out
