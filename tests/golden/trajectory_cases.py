"""What the fixtures of training are made of: families of `golden_models.py`, and their recipes.

They start from the weights of timm_FAMILY.npz.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

STEPS, BATCH, CLASSES = 10, 8, 5


class Case(NamedTuple):
  """Keys of config.optim and config.loss."""

  optim: dict[str, Any]
  loss: dict[str, Any] = {}


ADAMW = dict(name='adamw', lr=5e-4, weight_decay=0.05, schedule='constant')
CASES = {
  'vit': Case(ADAMW | dict(clip_norm=1.0), dict(label_smoothing=0.1)),
  'deit_distilled': Case(ADAMW, dict(label_smoothing=0.1, distill=dict(kind='hard', alpha=0.5))),
  'deit3': Case(
    dict(name='lamb', lr=3e-3, weight_decay=0.02, eps=1e-8, clip_norm=1.0, schedule='constant'),
    dict(name='bce'),
  ),
  'cait': Case(ADAMW | dict(ema=0.99996), dict(label_smoothing=0.1)),
  'resnet': Case(
    dict(
      name='sgd',
      lr=1e-3,
      weight_decay=1e-4,
      decay='coupled',
      nesterov=True,
      schedule='constant',
    )
  ),
  'hybrid': Case(dict(name='sgd', lr=1e-3, weight_decay=0.0, clip_norm=1.0, schedule='constant')),
}


def batches(size: tuple[int, int]) -> Iterator[dict[str, np.ndarray]]:
  """image (B, H, W, 3), soft_label (B, K) of one or two classes, teacher (B, K), of each step."""
  rng = np.random.default_rng(0)
  for _ in range(STEPS):
    share = rng.choice([1.0, 0.7], (BATCH, 1))
    first, second = np.eye(CLASSES)[rng.integers(0, CLASSES, (2, BATCH))]
    yield {
      'image': rng.normal(size=(BATCH, *size, 3)).astype(np.float32),
      'soft_label': (share * first + (1 - share) * second).astype(np.float32),
      'teacher': rng.normal(size=(BATCH, CLASSES)).astype(np.float32),
    }
